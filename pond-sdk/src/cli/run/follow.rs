//! Follows a run's log live. Ctrl-C at a terminal asks whether to cancel the run; without a terminal nobody can answer, so
//! it cancels. A second Ctrl-C leaves the run as it is.

use futures::StreamExt;
use tokio::io::AsyncBufReadExt;

use super::super::console::Console;
use super::super::exit::Fault;
use super::logs;
use crate::api::{EventBody, LogLine};
use crate::{Client, Events};

/// How log lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Not at all.
    Nothing,
    /// With controls escaped, where they go to a terminal.
    Escaped,
    /// Exactly as they are.
    Raw,
    /// As JSON, one per line.
    Json,
}

/// Which lines to show.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Those after this one.
    pub(super) after: Option<u64>,
    /// Those of this stage.
    pub(super) stage: Option<String>,
}

impl Wanted {
    fn takes(&self, line: &LogLine) -> bool {
        self.stage.is_none() || self.stage == line.stage
    }
}

/// Why following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The run has ended.
    Run,
    /// Nobody waits any more.
    Left,
}

/// What came first.
#[expect(clippy::large_enum_variant, reason = "one at a time, looked at and gone")]
enum Next {
    Event(Option<crate::Result<crate::api::Event>>),
    Interrupt,
}

/// Shows these lines of a run's log until the run has ended.
pub(super) async fn follow(
    client: &Client,
    id: &str,
    wanted: &Wanted,
    shown: Shown,
    console: &mut Console,
) -> Result<Ended, Fault> {
    let mut events = client.runs().events(id, wanted.after);
    let mut interrupted = false;
    loop {
        match next(&mut events, console).await {
            Next::Event(None) => return Ok(Ended::Run),
            Next::Event(Some(event)) => match event?.body {
                EventBody::Log(line) if wanted.takes(&line) => logs::print(&line, shown, console)?,
                _ => {}
            },
            Next::Interrupt if interrupted => return Ok(Ended::Left),
            Next::Interrupt => match ask(id, console).await? {
                Answer::Cancel => {
                    interrupted = true;
                    client.runs().cancel(id).await?;
                    console.note("cancelling; Ctrl-C again stops waiting")?;
                }
                Answer::GoOn => {}
                Answer::Leave => return Ok(Ended::Left),
            },
        }
    }
}

async fn next(events: &mut Events, console: &mut Console) -> Next {
    let interrupts = &mut console.io.interrupts;
    tokio::select! {
        biased;
        Some(()) = interrupts.recv() => Next::Interrupt,
        event = events.next() => Next::Event(event),
    }
}

enum Answer {
    Cancel,
    GoOn,
    Leave,
}

async fn ask(id: &str, console: &mut Console) -> Result<Answer, Fault> {
    if !(console.io.terminals.stdin && console.io.terminals.stderr) {
        return Ok(Answer::Cancel);
    }
    console.note(&format!(
        "cancel run {id}? [y/N] (Ctrl-C again: stop waiting, leave it running)"
    ))?;
    let mut line = String::new();
    let answer = tokio::select! {
        biased;
        Some(()) = console.io.interrupts.recv() => Answer::Leave,
        read = console.io.stdin.read_line(&mut line) => match read {
            Ok(_) if matches!(line.trim(), "y" | "Y" | "yes") => Answer::Cancel,
            Ok(_) => Answer::GoOn,
            Err(error) => return Err(Fault::Output(error)),
        },
    };
    Ok(answer)
}
