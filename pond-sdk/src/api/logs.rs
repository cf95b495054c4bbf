//! Log lines of a run.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;

open_enum! {
    /// Which stream a line came from.
    LogStream {
        /// Standard output.
        Stdout = "stdout",
        /// Standard error.
        Stderr = "stderr",
        /// Pond itself.
        System = "system",
    }
}

open_enum! {
    /// Who wrote a line.
    LogSource {
        /// The checks before the run.
        Preflight = "preflight",
        /// The fetch of sources.
        Fetch = "fetch",
        /// The engine.
        Engine = "engine",
        /// The stage's own program.
        Agent = "agent",
        /// The egress proxy.
        Proxy = "proxy",
        /// The model broker.
        Broker = "broker",
    }
}

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// The run's event number of this line: strictly rising, with gaps.
    pub id: u64,
    /// When the worker saw it.
    pub ts: String,
    /// The stage; null for the run's own lines.
    pub stage: Option<String>,
    /// The area, in a fan-out.
    pub substage: Option<String>,
    /// Which stream.
    pub stream: LogStream,
    /// Who wrote it.
    pub source: LogSource,
    /// The text, without its line end.
    pub line: String,
}

/// A page of log lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogList {
    /// The lines, oldest first.
    pub logs: Vec<LogLine>,
    /// The last id seen, to be sent as `since`: the last line's, else the request's own; null with neither.
    pub next_cursor: Option<u64>,
}
