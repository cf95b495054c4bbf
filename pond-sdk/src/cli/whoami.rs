//! `pond whoami` and `pond version`.

use serde_json::json;

use super::console::Console;
use super::exit::{Exit, Fault};
use super::{Connection, Program};

/// Shows who the token belongs to, and which server answers.
pub(super) async fn whoami(connection: &Connection, console: &mut Console) -> Result<Exit, Fault> {
    let client = connection.client(console)?;
    let whoami = client.whoami().await?;
    if console.json() {
        console.result(&whoami)?;
        return Ok(Exit::Ok);
    }
    let principal = &whoami.principal;
    console.line(&format!("caller   {}", principal.kind))?;
    if let (Some(name), Some(id)) = (&principal.name, &principal.key_id) {
        console.line(&format!("key      {name} ({id})"))?;
    }
    if let Some(project) = &principal.project_id {
        console.line(&format!("project  {project}"))?;
    }
    if let Some(scopes) = &principal.scopes {
        console.line(&format!("scopes   {}", scopes.join(", ")))?;
    }
    console.line(&format!(
        "server   {} ({}), version {}",
        client.origin(),
        whoami.label,
        whoami.version
    ))?;
    Ok(Exit::Ok)
}

/// Shows the version of this program.
pub(super) fn version(program: &Program, console: &mut Console) -> Result<Exit, Fault> {
    let name = program.command.get_name();
    if console.json() {
        console.result(&json!({ "name": name, "version": program.version }))?;
    } else {
        console.line(&format!("{name} {}", program.version))?;
    }
    Ok(Exit::Ok)
}
