//! Runs: what belongs to them beside the hot rows, and all reads.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::artifacts::{Artifact, ArtifactName};
use pond_core::clock::Timestamp;
use pond_core::event::{EventKind, EventNumber, NumberedEvent};
use pond_core::id::{ProjectId, RunId};
use pond_core::page::{Page, PageRequest};
use pond_core::runs::{Inputs, Run, RunCursor, RunFilter, RunHead, RunState, RunStatus, StateRow, StoredDefinition};
use pond_core::scope::Scope;
use pond_core::store::StoreError;
use pond_core::usage::{Pico, Tokens, UsageEntry, UsageTotals};
use uuid::Uuid;

use super::Sql;
use super::db::{Arg, Text, Tx, args, over_rows};
use super::item::{ChangeItem, CreateItem, JsonRow, json_rows, status_code, status_of, stored};
use super::row::Row;
use super::segment;
use crate::error::unavailable;
use crate::fact::RunReads;

/// Segments read at a time: a batch of events may be large, and a reader's limit is in events.
const SEGMENTS_AT_ONCE: i64 = 32;

/// Which of these runs are there.
pub(super) async fn known(tx: &mut Tx, runs: &[RunId]) -> Result<HashSet<RunId>, sqlx::Error> {
    if runs.is_empty() {
        return Ok(HashSet::new());
    }
    let text = Text {
        sqlite: "SELECT id FROM runs WHERE id IN (SELECT unhex(value) FROM json_each($1))",
        postgres: "SELECT id FROM runs WHERE id = ANY($1)",
    };
    let ids = runs.iter().map(|run| *run.as_bytes()).collect();
    let rows = tx.read(text, vec![Arg::Ids(ids)]).await?;
    let ids = rows.iter().map(|row| row.cells("runs").id(0, "id"));
    ids.collect::<Result<_, StoreError>>()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Writes what was submitted beside definitions.
pub(super) async fn insert_inputs(tx: &mut Tx, items: &[&CreateItem]) -> Result<(), sqlx::Error> {
    for item in items {
        if let Some(inputs) = &item.inputs {
            let text = "INSERT INTO run_inputs (run_id, body) VALUES ($1, $2)";
            tx.write(text, args![item.id.as_bytes(), inputs.as_str()]).await?;
        }
    }
    Ok(())
}

/// Records artifacts over those of the same stage, substage and name.
pub(super) async fn record_artifacts(tx: &mut Tx, done: &[&ChangeItem]) -> Result<(), sqlx::Error> {
    // Of two of the same name in one fact the later one counts; one statement must not meet a row twice.
    let mut rows = std::collections::BTreeMap::new();
    for item in done {
        for artifact in &item.artifacts {
            let key = (
                item.run,
                artifact.stage,
                artifact.substage.clone(),
                artifact.name.clone(),
            );
            rows.insert(key, artifact_row(item.run, artifact));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let text = over_rows!(
        "INSERT INTO artifacts (run_id, stage, substage, name, stage_key, size, sha256, redacted, created_at, blob)
         SELECT unhex(r.value ->> 0), CAST(r.value ->> 1 AS BIGINT), r.value ->> 2, r.value ->> 3, r.value ->> 4,
                CAST(r.value ->> 5 AS BIGINT), unhex(r.value ->> 6), CAST(r.value ->> 7 AS BIGINT),
                CAST(r.value ->> 8 AS BIGINT), r.value ->> 9",
        "WHERE 1 = 1
         ON CONFLICT (run_id, stage, substage, name) DO UPDATE
         SET stage_key = excluded.stage_key, size = excluded.size, sha256 = excluded.sha256,
             redacted = excluded.redacted, created_at = excluded.created_at, blob = excluded.blob"
    );
    tx.write(text, args![json_rows(rows.values().map(String::as_str))])
        .await
        .map(drop)
}

fn artifact_row(run: RunId, artifact: &Artifact) -> String {
    let mut row = JsonRow::new(256);
    row.hex(run.as_bytes());
    row.int(artifact.stage.into());
    row.text(artifact.substage.as_deref().unwrap_or(""));
    row.text(artifact.name.as_str());
    row.text(&artifact.stage_key);
    row.int(stored(artifact.size));
    row.hex(&artifact.sha256);
    row.int(artifact.redacted.into());
    row.int(artifact.created_at.micros());
    row.text(&artifact.blob);
    row.end()
}

/// Adds usage to the sums of its run, stage, substage and model.
pub(super) async fn add_usage(tx: &mut Tx, done: &[&ChangeItem]) -> Result<(), sqlx::Error> {
    let mut sums = std::collections::BTreeMap::<_, UsageTotals>::new();
    for item in done {
        for entry in &item.usage {
            let key = (
                item.run,
                &entry.stage,
                entry.substage.as_deref().unwrap_or(""),
                &entry.model,
            );
            *sums.entry(key).or_default() += entry.totals;
        }
    }
    if sums.is_empty() {
        return Ok(());
    }
    let row = |((run, stage, substage, model), totals): (&(RunId, &String, &str, &String), &UsageTotals)| {
        let mut row = JsonRow::new(256);
        row.hex(run.as_bytes());
        row.text(stage);
        row.text(substage);
        row.text(model);
        let tokens = totals.tokens;
        for count in [
            totals.calls,
            tokens.input,
            tokens.output,
            tokens.cache_read,
            tokens.cache_write,
        ] {
            row.int(stored(count));
        }
        row.int(totals.cost.0);
        row.int(stored(totals.unpriced_calls));
        row.int(stored(totals.estimated_calls));
        row.end()
    };
    let rows: Vec<String> = sums.iter().map(row).collect();
    let text = over_rows!(
        "INSERT INTO usage (run_id, stage, substage, model, calls, input, output, cache_read, cache_write, cost,
                            unpriced_calls, estimated_calls)
         SELECT unhex(r.value ->> 0), r.value ->> 1, r.value ->> 2, r.value ->> 3, CAST(r.value ->> 4 AS BIGINT),
                CAST(r.value ->> 5 AS BIGINT), CAST(r.value ->> 6 AS BIGINT), CAST(r.value ->> 7 AS BIGINT),
                CAST(r.value ->> 8 AS BIGINT), CAST(r.value ->> 9 AS BIGINT), CAST(r.value ->> 10 AS BIGINT),
                CAST(r.value ->> 11 AS BIGINT)",
        "WHERE 1 = 1
         ON CONFLICT (run_id, stage, substage, model) DO UPDATE
         SET calls = usage.calls + excluded.calls, input = usage.input + excluded.input,
             output = usage.output + excluded.output, cache_read = usage.cache_read + excluded.cache_read,
             cache_write = usage.cache_write + excluded.cache_write, cost = usage.cost + excluded.cost,
             unpriced_calls = usage.unpriced_calls + excluded.unpriced_calls,
             estimated_calls = usage.estimated_calls + excluded.estimated_calls"
    );
    tx.write(text, args![json_rows(rows.iter().map(String::as_str))])
        .await
        .map(drop)
}

/// The columns that [`head`] reads, and a definition or none for [`RunReads::run`].
macro_rules! select_heads {
    ($more:literal, $tail:literal) => {
        concat!(
            "SELECT r.id, r.project, r.trigger, r.definition, r.created_at, r.owner, r.revision, r.next_event,
                    r.log_bytes, r.status, r.started_at, r.finished_at, r.cancel_at, r.state, i.body",
            $more,
            $tail
        )
    };
}

fn head(row: &Row) -> Result<RunHead, StoreError> {
    let cells = row.cells("runs");
    let state = StateRow {
        status: status_of(cells.int(9, "status")?).ok_or_else(|| cells.corrupt("status"))?,
        started_at: cells.maybe_time(10, "started_at")?,
        finished_at: cells.maybe_time(11, "finished_at")?,
        cancel_requested_at: cells.maybe_time(12, "cancel_at")?,
        rest: cells.text(13, "state")?,
    };
    let inputs = match cells.maybe_text(14, "inputs")? {
        Some(body) => serde_json::from_str(&body).map_err(|_| cells.corrupt("inputs"))?,
        None => Inputs::default(),
    };
    Ok(RunHead {
        id: cells.id(0, "id")?,
        project: cells.id(1, "project")?,
        trigger: cells.text(2, "trigger")?.into(),
        created_at: cells.time(4, "created_at")?,
        definition_digest: cells.array(3, "definition")?,
        inputs: Arc::new(inputs),
        state: RunState::from_row(&state).map_err(|bad| cells.corrupt(bad.0))?,
        revision: cells.int(6, "revision")?,
        next_event: cells.int(7, "next_event")?,
        log_bytes: cells.count(8, "log_bytes")?,
        owner: cells.id(5, "owner")?,
    })
}

/// A scope as two parameters: a project, and whether every project will do.
fn scope_args(scope: Scope) -> (Arg, i64) {
    match scope {
        Scope::Org => (Arg::Blob(Vec::new()), 1),
        Scope::Project(project) => (Arg::from(project.as_bytes()), 0),
    }
}

/// Statuses as bits; all when none is named.
fn status_bits(statuses: &[RunStatus]) -> i64 {
    let all: &[RunStatus] = if statuses.is_empty() { &RunStatus::ALL } else { statuses };
    all.iter().fold(0, |bits, status| bits | 1 << status_code(*status))
}

#[async_trait]
impl RunReads for Sql {
    async fn run(&self, scope: Scope, id: RunId) -> Result<Option<Run>, StoreError> {
        let text = select_heads!(
            ", d.body",
            " FROM runs AS r LEFT JOIN run_inputs AS i ON i.run_id = r.id
              LEFT JOIN definitions AS d ON d.digest = r.definition
              WHERE r.id = $1"
        );
        let Some(row) = self
            .db
            .read_one(text, args![id.as_bytes()])
            .await
            .map_err(unavailable)?
        else {
            return Ok(None);
        };
        let head = head(&row)?;
        if !scope.admits(head.project) {
            return Ok(None);
        }
        let json = row.cells("runs").text(15, "definition")?.into();
        let digest = head.definition_digest;
        Ok(Some(Run {
            head,
            definition: StoredDefinition { digest, json },
        }))
    }

    async fn runs(
        &self,
        scope: Scope,
        filter: &RunFilter,
        page: PageRequest<RunCursor>,
    ) -> Result<Page<RunHead, RunCursor>, StoreError> {
        let (before, before_id) = page
            .after
            .unwrap_or((Timestamp::from_micros(i64::MAX), Uuid::max().into()));
        let trigger = filter.trigger.clone();
        let mut args = vec![
            before.micros().into(),
            before_id.as_bytes().into(),
            filter.since.map_or(i64::MIN, Timestamp::micros).into(),
            status_bits(&filter.statuses).into(),
            i64::from(trigger.is_none()).into(),
            trigger.unwrap_or_default().into(),
            Arg::Int(i64::from(page.limit) + 1),
        ];
        let text = match scope {
            Scope::Org => select_heads!(
                " FROM runs AS r LEFT JOIN run_inputs AS i ON i.run_id = r.id",
                " WHERE (r.created_at, r.id) < ($1, $2) AND r.created_at >= $3
                    AND $4 & (CAST(1 AS BIGINT) << CAST(r.status AS INTEGER)) <> 0
                    AND (CAST($5 AS BIGINT) = 1 OR r.trigger = $6)
                  ORDER BY r.created_at DESC, r.id DESC LIMIT $7"
            ),
            Scope::Project(project) => {
                args.push(project.as_bytes().into());
                select_heads!(
                    " FROM runs AS r LEFT JOIN run_inputs AS i ON i.run_id = r.id",
                    " WHERE r.project = $8 AND (r.created_at, r.id) < ($1, $2) AND r.created_at >= $3
                        AND $4 & (CAST(1 AS BIGINT) << CAST(r.status AS INTEGER)) <> 0
                        AND (CAST($5 AS BIGINT) = 1 OR r.trigger = $6)
                      ORDER BY r.created_at DESC, r.id DESC LIMIT $7"
                )
            }
        };
        let rows = self.db.read(text, args).await.map_err(unavailable)?;
        let heads = rows.iter().map(head).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(heads, page.limit, |head| (head.created_at, head.id)))
    }

    async fn events(
        &self,
        scope: Scope,
        run: RunId,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        let mut events = Vec::new();
        // One below the highest, as the place after it is asked for.
        let mut after = after.clamp(0, EventNumber::MAX - 1);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        while events.len() < wanted {
            let segments = self
                .segments(scope, run, after, SEGMENTS_AT_ONCE.min(limit.into()), None)
                .await?;
            let last = segments.len() < usize::try_from(SEGMENTS_AT_ONCE).unwrap_or(usize::MAX);
            for segment in segments {
                events.extend(segment.into_iter().filter(|event| event.id > after));
            }
            after = events.last().map_or(after, |event: &NumberedEvent| event.id);
            if last {
                break;
            }
        }
        events.truncate(wanted);
        Ok(events)
    }

    async fn events_of(
        &self,
        scope: Scope,
        run: RunId,
        kind: EventKind,
        after: EventNumber,
        limit: u32,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        let mut events = Vec::new();
        let mut after = after.clamp(0, EventNumber::MAX - 1);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        while events.len() < wanted {
            let heads = Some(segment::heads_with(kind));
            let segments = self.segments(scope, run, after, SEGMENTS_AT_ONCE, heads).await?;
            let last = segments.len() < usize::try_from(SEGMENTS_AT_ONCE).unwrap_or(usize::MAX);
            for segment in segments {
                let end = segment.last().map_or(after, |event| event.id);
                let of_kind = |event: &NumberedEvent| event.id > after && event.event.body.kind() == kind;
                events.extend(segment.into_iter().filter(of_kind));
                after = end;
            }
            if last {
                break;
            }
        }
        events.truncate(wanted);
        Ok(events)
    }

    async fn artifacts(&self, scope: Scope, run: RunId) -> Result<Vec<Artifact>, StoreError> {
        let (project, org) = scope_args(scope);
        let text = "SELECT a.run_id, a.stage, a.stage_key, a.substage, a.name, a.size, a.sha256, a.redacted,
                           a.created_at, a.blob
                    FROM artifacts AS a JOIN runs AS r ON r.id = a.run_id
                    WHERE a.run_id = $1 AND (r.project = $2 OR CAST($3 AS BIGINT) = 1)
                    ORDER BY a.stage, a.substage, a.name";
        let args = vec![run.as_bytes().into(), project, org.into()];
        let rows = self.db.read(text, args).await.map_err(unavailable)?;
        rows.iter().map(artifact).collect()
    }

    async fn usage(&self, scope: Scope, run: RunId) -> Result<Vec<UsageEntry>, StoreError> {
        let (project, org) = scope_args(scope);
        let text = "SELECT u.run_id, u.stage, u.substage, u.model, u.calls, u.input, u.output, u.cache_read,
                           u.cache_write, u.cost, u.unpriced_calls, u.estimated_calls
                    FROM usage AS u JOIN runs AS r ON r.id = u.run_id
                    WHERE u.run_id = $1 AND (r.project = $2 OR CAST($3 AS BIGINT) = 1)
                    ORDER BY u.stage, u.substage, u.model";
        let args = vec![run.as_bytes().into(), project, org.into()];
        let rows = self.db.read(text, args).await.map_err(unavailable)?;
        rows.iter().map(usage_entry).collect()
    }

    async fn live_run_count(&self, project: ProjectId, limit: u32) -> Result<u32, StoreError> {
        // The index of live runs is by engine first: few engines, so a step from one to the next finds them all.
        let text = "
            WITH RECURSIVE owners (owner) AS (
                SELECT * FROM (SELECT owner FROM runs WHERE finished_at IS NULL ORDER BY owner LIMIT 1) AS first
                UNION ALL
                SELECT (SELECT r.owner FROM runs AS r WHERE r.finished_at IS NULL AND r.owner > owners.owner
                        ORDER BY r.owner LIMIT 1)
                FROM owners WHERE owners.owner IS NOT NULL
            )
            SELECT COUNT(*) FROM (
                SELECT 1 FROM owners JOIN runs AS r ON r.owner = owners.owner
                WHERE r.project = $1 AND r.finished_at IS NULL LIMIT $2
            ) AS live";
        let row = self
            .db
            .read_one(text, args![project.as_bytes(), limit])
            .await
            .map_err(unavailable)?;
        row.map_or(Ok(0), |row| row.cells("runs").count(0, "count"))
    }
}

/// The statement that reads segments, with a condition more in either dialect.
macro_rules! segments {
    ($sqlite:literal, $postgres:literal) => {
        Text {
            sqlite: segments!(@ $sqlite),
            postgres: segments!(@ $postgres),
        }
    };
    (@ $condition:literal) => {
        concat!(
            "SELECT s.run_id, s.first_event, s.last_event, s.body
             FROM segments AS s
             WHERE s.run_id = $1 AND s.last_event > $2
               AND s.first_event >= (SELECT COALESCE(MAX(f.first_event), 0) FROM segments AS f
                                     WHERE f.run_id = $1 AND f.first_event <= $2 + 1)
               AND EXISTS (SELECT 1 FROM runs AS r
                           WHERE r.id = $1 AND (r.project = $3 OR CAST($4 AS BIGINT) = 1)) ",
            $condition,
            " ORDER BY s.first_event LIMIT $5"
        )
    };
}

impl Sql {
    /// The segments of a run from the one that holds the event after `after`, unpacked, at most `most`; those alone that begin
    /// with one of `heads`, if there are any.
    async fn segments(
        &self,
        scope: Scope,
        run: RunId,
        after: EventNumber,
        most: i64,
        heads: Option<Vec<u8>>,
    ) -> Result<Vec<Vec<NumberedEvent>>, StoreError> {
        let (project, org) = scope_args(scope);
        let args = vec![run.as_bytes().into(), after.into(), project, org.into(), most.into()];
        let rows = match heads {
            None => self.db.read(segments!("", ""), args).await,
            Some(heads) => {
                let text = segments!(
                    "AND instr($6, substr(s.body, 1, 1)) > 0",
                    "AND position(substring(s.body FROM 1 FOR 1) IN $6) > 0"
                );
                self.db.read(text, [args, vec![Arg::Blob(heads)]].concat()).await
            }
        };
        let rows = rows.map_err(unavailable)?;
        rows.iter().map(numbered).collect()
    }
}

fn numbered(row: &Row) -> Result<Vec<NumberedEvent>, StoreError> {
    let cells = row.cells("segments");
    let (first, last) = (cells.int(1, "first_event")?, cells.int(2, "last_event")?);
    let events = segment::unpack(&cells.bytes(3, "body")?).ok_or_else(|| cells.corrupt("body"))?;
    if last - first + 1 != stored(events.len() as u64) {
        return Err(cells.corrupt("last_event"));
    }
    Ok((first..)
        .zip(events)
        .map(|(id, event)| NumberedEvent { id, event })
        .collect())
}

/// Keys are never empty, so an empty one stands for none and may be part of a primary key.
fn maybe_key(key: String) -> Option<String> {
    (!key.is_empty()).then_some(key)
}

fn artifact(row: &Row) -> Result<Artifact, StoreError> {
    let cells = row.cells("artifacts");
    Ok(Artifact {
        stage: cells.count(1, "stage")?,
        stage_key: cells.text(2, "stage_key")?,
        substage: maybe_key(cells.text(3, "substage")?),
        name: ArtifactName::new(cells.text(4, "name")?).map_err(|_| cells.corrupt("name"))?,
        size: cells.count(5, "size")?,
        sha256: cells.array(6, "sha256")?,
        redacted: cells.int(7, "redacted")? != 0,
        created_at: cells.time(8, "created_at")?,
        blob: cells.text(9, "blob")?,
    })
}

fn usage_entry(row: &Row) -> Result<UsageEntry, StoreError> {
    let cells = row.cells("usage");
    let tokens = Tokens {
        input: cells.count(5, "input")?,
        output: cells.count(6, "output")?,
        cache_read: cells.count(7, "cache_read")?,
        cache_write: cells.count(8, "cache_write")?,
    };
    Ok(UsageEntry {
        stage: cells.text(1, "stage")?,
        substage: maybe_key(cells.text(2, "substage")?),
        model: cells.text(3, "model")?,
        totals: UsageTotals {
            calls: cells.count(4, "calls")?,
            tokens,
            cost: Pico(cells.int(9, "cost")?),
            unpriced_calls: cells.count(10, "unpriced_calls")?,
            estimated_calls: cells.count(11, "estimated_calls")?,
        },
    })
}
