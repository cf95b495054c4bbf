//! Where everything is kept, and under which key.

use std::path::PathBuf;

use pond_core::sealing::Keyring;
use pond_core::secret::{Secret, SecretBytes};
use pond_store::{S3Place, StoreUrl};
use url::Url;

use super::bucket;
use super::reader::Reader;
use crate::key_command::KeyCommand;

/// Where everything is kept.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The folder of keys, checkouts and, by default, database and blobs.
    pub state_dir: PathBuf,
    /// The database.
    pub url: StoreUrl,
    /// Artifacts and bundles.
    pub blobs: Blobs,
    /// The root key.
    pub root_key: RootKey,
}

/// Where blobs are.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// In memory, beside a database in memory.
    Memory,
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket.
    Bucket(S3Place),
}

impl Blobs {
    /// What is odd about the place.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Bucket(place) if bucket::is_plain(place) => {
                Some("AWS_ENDPOINT_URL is http: artifacts and bundles travel in clear".into())
            }
            Self::Memory | Self::Folder(_) | Self::Bucket(_) => None,
        }
    }
}

/// Where the root key comes from.
#[derive(Debug, Clone)]
pub enum RootKey {
    /// It was given.
    Given(SecretBytes),
    /// This command prints it.
    Command(KeyCommand),
    /// It is made once and kept in the state folder.
    Kept,
}

impl StoreSettings {
    /// Whether several servers may use the same store.
    pub fn is_shared(&self) -> bool {
        matches!(self.url, StoreUrl::Postgres(_))
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> StoreSettings {
    let state_dir = reader.path("POND_STATE_DIR").unwrap_or_else(|| ".pond-state".into());
    let url = url(reader).unwrap_or_else(|| StoreUrl::Sqlite(state_dir.join("pond.sqlite")));
    let shared = matches!(url, StoreUrl::Postgres(_));
    let root_key = root_key(reader, shared);
    let blobs = blobs(reader, &state_dir, &url);
    StoreSettings {
        state_dir,
        url,
        blobs,
        root_key,
    }
}

fn url(reader: &mut Reader<'_>) -> Option<StoreUrl> {
    let text = reader.secret("POND_DATABASE_URL")?;
    let url = StoreUrl::parse(text.expose()).ok();
    if url.is_none() {
        reader.bad("POND_DATABASE_URL", "expected memory:, sqlite://PATH or postgres://…");
    }
    url
}

fn root_key(reader: &mut Reader<'_>, shared: bool) -> RootKey {
    const FORMS: [&str; 5] = [
        "POND_MASTER_KEY",
        "POND_MASTER_KEY_FILE",
        "POND_SOURCE_KEY",
        "POND_SOURCE_KEY_FILE",
        "POND_MASTER_KEY_COMMAND",
    ];
    let set: Vec<&str> = FORMS.into_iter().filter(|form| reader.text(form).is_some()).collect();
    match set[..] {
        [] if shared => reader.bad(
            "POND_MASTER_KEY",
            "is required with postgres://, as several servers share it",
        ),
        [] => {}
        ["POND_MASTER_KEY_COMMAND"] => {
            let line = reader.text("POND_MASTER_KEY_COMMAND").unwrap_or_default();
            return RootKey::Command(KeyCommand::new(line, reader.text("PATH"), reader.text("HOME")));
        }
        [form] => {
            let name = form.trim_end_matches("_FILE");
            if let Some(text) = reader.secret(name) {
                return parsed(reader, name, &text);
            }
        }
        [first, ..] => reader.bad(first, format!("only one may be set of {}", set.join(", "))),
    }
    RootKey::Kept
}

fn parsed(reader: &mut Reader<'_>, name: &str, text: &Secret) -> RootKey {
    match Keyring::root_key(text) {
        Ok(key) => RootKey::Given(key),
        Err(_) => {
            reader.bad(name, "expected 32 bytes in base64");
            RootKey::Kept
        }
    }
}

/// Where blobs are. A bucket that does not read is told as bad, and what stands for it is never used.
fn blobs(reader: &mut Reader<'_>, state_dir: &std::path::Path, url: &StoreUrl) -> Blobs {
    let shared = reader.boolean("POND_BLOB_SHARED").unwrap_or(false);
    let folder = |text: &str| {
        Url::parse(text)
            .ok()
            .filter(|url| url.scheme() == "file")?
            .to_file_path()
            .ok()
    };
    let given = match reader.text("POND_BLOB_URL") {
        Some(text) if text.starts_with("s3://") => {
            return bucket::read(reader, text).map_or(Blobs::Memory, Blobs::Bucket);
        }
        Some(_) => reader.parsed("POND_BLOB_URL", folder, "file:///… or s3://bucket/prefix"),
        None => None,
    };
    if matches!(url, StoreUrl::Postgres(_)) && !(given.is_some() && shared) {
        reader.bad(
            "POND_BLOB_URL",
            "with postgres:// it must be a store that all servers share: s3://…, or a shared folder with POND_BLOB_SHARED=1",
        );
    }
    match (given, url) {
        (Some(folder), _) => Blobs::Folder(folder),
        (None, StoreUrl::Memory) => Blobs::Memory,
        (None, _) => Blobs::Folder(state_dir.join("blobs")),
    }
}
