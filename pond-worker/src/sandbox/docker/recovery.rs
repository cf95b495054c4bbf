//! Ends containers that an earlier life of this worker left.

use std::collections::HashMap;
use std::path::Path;

use bollard::query_parameters::ListContainersOptionsBuilder;
use pond_core::sandbox::SandboxError;

use super::container::{PREFIX, STATE_LABEL, remove};
use super::engine::{Engine, failed};
use crate::sandbox::host::Host;
use crate::sandbox::record::Shelf;

/// Ends them, with what is on disk about them, and says how many there were. Blocks.
pub(super) fn recover(host: &Host, engine: &Engine) -> Result<usize, SandboxError> {
    let shelf = host.shelf();
    let unread = |error| SandboxError::io("records of an earlier life cannot be read", error);
    let recorded = shelf.containers().map_err(unread)?;
    let removed = match remove_all(engine, shelf) {
        Ok(removed) => removed,
        // Without an engine there is no container either, as long as nothing of one still runs.
        Err(error) if recorded.iter().all(|contained| !contained.lives()) => {
            if engine.is_there() || !recorded.is_empty() {
                tracing::info!(%error, recorded = recorded.len(), "containers of an earlier life are not looked for");
            }
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    let mut ended = removed.len();
    for contained in recorded {
        ended += usize::from(!removed.iter().any(|name| name == contained.name()));
        let left = |error| SandboxError::io("a sandbox of an earlier life cannot be ended", error);
        contained.end().map_err(left)?;
    }
    Ok(ended)
}

/// Removes every container of this state folder whose worker no longer lives; says their names.
fn remove_all(engine: &Engine, shelf: &Shelf) -> Result<Vec<String>, SandboxError> {
    engine.wait_for(async |docker| {
        let ours = HashMap::from([("label", vec![format!("{STATE_LABEL}={}", shelf.mark())])]);
        let all = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
        let found = docker.list_containers(Some(all)).await;
        let found = found.map_err(failed("containers of an earlier life cannot be looked for"))?;
        let names = found.into_iter().filter_map(|found| found.names?.into_iter().next());
        let mut removed = Vec::new();
        for name in names.map(|name| name.trim_start_matches('/').to_owned()) {
            let id = name.strip_prefix(PREFIX).unwrap_or_default();
            if id.starts_with(shelf.mark()) && !shelf.owner_lives(Path::new(id)) {
                remove(&docker, &name).await?;
                removed.push(name);
            }
        }
        Ok(removed)
    })
}
