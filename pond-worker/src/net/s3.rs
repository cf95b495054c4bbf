//! Sources in object storage. Signing, listing and reading are `object_store`'s; every request of it goes through the dialer.

use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{BackoffConfig, GetResult, ObjectMeta, ObjectStoreExt, RetryConfig};
use pond_core::outbound::{OutboundUrl, Purpose};
use pond_core::sources::{Excess, FileMode, Limits, S3, S3Key, SourceError, TreeError, TreeWriter, digest};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::s3_http::{Dialled, Trouble};
use super::{Dialer, HttpClient, Protocols, client};

/// How long fetching one source may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// Objects whose answers are under way at once; their bytes wait in their connections.
const AT_ONCE: usize = 8;

/// Objects of one page of the list.
const PAGE: usize = 1000;

/// How often a request is tried again, and for how long in all.
const RETRIES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// Fetches sources of object storage.
pub(super) struct S3Fetcher {
    dialer: Dialer,
    client: HttpClient,
    limits: Limits,
}

/// An object to fetch, and its place in the tree.
struct Item {
    meta: ObjectMeta,
    path: String,
}

impl S3Fetcher {
    pub(super) fn new(dialer: Dialer, limits: Limits) -> Self {
        Self {
            client: client(dialer.clone(), Purpose::S3, Protocols::Http2OrHttp1),
            dialer,
            limits,
        }
    }

    /// Fetches all objects that start with the prefix; returns the SHA-256 of the tree's bundle, in hex.
    pub(super) async fn fetch(
        &self,
        s3: &S3,
        key: Option<&S3Key>,
        pin: Option<&str>,
        into: &Path,
    ) -> Result<String, SourceError> {
        let late = |_| SourceError::Failed(format!("fetching took longer than {} seconds", FETCH_TIMEOUT.as_secs()));
        timeout(FETCH_TIMEOUT, self.objects(s3, key, into))
            .await
            .map_err(late)??;
        let (tree, limits) = (into.to_owned(), self.limits);
        let found = tokio::task::spawn_blocking(move || digest(&tree, limits))
            .await
            .map_err(|_| SourceError::Failed("the objects cannot be read".into()))??;
        match pin {
            Some(wanted) if wanted != found => {
                remove(into);
                Err(SourceError::Failed(
                    "the objects are not those that were fetched before".into(),
                ))
            }
            _ => Ok(found),
        }
    }

    /// Whether the bucket answers and has an object with the prefix. One request.
    pub(super) async fn reachable(&self, s3: &S3, key: Option<&S3Key>) -> bool {
        let Ok((bucket, _)) = self.bucket(s3, key) else {
            return false;
        };
        let options = PaginatedListOptions {
            max_keys: Some(1),
            ..PaginatedListOptions::default()
        };
        let found = bucket.list_paginated(prefix(s3), options).await;
        found.is_ok_and(|page| !page.result.objects.is_empty())
    }

    async fn objects(&self, s3: &S3, key: Option<&S3Key>, into: &Path) -> Result<(), SourceError> {
        let (bucket, trouble) = self.bucket(s3, key)?;
        let items = self.list(&bucket, &trouble, s3).await?;
        let (send, receive) = mpsc::channel(1);
        let (folder, limits) = (into.to_owned(), self.limits);
        let written = tokio::task::spawn_blocking(move || write(receive, &folder, limits));
        let sent = self.send(&bucket, &trouble, items, send).await;
        let written = written
            .await
            .map_err(|_| SourceError::Failed("the source cannot be stored".into()))?;
        match (sent, written) {
            // The writer's reason comes first where it stopped by itself: the sender then only saw it leave.
            (_, Err(Written::Tree(error))) => Err(error.into()),
            (Err(error), _) => Err(error),
            (Ok(()), Err(Written::Cut)) => Err(SourceError::Failed("the objects cannot be fetched".into())),
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    fn bucket(&self, s3: &S3, key: Option<&S3Key>) -> Result<(AmazonS3, Trouble), SourceError> {
        let bad = |what: String| SourceError::Failed(format!("the bucket cannot be used: {what}"));
        // Settings may have changed since the source was accepted.
        let endpoint = OutboundUrl::parse(&s3.endpoint(), Purpose::S3, self.dialer.allow());
        let endpoint = endpoint.map_err(|error| bad(error.to_string()))?;
        let trouble = Trouble::default();
        let dialled = Dialled::new(self.client.clone(), self.dialer.clone(), trouble.clone());
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&s3.bucket)
            .with_region(s3.region())
            .with_endpoint(endpoint.as_str().trim_end_matches('/'))
            .with_virtual_hosted_style_request(false)
            // Whether http may be is the dialer's to say.
            .with_allow_http(true)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: PATIENCE,
            })
            .with_http_connector(dialled);
        let builder = match key {
            // Never the keys of this host: neither its environment nor a metadata service is asked.
            None => builder.with_skip_signature(true),
            Some(key) => {
                let builder = builder
                    .with_access_key_id(&key.access_key_id)
                    .with_secret_access_key(key.secret_access_key.expose());
                match &key.session_token {
                    Some(token) => builder.with_token(token.expose()),
                    None => builder,
                }
            }
        };
        let bucket = builder
            .build()
            .map_err(|_| bad("its settings do not fit together".into()))?;
        Ok((bucket, trouble))
    }

    /// What is to be fetched, within the limits as the list tells them.
    async fn list(&self, bucket: &AmazonS3, trouble: &Trouble, s3: &S3) -> Result<Vec<Item>, SourceError> {
        let (mut found, mut size, mut token) = (Vec::new(), 0u64, None);
        loop {
            let options = PaginatedListOptions {
                max_keys: Some(PAGE),
                page_token: token,
                ..PaginatedListOptions::default()
            };
            let page = bucket.list_paginated(prefix(s3), options).await;
            let page = page.map_err(|error| trouble.meaning(&error, "the bucket cannot be listed"))?;
            for meta in page.result.objects {
                size = size.saturating_add(meta.size);
                found.push(meta);
            }
            if size > self.limits.bytes {
                return Err(SourceError::TooLarge(Excess::Bytes(self.limits.bytes)));
            }
            if found.len() as u64 > self.limits.files {
                return Err(SourceError::TooLarge(Excess::Files(self.limits.files)));
            }
            token = page.page_token;
            if token.is_none() {
                break;
            }
        }
        let items = places(found, &s3.prefix);
        if items.is_empty() {
            return Err(SourceError::Failed(
                "the bucket has no object that starts with the prefix".into(),
            ));
        }
        Ok(items)
    }

    /// Reads the objects in order, several answers ahead, and hands them to the writer.
    async fn send(
        &self,
        bucket: &AmazonS3,
        trouble: &Trouble,
        items: Vec<Item>,
        send: mpsc::Sender<Object>,
    ) -> Result<(), SourceError> {
        let failed = |error: &object_store::Error| trouble.meaning(error, "an object cannot be fetched");
        let answers = stream::iter(items).map(async |item| {
            let got: object_store::Result<GetResult> = bucket.get(&item.meta.location).await;
            (item.path, got)
        });
        let mut answers = std::pin::pin!(answers.buffered(AT_ONCE));
        while let Some((path, got)) = answers.next().await {
            let got = got.map_err(|error| failed(&error))?;
            let (pieces, content) = mpsc::channel(4);
            let object = Object {
                path,
                size: got.meta.size,
                content,
            };
            if send.send(object).await.is_err() {
                return Ok(());
            }
            let mut bytes = got.into_stream();
            while let Some(piece) = bytes.try_next().await.map_err(|error| failed(&error))? {
                if pieces.send(piece).await.is_err() {
                    break;
                }
            }
        }
        // Only now: a writer that sees the end without it was cut off.
        drop(send.send(Object::end()).await);
        Ok(())
    }
}

/// An object on its way to the writer; the last one has no name.
struct Object {
    path: String,
    size: u64,
    content: mpsc::Receiver<Bytes>,
}

impl Object {
    fn end() -> Self {
        Self {
            path: String::new(),
            size: 0,
            content: mpsc::channel(1).1,
        }
    }
}

/// Why the writer stopped.
enum Written {
    /// The tree.
    Tree(TreeError),
    /// The sender left.
    Cut,
}

fn write(mut objects: mpsc::Receiver<Object>, into: &Path, limits: Limits) -> Result<(), Written> {
    let mut tree = TreeWriter::new(into, limits).map_err(Written::Tree)?;
    loop {
        let object = objects.blocking_recv().ok_or(Written::Cut)?;
        if object.path.is_empty() {
            return tree.finish().map(drop).map_err(Written::Tree);
        }
        let mut content = Content {
            pieces: object.content,
            current: Bytes::new(),
            left: object.size,
        };
        let file = tree.file(object.path.as_bytes(), FileMode::Plain, object.size, &mut content);
        file.map_err(|error| match error {
            TreeError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Written::Cut,
            error => Written::Tree(error),
        })?;
    }
}

struct Content {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    left: u64,
}

impl std::io::Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None if self.left == 0 => return Ok(0),
                None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let read = buf.len().min(self.current.len());
        self.current.copy_to_slice(&mut buf[..read]);
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

fn prefix(s3: &S3) -> Option<&str> {
    Some(s3.prefix.as_str()).filter(|prefix| !prefix.is_empty())
}

/// The place of each object in the tree: its name without the folder part of the prefix. Empty objects that only mark a folder
/// are left out.
fn places(mut found: Vec<ObjectMeta>, prefix: &str) -> Vec<Item> {
    let folder = prefix
        .rfind('/')
        .map_or("", |slash| &prefix[..=slash])
        .trim_start_matches('/');
    found.sort_by(|one, other| one.location.as_ref().cmp(other.location.as_ref()));
    let names: Vec<String> = found.iter().map(|meta| format!("{}/", meta.location)).collect();
    let is_folder = |at: usize| {
        // What lies below a name follows it, but for names between that only begin alike.
        names[at + 1..]
            .iter()
            .take_while(|other| other.starts_with(names[at].trim_end_matches('/')))
            .any(|other| other.starts_with(&names[at]))
    };
    let items = found.iter().enumerate().filter_map(|(at, meta)| {
        let path = meta.location.as_ref().strip_prefix(folder)?;
        let marks = meta.size == 0 && is_folder(at);
        (!path.is_empty() && !marks).then(|| Item {
            meta: meta.clone(),
            path: path.to_owned(),
        })
    });
    items.collect()
}

fn remove(into: &Path) {
    if let Err(error) = std::fs::remove_dir_all(into) {
        tracing::warn!(kind = %error.kind(), "a tree that is not wanted could not be removed");
    }
}
