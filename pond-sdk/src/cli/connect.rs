//! Where the server is, which token to call with, and which project is meant.

use std::io::Read;
use std::path::Path;

use futures::TryStreamExt;

use super::Connection;
use super::console::Console;
use super::exit::Fault;
use crate::config::Selection;
use crate::{Client, Secret};

const DEFAULT_URL: &str = "http://127.0.0.1:8001";
/// The longest token file.
const MAX_TOKEN: u64 = 16 << 10;

impl Connection {
    /// The client that the command line and the environment describe.
    pub(super) fn client(&self, console: &Console) -> Result<Client, Fault> {
        let url = self
            .url
            .clone()
            .or_else(|| console.env("POND_URL"))
            .unwrap_or_else(|| DEFAULT_URL.to_owned());
        let token = self.find_token(console)?.ok_or(Fault::NoToken)?;
        let client = Client::builder(url)
            .token(token)
            .user_agent(concat!("pond-cli/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(client)
    }

    fn find_token(&self, console: &Console) -> Result<Option<Secret>, Fault> {
        if let Some(token) = self.token.clone().filter(|token| !token.is_empty()) {
            return Ok(Some(token));
        }
        if let Some(token) = console.env("POND_TOKEN").or_else(|| console.env("POND_SERVICE_TOKEN")) {
            return Ok(Some(Secret::new(token.trim())));
        }
        for name in ["POND_TOKEN_FILE", "POND_SERVICE_TOKEN_FILE"] {
            if let Some(path) = console.env(name) {
                return secret_file(&console.io.cwd.join(path), MAX_TOKEN).map(Some);
            }
        }
        Ok(None)
    }

    /// The project's id, from the id itself or its slug.
    pub(super) async fn project_id(&self, client: &Client) -> Result<Option<String>, Fault> {
        let Some(project) = &self.project else { return Ok(None) };
        if uuid::Uuid::parse_str(project).is_ok() {
            return Ok(Some(project.clone()));
        }
        let mut projects = client.projects().list();
        while let Some(known) = projects.try_next().await? {
            if known.slug == *project {
                return Ok(Some(known.id));
            }
        }
        Err(Fault::NotFound(format!(
            "there is no project with the slug {project}; see `pond project list`"
        )))
    }

    /// Which admin entries are meant.
    pub(super) async fn selection(&self, client: &Client, all: bool) -> Result<Selection, Fault> {
        Ok(match self.project_id(client).await? {
            Some(_) if all => return Err(Fault::usage("give either --all or --project")),
            Some(id) => Selection::Project(id),
            None if all => Selection::All,
            None => Selection::Org,
        })
    }
}

/// Reads a secret from a file, without its last line end.
pub(super) fn secret_file(path: &Path, limit: u64) -> Result<Secret, Fault> {
    let shown = path.display();
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_string(&mut text));
    read.map_err(|error| Fault::Usage(format!("cannot read {shown}: {error}")))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.len() as u64 > limit {
        return Err(Fault::Usage(format!("{shown} is longer than {limit} bytes")));
    }
    if text.is_empty() {
        return Err(Fault::Usage(format!("{shown} is empty")));
    }
    Ok(Secret::new(text))
}
