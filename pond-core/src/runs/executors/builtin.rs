//! `builtin`: small analyses of the sources, done in the engine's process. Each writes `results.jsonl`, sorted by path.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{EngineWork, Executor, Replay, StageContext, Work};
use crate::artifacts::{ArtifactName, ByteStream};
use crate::body::Object;
use crate::runs::{Failure, FailureCode, StageOutcome};

/// Looks at one file and puts what it finds, in order.
type Look = fn(path: &str, size: u64, content: &mut dyn Read, found: &mut Vec<Value>) -> std::io::Result<()>;

const BUILTINS: [(&str, Look); 2] = [("file_inventory", inventory), ("todo_scan", todos)];
/// What each leaves.
const RESULTS: &str = "results.jsonl";
const TAGS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];
/// Of a longer line, the rest is not looked at.
const MAX_LINE: u64 = 64 << 10;

#[derive(Debug)]
struct Builtin {
    name: &'static str,
    look: Look,
}

pub(super) fn read(object: &mut Object<'_>) -> Option<Arc<dyn Executor>> {
    let name = object.required_text("name")?;
    let Some((name, look)) = BUILTINS.into_iter().find(|(known, _)| *known == name) else {
        object.fault("name", "expected one of file_inventory, todo_scan");
        return None;
    };
    Some(Arc::new(Builtin { name, look }))
}

impl Executor for Builtin {
    fn kind(&self) -> &'static str {
        "builtin"
    }

    fn work(&self) -> Work<'_> {
        Work::Engine(self)
    }

    fn leaves(&self, name: &ArtifactName) -> bool {
        name.as_str() == RESULTS
    }
}

#[async_trait]
impl EngineWork for Builtin {
    fn replay(&self) -> Replay {
        Replay::Safe
    }

    fn timeout(&self) -> Option<Duration> {
        None
    }

    async fn run(&self, stage: &StageContext) -> StageOutcome {
        match self.results(stage).await {
            Ok((records, bytes)) => {
                stage
                    .sink
                    .line(stage.clock.now(), format!("{}: {records} records", self.name));
                stage
                    .sink
                    .artifact(ArtifactName::new(RESULTS).expect("the name is one"), bytes);
                StageOutcome::Done
            }
            Err(failure) => StageOutcome::Failed(failure),
        }
    }
}

impl Builtin {
    async fn results(&self, stage: &StageContext) -> Result<(usize, Vec<u8>), Failure> {
        let Some(bundle) = &stage.bundle else {
            return Ok((0, Vec::new()));
        };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(
                FailureCode::SourceFailed,
                format!("the fetched sources could not be read: {error}"),
            )
        };
        let bytes = bundle.open().await.map_err(|error| failed(&error))?;
        let (look, cap) = (self.look, stage.artifact_cap);
        tokio::task::spawn_blocking(move || scan(bytes, look, cap))
            .await
            .map_err(|error| failed(&error))?
    }
}

/// Walks the bundle and gives the number of records and their lines. Found records are bounded by the artifact cap.
fn scan(bytes: ByteStream, look: Look, cap: u64) -> Result<(usize, Vec<u8>), Failure> {
    let unreadable = |error: std::io::Error| Failure::new(FailureCode::SourceFailed, error.to_string());
    let reader = SyncIoBridge::new(StreamReader::new(bytes.map_err(std::io::Error::other)));
    let mut archive = tar::Archive::new(reader);
    let mut files: Vec<(String, Vec<Value>)> = Vec::new();
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.to_string_lossy().into_owned();
        if !entry.header().entry_type().is_file() || path.split('/').any(|part| part == ".git") {
            continue;
        }
        let mut found = Vec::new();
        look(&path, entry.size(), &mut entry, &mut found).map_err(unreadable)?;
        files.push((path, found));
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (mut records, mut lines) = (0, Vec::new());
    for record in files.into_iter().flat_map(|(_, found)| found) {
        records += 1;
        lines.extend(record.to_string().into_bytes());
        lines.push(b'\n');
        if u64::try_from(lines.len()).unwrap_or(u64::MAX) > cap {
            return Err(Failure::new(
                FailureCode::ArtifactTooLarge,
                format!("results.jsonl is larger than {cap} bytes; raise POND_ARTIFACT_MAX_BYTES"),
            ));
        }
    }
    Ok((records, lines))
}

fn inventory(path: &str, size: u64, content: &mut dyn Read, found: &mut Vec<Value>) -> std::io::Result<()> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    found.push(json!({"path": path, "size": size, "sha256": hex::encode(hash.finalize())}));
    Ok(())
}

fn todos(path: &str, _size: u64, content: &mut dyn Read, found: &mut Vec<Value>) -> std::io::Result<()> {
    let mut reader = BufReader::new(content);
    let (mut line, mut number) = (Vec::new(), 0u64);
    loop {
        line.clear();
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        number += 1;
        let text = String::from_utf8_lossy(&line);
        if let Some(tag) = tag(&text) {
            found.push(json!({"path": path, "line": number, "tag": tag, "text": text.trim()}));
        }
        if line.last() != Some(&b'\n') {
            reader.skip_until(b'\n')?;
        }
    }
}

/// The first whole upper-case word of a line that is a tag.
fn tag(line: &str) -> Option<&'static str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .find_map(|word| TAGS.into_iter().find(|tag| *tag == word))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt;

    use super::*;

    fn bundle(files: &[(&str, &[u8])]) -> ByteStream {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, path, *content).unwrap();
        }
        let bytes = archive.into_inner().unwrap();
        let pieces: Vec<_> = bytes
            .chunks(700)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        futures::stream::iter(pieces).boxed()
    }

    async fn lines(look: Look, files: &[(&str, &[u8])]) -> String {
        let bytes = bundle(files);
        let (_, lines) = tokio::task::spawn_blocking(move || scan(bytes, look, 1 << 20))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8(lines).unwrap()
    }

    #[tokio::test]
    async fn c17_25_inventory_is_sorted_and_leaves_git_out() {
        let files: [(&str, &[u8]); 4] = [
            ("b.txt", b"b"),
            ("a/z", b""),
            ("a.txt", b"a"),
            ("sub/.git/config", b"x"),
        ];
        let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        let expected = format!(
            "{{\"path\":\"a.txt\",\"sha256\":\"{}\",\"size\":1}}\n{{\"path\":\"a/z\",\"sha256\":\"{}\",\"size\":0}}\n\
             {{\"path\":\"b.txt\",\"sha256\":\"{}\",\"size\":1}}\n",
            hash(b"a"),
            hash(b""),
            hash(b"b")
        );
        assert_eq!(lines(inventory, &files).await, expected);
    }

    #[tokio::test]
    async fn c17_25_tags_are_whole_upper_case_words() {
        let files: [(&str, &[u8]); 2] = [
            ("x.rs", b"// TODO: one\nTODOS todo MYTODO\n  // (FIXME) two\r\n"),
            ("y", b"HACK\xff\nno\nXXX_1 XXX"),
        ];
        let expected = concat!(
            "{\"line\":1,\"path\":\"x.rs\",\"tag\":\"TODO\",\"text\":\"// TODO: one\"}\n",
            "{\"line\":3,\"path\":\"x.rs\",\"tag\":\"FIXME\",\"text\":\"// (FIXME) two\"}\n",
            "{\"line\":1,\"path\":\"y\",\"tag\":\"HACK\",\"text\":\"HACK\u{fffd}\"}\n",
            "{\"line\":3,\"path\":\"y\",\"tag\":\"XXX\",\"text\":\"XXX_1 XXX\"}\n",
        );
        assert_eq!(lines(todos, &files).await, expected);
    }

    #[tokio::test]
    async fn results_over_the_cap_are_refused() {
        let bytes = bundle(&[("a", b"TODO")]);
        let failure = tokio::task::spawn_blocking(move || scan(bytes, todos, 10))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(failure.code, FailureCode::ArtifactTooLarge);
    }
}
