//! What a job leaves, without secrets, sent on as artifacts: its patch, the records that it said, and the files of its output
//! folder; and whether that is what it was asked for.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;

use futures::StreamExt;
use pond_core::Error;
use pond_core::artifacts::{ArtifactName, BlobError};
use pond_core::dispatch::Upload;
use pond_core::logs::Redactor;
use pond_core::runs::executors::Parse;
use pond_core::runs::{Failure, FailureCode};
use pond_core::sources::Limits;
use serde_json::json;
use tokio_util::io::ReaderStream;

use super::halt::blocking;
use super::output::{Clean, Output, look, without_secrets};
use super::parse::{Block, NotKept, Said, is_json, none_valid};
use super::patch::{self, CollectError};
use crate::prepare::WorkFolder;
use crate::work::{Claimed, Lines, Refused};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Bytes of a file whose JSON is looked at.
const MAX_JSON: u64 = 64 << 20;
/// What Pond itself leaves of a job that may write.
const PATCH: &str = "changes.patch";
const CHANGED: &str = "changed-files.json";

/// What is collected from where.
pub(crate) struct Collecting<'a> {
    pub(crate) claimed: &'a Claimed,
    pub(crate) lines: &'a Lines,
    pub(crate) redactor: &'a Redactor,
    pub(crate) folder: &'a WorkFolder,
    /// What the sources may hold.
    pub(crate) limits: Limits,
    /// What the sources were.
    pub(crate) base: Option<&'a str>,
    /// Whether the job's changes are kept.
    pub(crate) with_patch: bool,
    /// The records that it was asked for.
    pub(crate) parse: Option<&'a Parse>,
    /// The file that it was asked for.
    pub(crate) writes: Option<&'a ArtifactName>,
    /// Bytes that all artifacts together may have.
    pub(crate) cap: u64,
}

/// What became of the file that a job was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// It is there.
    Kept,
    /// It is not.
    Missing,
    /// It is there, and not what its name says.
    Invalid(&'static str),
}

/// Takes out all that a job left, and says what is wrong with it for a job that did well. What stands in the way of one part
/// does not stop the others.
pub(crate) async fn collect(collecting: &Collecting<'_>, said: Said) -> Result<Option<Failure>, Refused> {
    let mut left = collecting.cap;
    let changes = match collecting.with_patch {
        true => collecting.send_changes(&mut left).await,
        false => Ok(()),
    };
    if let Err(Refused::Gone) = changes {
        return Err(Refused::Gone);
    }
    let records = collecting.send_records(&said, &mut left).await;
    if let Err(Refused::Gone) = records {
        return Err(Refused::Gone);
    }
    let asked = collecting.send_output(said.last, said.redacted, &mut left).await;
    let wrong = changes.and(records)?;
    let asked = asked?;
    Ok(wrong.or_else(|| collecting.judge(&asked)))
}

impl Collecting<'_> {
    /// What a refusal means for the job.
    pub(crate) fn failure(&self, error: &Error) -> Failure {
        match error {
            Error::TooLarge(_) => Failure::new(
                FailureCode::ArtifactTooLarge,
                format!("the artifacts are larger than their {} bytes", self.cap),
            ),
            error => Failure::new(
                FailureCode::Internal,
                format!("what the job left could not be kept: {error}"),
            ),
        }
    }

    /// What it means for a job that did well that the file it was asked for is not as it should be.
    fn judge(&self, asked: &Asked) -> Option<Failure> {
        let name = self.writes?;
        match asked {
            Asked::Kept => None,
            Asked::Missing => Some(Failure::new(
                FailureCode::ArtifactMissing,
                format!(
                    "it left no file '{name}' in $POND_OUTPUT_DIR, and its output has no block fenced as `{}`",
                    self.parse.map_or("json", |parse| &parse.fence)
                ),
            )),
            Asked::Invalid(why) => Some(Failure::new(
                FailureCode::ArtifactInvalid,
                format!("its artifact '{name}' {why}"),
            )),
        }
    }

    /// The names that are Pond's to use.
    fn taken(&self) -> Vec<ArtifactName> {
        let own = if self.with_patch { &[PATCH, CHANGED][..] } else { &[] };
        let own = own.iter().filter_map(|name| ArtifactName::new(*name).ok());
        own.chain(self.parse.map(|parse| parse.output.clone())).collect()
    }

    /// Sends the records that it said; what is wrong when it was asked for some and said none.
    async fn send_records(&self, said: &Said, left: &mut u64) -> Result<Option<Failure>, Refused> {
        let (Some(parse), Some(parsed)) = (self.parse, &said.parsed) else {
            return Ok(None);
        };
        if let Some(failure) = none_valid(parse, parsed.count) {
            return Ok(Some(failure));
        }
        let (file, size) = match &parsed.records {
            Ok((file, size)) => (file.try_clone().map_err(|error| lost("the records", &error))?, *size),
            Err(NotKept::TooLarge) => return Err(Refused::Error(Error::TooLarge(self.cap))),
            Err(NotKept::Lost(kind)) => return Err(lost("the records", kind)),
        };
        let redacted = said.redacted;
        self.deliver(&parse.output, Clean { file, size, redacted }, left)
            .await?;
        Ok(None)
    }

    async fn send_changes(&self, left: &mut u64) -> Result<(), Refused> {
        let scratch = self.folder.scratch();
        let base = scratch.join("base");
        let unpacked = self.folder.unpack(base.clone(), self.limits).await;
        unpacked.map_err(|error| lost("the sources as they were", &error))?;
        let work = scratch.join("patch");
        fs::create_dir(&work).map_err(|error| lost("the patch", &error))?;
        let changes = patch::changes(&base, &self.folder.checkout(), &work).await;
        let changes = match changes {
            Err(CollectError::TooLarge(what)) => {
                self.lines.note(format!("the changes are not kept: {what}")).await;
                return Err(Refused::Error(Error::TooLarge(self.cap)));
            }
            changes => changes.map_err(|error| lost("the patch", &error))?,
        };
        for note in &changes.notes {
            self.lines.note(self.redactor.text(note)).await;
        }
        let list = json!({"base": self.base, "files": changes.files, "conflicts": []});
        let list_file = work.join(CHANGED);
        fs::write(&list_file, list.to_string()).map_err(|error| lost("the list of changed files", &error))?;
        for (name, path) in [(PATCH, changes.patch), (CHANGED, list_file)] {
            let name = ArtifactName::new(name).map_err(|error| lost("an artifact's name", &error))?;
            let file = File::open(&path).map_err(|error| lost("the patch", &error))?;
            self.send(&name, file, left).await?;
        }
        Ok(())
    }

    /// Sends the files of the output folder. `last` is what stands for the file that was asked for, should it not be there.
    async fn send_output(&self, last: Option<Block>, redacted: bool, left: &mut u64) -> Result<Asked, Refused> {
        let (folder, taken) = (self.folder.output(), self.taken());
        let mut asked = match self.writes {
            // What Pond makes itself is there by now, or its failure is told.
            Some(name) if taken.contains(name) => Asked::Kept,
            Some(_) => Asked::Missing,
            None => Asked::Kept,
        };
        let looked = blocking(move |_| look(&folder, &taken)).await;
        let Output { files, skipped } = looked.map_err(|error| lost("the output folder", &error))?;
        if let Some(line) = skipped.line() {
            self.lines.note(self.redactor.text(&line)).await;
        }
        let mut over = Ok(());
        for (name, file) in files {
            if self.writes == Some(&name) {
                asked = examine(&name, &file).await?;
            }
            match self.send(&name, file, left).await {
                // The smaller ones are kept all the same.
                Err(Refused::Error(error @ Error::TooLarge(_))) => over = Err(Refused::Error(error)),
                sent => sent?,
            }
        }
        if let (Asked::Missing, Some(name), Some(block)) = (&asked, self.writes, last) {
            asked = self.send_block(name, block, redacted, left).await?;
        }
        over.map(|()| asked)
    }

    /// Sends a block in place of the file that was asked for.
    async fn send_block(
        &self,
        name: &ArtifactName,
        block: Block,
        redacted: bool,
        left: &mut u64,
    ) -> Result<Asked, Refused> {
        if block.too_large {
            return Ok(Asked::Invalid(
                "is a block too large to be taken; write it to $POND_OUTPUT_DIR",
            ));
        }
        let asked = match is_named_json(name) && !is_json(&block.text) {
            true => Asked::Invalid("is no JSON: the last block of its output does not parse"),
            false => Asked::Kept,
        };
        let made = || {
            let mut file = tempfile::tempfile_in(self.folder.scratch())?;
            file.write_all(&block.text)?;
            Ok::<_, std::io::Error>(file)
        };
        let file = made().map_err(|error| lost("an artifact", &error))?;
        let size = block.text.len() as u64;
        self.deliver(name, Clean { file, size, redacted }, left).await?;
        Ok(asked)
    }

    /// Sends one file, without secrets.
    async fn send(&self, name: &ArtifactName, file: File, left: &mut u64) -> Result<(), Refused> {
        let (redactor, scratch, room) = (self.redactor.clone(), self.folder.scratch(), *left);
        let clean = blocking(move |halt| without_secrets(file, &redactor, &scratch, room, halt)).await;
        match clean.map_err(|error| lost("an artifact", &error))? {
            Some(clean) => self.deliver(name, clean, left).await,
            None => Err(Refused::Error(Error::TooLarge(self.cap))),
        }
    }

    async fn deliver(&self, name: &ArtifactName, clean: Clean, left: &mut u64) -> Result<(), Refused> {
        let Some(rest) = left.checked_sub(clean.size) else {
            return Err(Refused::Error(Error::TooLarge(self.cap)));
        };
        let upload = Upload {
            sha256: None,
            name: name.clone(),
            redacted: clean.redacted,
        };
        let sent = self.claimed.call(|link, claim| {
            let (upload, file, size) = (upload.clone(), clean.file.try_clone(), clean.size);
            async move {
                let mut file = file.map_err(|error| Error::Unavailable("the artifact's file", Some(error.into())))?;
                file.rewind()
                    .map_err(|error| Error::Unavailable("the artifact's file", Some(error.into())))?;
                let reader = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), size);
                let bytes = ReaderStream::with_capacity(reader, PIECE)
                    .map(|piece| piece.map_err(|error| BlobError::Unavailable(Box::new(error))));
                link.artifact(&claim, upload, bytes.boxed()).await
            }
        });
        sent.await?;
        *left = rest;
        Ok(())
    }
}

fn is_named_json(name: &ArtifactName) -> bool {
    Path::new(name.as_str()).extension().is_some_and(|end| end == "json")
}

/// Whether a file is what its name says.
async fn examine(name: &ArtifactName, file: &File) -> Result<Asked, Refused> {
    if !is_named_json(name) {
        return Ok(Asked::Kept);
    }
    let failed = |error: std::io::Error| lost("an artifact", &error);
    if file.metadata().map_err(failed)?.len() > MAX_JSON {
        return Ok(Asked::Invalid("is JSON of more than 64 MiB, which is not looked at"));
    }
    let mut file = file.try_clone().map_err(failed)?;
    let valid = blocking(move |_| {
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(MAX_JSON).read_to_end(&mut bytes)?;
        file.rewind()?;
        Ok(is_json(&bytes))
    });
    Ok(match valid.await.map_err(failed)? {
        true => Asked::Kept,
        false => Asked::Invalid("is no JSON"),
    })
}

fn lost(what: &str, error: &dyn std::fmt::Display) -> Refused {
    Refused::Error(Error::internal(format!("{what}: {error}")))
}
