//! Runs, stages, usage and artifacts as people read them.

use std::io;

use super::super::console::Console;
use super::super::table::Table;
use crate::api::{Artifact, Run, RunDetail, Usage, UsageCounts};

/// A list of runs.
pub(super) fn runs(runs: &[Run], console: &mut Console) -> io::Result<()> {
    let mut table = Table::new(&["ID", "STATUS", "TRIGGER", "CREATED", "FINISHED", "ERROR"]);
    for run in runs {
        table.row([
            run.id.as_str(),
            run.status.as_str(),
            &run.trigger,
            &run.created_at,
            run.finished_at.as_deref().unwrap_or_default(),
            run.error.as_ref().map(|error| error.code.as_str()).unwrap_or_default(),
        ]);
    }
    console.table(&table)
}

/// A run and its stages.
pub(super) fn detail(detail: &RunDetail, console: &mut Console) -> io::Result<()> {
    if console.json() {
        return console.result(detail);
    }
    let run = &detail.run;
    console.line(&format!("run {}: {}", run.id, run.status))?;
    if let Some(error) = &run.error {
        let stage = error
            .stage
            .as_ref()
            .map(|key| format!(" in stage {key}"))
            .unwrap_or_default();
        console.line(&format!("  {}{stage}: {}", error.code, error.message))?;
    }
    let mut table = Table::new(&["STAGE", "KIND", "STATUS", "ATTEMPT", "PROGRESS", "ERROR"]);
    for stage in &detail.stages {
        let progress = stage
            .progress
            .map(|progress| format!("{}/{}", progress.done, progress.total));
        let error = stage
            .error
            .as_ref()
            .map(|error| format!("{}: {}", error.code, error.message));
        table.row([
            stage.key.clone(),
            stage.kind.clone(),
            stage.status.to_string(),
            stage.attempt.to_string(),
            progress.unwrap_or_default(),
            error.unwrap_or_default(),
        ]);
        for area in &stage.substages {
            let error = area
                .error
                .as_ref()
                .map(|error| format!("{}: {}", error.code, error.message));
            table.row([
                format!("  {} {}", area.key, area.title),
                String::new(),
                area.status.to_string(),
                area.attempt.to_string(),
                String::new(),
                error.unwrap_or_default(),
            ]);
        }
    }
    console.table(&table)
}

/// What a run used, by stage, area and model.
pub(super) fn usage(usage: &Usage, console: &mut Console) -> io::Result<()> {
    if console.json() {
        return console.result(usage);
    }
    let mut table = Table::new(&["", "CALLS", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "USD"]);
    for entry in &usage.stages {
        table.row(counts(format!("stage {}", entry.stage), &entry.counts));
    }
    for entry in &usage.substages {
        table.row(counts(
            format!("area {}/{}", entry.stage, entry.substage),
            &entry.counts,
        ));
    }
    for entry in &usage.models {
        table.row(counts(format!("model {}", entry.model), &entry.counts));
    }
    table.row(counts("total".to_owned(), &usage.totals));
    console.table(&table)?;
    remarks(usage).map_or(Ok(()), |remarks| console.line(&remarks))
}

fn counts(name: String, counts: &UsageCounts) -> [String; 7] {
    [
        name,
        counts.calls.to_string(),
        counts.input_tokens.to_string(),
        counts.output_tokens.to_string(),
        counts.cache_read_tokens.to_string(),
        counts.cache_write_tokens.to_string(),
        counts.cost_usd.clone(),
    ]
}

/// What a run cost, in one line.
pub(super) fn cost(usage: &Usage) -> String {
    let totals = &usage.totals;
    let mut text = format!(
        "{} USD for {} calls, {} tokens",
        totals.cost_usd,
        totals.calls,
        totals.tokens()
    );
    if let Some(remarks) = remarks(usage) {
        text.push_str(&format!(" ({remarks})"));
    }
    text
}

fn remarks(usage: &Usage) -> Option<String> {
    let unpriced = (usage.unpriced_calls > 0).then(|| format!("{} calls without a price", usage.unpriced_calls));
    let estimated = usage.estimated.then(|| "some counts are estimates".to_owned());
    let remarks: Vec<String> = unpriced.into_iter().chain(estimated).collect();
    (!remarks.is_empty()).then(|| remarks.join(", "))
}

/// A list of artifacts.
pub(super) fn artifacts(artifacts: &[Artifact], console: &mut Console) -> io::Result<()> {
    let mut table = Table::new(&["ARTIFACT", "STAGE", "BYTES", "SHA-256", "REDACTED"]);
    for artifact in artifacts {
        let place = match &artifact.substage {
            Some(substage) => format!("{}/{substage}", artifact.stage),
            None => artifact.stage.clone(),
        };
        let redacted = if artifact.redacted { "yes" } else { "" };
        let digest: String = artifact.sha256.chars().take(12).collect();
        table.row([
            artifact.name.clone(),
            place,
            artifact.size.to_string(),
            digest,
            redacted.to_owned(),
        ]);
    }
    console.table(&table)
}
