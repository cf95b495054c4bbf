//! Facts made ready for writing: all that can be rendered beforehand, in the caller's task rather than the writer's.

use std::fmt::Write as _;
use std::sync::Arc;

use pond_core::artifacts::Artifact;
use pond_core::clock::Timestamp;
use pond_core::id::{EngineId, ProjectId, RunId};
use pond_core::pool::{ClaimRequest, JobChange, Renewal};
use pond_core::runs::{Append, Commit, Guard, NewRun, RunState, RunStatus, StateRow, StoredDefinition};
use pond_core::usage::UsageEntry;
use uuid::Uuid;

use super::segment;
use crate::fact::Fact;

/// Which database's parameters to render.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// A fact, ready.
#[derive(Debug)]
pub(crate) enum Item {
    Create(Box<CreateItem>),
    Change(Box<ChangeItem>),
    Claim(ClaimRequest),
    Renew(Renewal),
}

/// A segment's body as its parameter holds it: hex within JSON, or bytes.
#[derive(Debug)]
pub(crate) enum Body {
    Hex(String),
    Bytes(Vec<u8>),
}

/// A row's values: rendered as a JSON array, or as they are.
#[derive(Debug)]
pub(crate) enum Ready<R> {
    Json(String),
    Row(R),
}

/// A run to create.
#[derive(Debug)]
pub(crate) struct CreateItem {
    pub(crate) id: RunId,
    pub(crate) definition: StoredDefinition,
    /// JSON; none when there are none.
    pub(crate) inputs: Option<String>,
    pub(crate) row: Ready<RunRow>,
    pub(crate) events: i64,
    pub(crate) segment: Option<Body>,
}

/// The row of a new run.
#[derive(Debug)]
pub(crate) struct RunRow {
    pub(crate) id: RunId,
    pub(crate) project: ProjectId,
    pub(crate) trigger: Arc<str>,
    pub(crate) definition: [u8; 32],
    pub(crate) created_at: i64,
    pub(crate) owner: EngineId,
    pub(crate) next_event: i64,
    pub(crate) log_bytes: i64,
    pub(crate) state: StateRow,
}

/// A change of a run: of its state, or of its events alone.
#[derive(Debug)]
pub(crate) struct ChangeItem {
    pub(crate) run: RunId,
    /// None for an append.
    pub(crate) update: Option<Ready<UpdateRow>>,
    pub(crate) events: i64,
    pub(crate) log_bytes: i64,
    pub(crate) segment: Option<Body>,
    pub(crate) guard: Option<Guard>,
    pub(crate) piece: Option<(String, u64)>,
    pub(crate) ids: Vec<Uuid>,
    pub(crate) jobs: Vec<JobChange>,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) usage: Vec<UsageEntry>,
}

/// A new state of a run.
#[derive(Debug)]
pub(crate) struct UpdateRow {
    pub(crate) id: RunId,
    pub(crate) expected_revision: i64,
    pub(crate) owner: EngineId,
    pub(crate) events: i64,
    pub(crate) log_bytes: i64,
    pub(crate) state: StateRow,
}

/// A status as stored.
pub(crate) fn status_code(status: RunStatus) -> i64 {
    match status {
        RunStatus::Queued => 0,
        RunStatus::Running => 1,
        RunStatus::Done => 2,
        RunStatus::Failed => 3,
        RunStatus::Cancelled => 4,
    }
}

/// A stored status.
pub(crate) fn status_of(code: i64) -> Option<RunStatus> {
    RunStatus::ALL.into_iter().find(|status| status_code(*status) == code)
}

/// A size or count as stored; beyond 2⁶³ it saturates.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Dialect {
    /// Makes a fact ready.
    pub(crate) fn prepare(self, fact: Fact) -> Item {
        match fact {
            Fact::Create(new) => Item::Create(Box::new(self.create(new))),
            Fact::Commit(commit) => Item::Change(Box::new(self.commit(commit))),
            Fact::Append(append) => Item::Change(Box::new(self.append(append))),
            Fact::Claim(request) => Item::Claim(request),
            Fact::Renew(renewal) => Item::Renew(renewal),
        }
    }

    fn create(self, new: NewRun) -> CreateItem {
        let events = stored(new.events.len() as u64);
        let inputs =
            (!new.inputs.is_empty()).then(|| serde_json::to_string(&*new.inputs).expect("inputs are plain fields"));
        let row = RunRow {
            id: new.id,
            project: new.project,
            trigger: new.trigger,
            definition: new.definition.digest,
            created_at: new.created_at.micros(),
            owner: new.owner,
            next_event: events + 1,
            log_bytes: stored(new.log_bytes),
            state: new.state.to_row(),
        };
        CreateItem {
            id: new.id,
            definition: new.definition,
            inputs,
            row: self.ready(row, RunRow::json),
            events,
            segment: self.body(segment::pack(&new.events)),
        }
    }

    fn commit(self, commit: Commit) -> ChangeItem {
        let (events, log_bytes) = (stored(commit.events.len() as u64), stored(commit.log_bytes));
        let row = UpdateRow {
            id: commit.run,
            expected_revision: commit.expected_revision,
            owner: commit.owner,
            events,
            log_bytes,
            state: RunState::to_row(&commit.state),
        };
        ChangeItem {
            run: commit.run,
            update: Some(self.ready(row, UpdateRow::json)),
            events,
            log_bytes,
            segment: self.body(segment::pack(&commit.events)),
            guard: commit.guard,
            piece: None,
            ids: Vec::new(),
            jobs: commit.jobs,
            artifacts: commit.artifacts,
            usage: commit.usage,
        }
    }

    fn append(self, append: Append) -> ChangeItem {
        ChangeItem {
            run: append.run,
            update: None,
            events: stored(append.events.len() as u64),
            log_bytes: stored(append.log_bytes),
            segment: self.body(segment::pack(&append.events)),
            guard: append.guard,
            piece: append.piece,
            ids: append.ids,
            jobs: Vec::new(),
            artifacts: append.artifacts,
            usage: append.usage,
        }
    }

    fn ready<R>(self, row: R, json: impl Fn(&R) -> String) -> Ready<R> {
        match self {
            Self::Sqlite => Ready::Json(json(&row)),
            Self::Postgres => Ready::Row(row),
        }
    }

    fn body(self, bytes: Option<Vec<u8>>) -> Option<Body> {
        bytes.map(|bytes| match self {
            Self::Sqlite => Body::Hex(hex_text(&bytes)),
            Self::Postgres => Body::Bytes(bytes),
        })
    }
}

impl Item {
    /// Roughly its bytes.
    pub(crate) fn weight(&self) -> usize {
        /// Of the narrow row and its index entries.
        const ROW: usize = 512;
        let body = |body: &Option<Body>| match body {
            Some(Body::Hex(hex)) => hex.len(),
            Some(Body::Bytes(bytes)) => bytes.len(),
            None => 0,
        };
        match self {
            Self::Create(create) => {
                let inputs = create.inputs.as_ref().map_or(0, String::len);
                ROW + body(&create.segment) + inputs + create.definition.json.len()
            }
            Self::Change(change) => {
                let parts = change.jobs.len() + change.artifacts.len() + change.usage.len() + change.ids.len();
                ROW + body(&change.segment) + ROW * parts
            }
            Self::Claim(_) | Self::Renew(_) => ROW,
        }
    }
}

impl RunRow {
    fn json(&self) -> String {
        let mut array = JsonRow::new(512 + self.state.rest.len());
        array.hex(self.id.as_bytes());
        array.hex(self.project.as_bytes());
        array.text(&self.trigger);
        array.hex(&self.definition);
        array.int(self.created_at);
        array.hex(self.owner.as_bytes());
        array.int(self.next_event);
        array.int(self.log_bytes);
        array.state(&self.state);
        array.end()
    }
}

impl UpdateRow {
    fn json(&self) -> String {
        let mut array = JsonRow::new(256 + self.state.rest.len());
        array.hex(self.id.as_bytes());
        array.int(self.expected_revision);
        array.hex(self.owner.as_bytes());
        array.int(self.events);
        array.int(self.log_bytes);
        array.state(&self.state);
        array.end()
    }
}

/// Appends hex digits: a pair per byte from a table, as segments are most of what is written.
fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let pair = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    let pairs: Vec<u8> = bytes.iter().flat_map(pair).collect();
    text.push_str(str::from_utf8(&pairs).expect("hex digits are ASCII"));
}

fn hex_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

/// A JSON array of the values of one row.
pub(crate) struct JsonRow(String);

impl JsonRow {
    pub(crate) fn new(capacity: usize) -> Self {
        let mut json = String::with_capacity(capacity);
        json.push('[');
        Self(json)
    }

    fn comma(&mut self) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
    }

    pub(crate) fn hex(&mut self, bytes: &[u8]) {
        self.comma();
        self.0.push('"');
        push_hex(&mut self.0, bytes);
        self.0.push('"');
    }

    /// Text that is hex already.
    pub(crate) fn raw_hex(&mut self, hex: &str) {
        self.comma();
        self.0.push('"');
        self.0.push_str(hex);
        self.0.push('"');
    }

    pub(crate) fn int(&mut self, value: i64) {
        self.comma();
        write!(self.0, "{value}").expect("a string takes all text");
    }

    pub(crate) fn maybe_int(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.int(value),
            None => {
                self.comma();
                self.0.push_str("null");
            }
        }
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.comma();
        self.0.push_str(&serde_json::to_string(text).expect("text serialises"));
    }

    fn state(&mut self, state: &StateRow) {
        self.int(status_code(state.status));
        for time in [state.started_at, state.finished_at, state.cancel_requested_at] {
            self.maybe_int(time.map(Timestamp::micros));
        }
        self.text(&state.rest);
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push(']');
        self.0
    }
}

/// A JSON array of rows that are JSON already.
pub(crate) fn json_rows<'a>(rows: impl IntoIterator<Item = &'a str>) -> String {
    let mut json = String::from("[");
    for row in rows {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(row);
    }
    json.push(']');
    json
}
