//! What a job says in fenced blocks: records for an artifact, and the last block, for a job that should have left a file.
//!
//! The job's standard output is read while it comes. Known secrets are cut out first, without their names. Records go to a
//! file at once, so that only one block is ever in memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use pond_core::dispatch::Job;
use pond_core::logs::{Marks, Redacting, Redactor};
use pond_core::runs::executors::{Parse, Shape};
use pond_core::runs::{Failure, FailureCode, ParseCount};
use serde::de::IgnoredAny;

use super::fences::{Fences, MAX_LINE, Piece};

/// The label of the block that stands for a missing file, where no other is asked for.
const JSON: &str = "json";
/// Bytes of a block; a longer one is one invalid record, unless its lines are the records.
const MAX_BLOCK: usize = MAX_LINE;

/// Whether bytes are one JSON value and nothing else.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Listens to a job's standard output.
#[derive(Clone)]
pub(crate) struct Listener(Arc<Mutex<Ear>>);

struct Ear {
    redacting: Redacting,
    /// What is heard, without secrets, until it is looked at.
    clean: Vec<u8>,
    fences: Fences,
    found: Found,
}

/// What has been found so far.
struct Found {
    records: Option<Records>,
    /// Whether blocks are kept whole.
    whole: bool,
    block: Option<Block>,
    last: Option<Block>,
}

/// One block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) text: Vec<u8>,
    /// More than a block may have; its text is cut.
    pub(super) too_large: bool,
}

/// The valid records, in a file without a name.
struct Records {
    shape: Shape,
    count: ParseCount,
    file: BufWriter<File>,
    kept: Result<u64, NotKept>,
    cap: u64,
}

/// Why records are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotKept {
    /// They are more bytes than artifacts may have.
    TooLarge,
    /// The disk failed.
    Lost(io::ErrorKind),
}

/// All that a job said that counts.
#[derive(Default)]
pub(crate) struct Said {
    pub(super) parsed: Option<Parsed>,
    pub(super) last: Option<Block>,
    /// Whether a secret was cut out of anything that it said.
    pub(super) redacted: bool,
}

/// The records of a job.
pub(super) struct Parsed {
    pub(super) count: ParseCount,
    /// The file with the valid ones, and its size.
    pub(super) records: Result<(File, u64), NotKept>,
}

impl Said {
    /// How much was found, of a job that is asked for records.
    pub(crate) fn count(&self) -> Option<ParseCount> {
        self.parsed.as_ref().map(|parsed| parsed.count)
    }
}

impl Listener {
    /// Listens for what a job is asked for; nothing for one that is asked for no more than its end. `scratch` is a folder of
    /// the worker's own.
    pub(crate) fn of(job: &Job, redactor: &Redactor, scratch: &Path) -> io::Result<Option<Self>> {
        if job.parse.is_none() && job.writes_artifact.is_none() {
            return Ok(None);
        }
        let parse = job.parse.as_ref();
        let records = parse
            .map(|parse| Records::new(parse, scratch, job.artifact_cap))
            .transpose()?;
        let whole = job.writes_artifact.is_some() || parse.is_some_and(|parse| parse.shape != Shape::Jsonl);
        let ear = Ear {
            redacting: redactor.stream(Marks::Nameless),
            clean: Vec::new(),
            fences: Fences::new(parse.map_or(JSON, |parse| &parse.fence)),
            found: Found {
                records,
                whole,
                block: None,
                last: None,
            },
        };
        Ok(Some(Self(Arc::new(Mutex::new(ear)))))
    }

    /// Hears the next bytes.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut ear = self.lock();
        let Ear { redacting, clean, .. } = &mut *ear;
        redacting.push(bytes, clean);
        ear.look();
    }

    /// The output has ended.
    pub(crate) fn finish(&self) -> Said {
        let mut ear = self.lock();
        let Ear { redacting, clean, .. } = &mut *ear;
        redacting.finish(clean);
        ear.look();
        let Ear { fences, found, .. } = &mut *ear;
        fences.finish(&mut |piece| found.take(piece));
        Said {
            parsed: found.records.take().map(Records::finish),
            last: found.last.take(),
            redacted: ear.redacting.touched(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ear> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Ear {
    fn look(&mut self) {
        let found = &mut self.found;
        self.fences.push(&self.clean, &mut |piece| found.take(piece));
        self.clean.clear();
    }
}

impl Found {
    fn take(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Opened => self.block = Some(Block::default()),
            Piece::Line(line) => {
                if let Some(records) = self.records.as_mut().filter(|records| records.shape == Shape::Jsonl) {
                    records.line(line);
                }
                if let Some(block) = self.block.as_mut().filter(|_| self.whole) {
                    block.add(line);
                }
            }
            Piece::Closed => {
                let block = self.block.take().unwrap_or_default();
                if let Some(records) = &mut self.records {
                    records.block(&block);
                }
                self.last = self.whole.then_some(block);
            }
        }
    }
}

impl Block {
    fn add(&mut self, line: &[u8]) {
        if self.text.len() + line.len() < MAX_BLOCK {
            self.text.extend_from_slice(line);
            self.text.push(b'\n');
        } else {
            self.too_large = true;
        }
    }
}

impl Records {
    fn new(parse: &Parse, scratch: &Path, cap: u64) -> io::Result<Self> {
        Ok(Self {
            shape: parse.shape,
            count: ParseCount::default(),
            file: BufWriter::new(tempfile::tempfile_in(scratch)?),
            kept: Ok(0),
            cap,
        })
    }

    /// A line of a block whose lines are the records.
    fn line(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if !line.is_empty() {
            self.record(line, line.len() < MAX_LINE && is_json(line));
        }
    }

    /// A block that is whole.
    fn block(&mut self, block: &Block) {
        self.count.blocks += 1;
        let blank = block.text.trim_ascii().is_empty();
        match self.shape {
            Shape::Jsonl => {}
            Shape::Json => self.record(block.text.trim_ascii_end(), !block.too_large && is_json(&block.text)),
            Shape::Text => self.record(block.text.trim_ascii_end(), !block.too_large && !blank),
        }
    }

    fn record(&mut self, text: &[u8], valid: bool) {
        if !valid {
            self.count.invalid += 1;
            return;
        }
        self.count.records += 1;
        let Ok(kept) = self.kept else { return };
        let size = kept + text.len() as u64 + 1;
        self.kept = match size > self.cap {
            true => Err(NotKept::TooLarge),
            false => {
                let written = self.file.write_all(text).and_then(|()| self.file.write_all(b"\n"));
                written.map(|()| size).map_err(|error| NotKept::Lost(error.kind()))
            }
        };
    }

    fn finish(self) -> Parsed {
        let lost = |error: io::Error| NotKept::Lost(error.kind());
        let file = self.file.into_inner().map_err(|error| lost(error.into_error()));
        Parsed {
            count: self.count,
            records: self.kept.and_then(|size| Ok((file?, size))),
        }
    }
}

/// What it means for a job that did well that it said no valid record.
pub(super) fn none_valid(parse: &Parse, count: ParseCount) -> Option<Failure> {
    (count.records == 0).then(|| {
        let found = match count.blocks {
            0 => "no block with that label".to_owned(),
            blocks => format!("{} invalid in {blocks} blocks", count.invalid),
        };
        Failure::new(
            FailureCode::ParseFailed,
            format!(
                "its output holds no valid record fenced as `{}` ({}): {found}; tell the agent in the prompt what to print",
                parse.fence,
                Shape::ALL.iter().find(|(_, shape)| *shape == parse.shape).map_or("", |(name, _)| name),
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use pond_core::artifacts::ArtifactName;
    use pond_core::secret::Secret;

    use super::*;

    fn said(shape: Shape, text: &str, cap: u64) -> Said {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = Secret::new("a-long-enough-secret");
        let redactor = Redactor::new([("KEY", &secret)]);
        let parse = Parse {
            fence: "x".into(),
            output: ArtifactName::new("out").expect("a name"),
            shape,
        };
        let listener = Listener(Arc::new(Mutex::new(Ear {
            redacting: redactor.stream(Marks::Nameless),
            clean: Vec::new(),
            fences: Fences::new("x"),
            found: Found {
                records: Some(Records::new(&parse, folder.path(), cap).expect("a file")),
                whole: true,
                block: None,
                last: None,
            },
        })));
        for part in text.as_bytes().chunks(3) {
            listener.push(part);
        }
        listener.finish()
    }

    fn parsed(shape: Shape, text: &str) -> ((u64, u64, u64), String) {
        let parsed = said(shape, text, 1 << 20).parsed.expect("asked for");
        let (mut file, size) = parsed.records.expect("kept");
        let mut kept = String::new();
        file.rewind().expect("rewound");
        file.read_to_string(&mut kept).expect("text");
        assert_eq!(kept.len() as u64, size);
        let ParseCount {
            blocks,
            records,
            invalid,
        } = parsed.count;
        ((blocks, records, invalid), kept)
    }

    #[test]
    fn c17_29_good_records_are_kept_in_order_and_bad_ones_counted() {
        let text =
            "chat\n```x\n{\"n\": 1}\nnot json\n\n  [2]  \n{\"n\": 3} 4\n```\n```y\n9\n```\n~~~x\n\"last\"\n{\"cut\":";
        assert_eq!(
            parsed(Shape::Jsonl, text),
            ((2, 3, 3), "{\"n\": 1}\n[2]\n\"last\"\n".into())
        );
        let text = "```x\n{\n \"n\": 1\n}\n```\n```x\n{\n```\n```x\n\n```\n```x\n[2]\n```";
        assert_eq!(parsed(Shape::Json, text), ((4, 2, 2), "{\n \"n\": 1\n}\n[2]\n".into()));
        let text = "```x\na\n\nb\n\n```\n```x\n \n```\n```x\nc\n```";
        assert_eq!(parsed(Shape::Text, text), ((3, 2, 1), "a\n\nb\nc\n".into()));
        assert_eq!(parsed(Shape::Text, "nothing").0, (0, 0, 0));
    }

    #[test]
    fn no_secret_is_in_a_record_and_more_than_the_cap_is_not_kept() {
        let text = "```x\n{\"key\": \"a-long-enough-secret\"}\n```";
        assert_eq!(parsed(Shape::Jsonl, text).1, "{\"key\": \"[redacted]\"}\n");
        assert!(said(Shape::Jsonl, text, 1000).redacted);
        let over = said(Shape::Jsonl, "```x\n1\n22\n333\n```", 6);
        let parsed = over.parsed.expect("asked for");
        assert_eq!(parsed.records.expect_err("too large"), NotKept::TooLarge);
        assert_eq!((parsed.count.records, over.redacted), (3, false));
        let last = over.last.expect("a block");
        assert_eq!((last.text.as_slice(), last.too_large), (&b"1\n22\n333\n"[..], false));
    }

    #[test]
    fn a_block_too_large_is_one_invalid_record() {
        let line = "x".repeat(1 << 20);
        let text: String = std::iter::once("```x\n".to_owned())
            .chain((0..17).map(|_| format!("{line}\n")))
            .chain(["```\n```x\nok\n```".to_owned()])
            .collect();
        let folder = tempfile::tempdir().expect("a folder");
        let parse = Parse {
            fence: "x".into(),
            output: ArtifactName::new("out").expect("a name"),
            shape: Shape::Text,
        };
        let mut found = Found {
            records: Some(Records::new(&parse, folder.path(), 1 << 30).expect("a file")),
            whole: true,
            block: None,
            last: None,
        };
        let mut fences = Fences::new("x");
        fences.push(text.as_bytes(), &mut |piece| found.take(piece));
        fences.finish(&mut |piece| found.take(piece));
        let count = found.records.expect("asked for").count;
        assert_eq!((count.blocks, count.records, count.invalid), (2, 1, 1));
        assert!(none_valid(&parse, count).is_none());
        let failure = none_valid(&parse, ParseCount::default()).expect("a failure");
        assert_eq!(failure.code, FailureCode::ParseFailed);
    }

    #[test]
    fn json_is_one_value_of_text() {
        for good in ["1", " {\"a\": [1, \"ä\"]}\n", "null"] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in [&b""[..], b"{", b"1 2", b"\"\xff\"", b"nul"] {
            assert!(!is_json(bad), "{bad:?}");
        }
    }
}
