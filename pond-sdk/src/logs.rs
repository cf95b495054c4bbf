//! A run's log: by the page, or whole as a stream of lines.

use std::collections::VecDeque;

use futures::stream::{self, BoxStream, StreamExt};

use crate::api::{LogLine, LogList};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::request::Call;
use crate::sse::MAX_EVENT;

/// Lines of a log, oldest first.
pub type LogStream = BoxStream<'static, Result<LogLine>>;

/// Which lines of a run's log to read.
#[derive(Debug, Clone)]
#[must_use]
pub struct LogQuery {
    client: Client,
    run: String,
    since: Option<u64>,
    stage: Option<String>,
    limit: Option<u32>,
}

impl LogQuery {
    pub(crate) fn new(client: Client, run: String) -> Self {
        Self {
            client,
            run,
            since: None,
            stage: None,
            limit: None,
        }
    }

    /// Only lines after this id.
    pub fn since(mut self, id: u64) -> Self {
        self.since = Some(id);
        self
    }

    /// Only lines of this stage.
    pub fn stage(mut self, key: impl Into<String>) -> Self {
        self.stage = Some(key.into());
        self
    }

    /// At most this many lines, for a page; 1 to 500.
    pub fn limit(mut self, lines: u32) -> Self {
        self.limit = Some(lines);
        self
    }

    /// One page.
    pub async fn page(&self) -> Result<LogList> {
        self.client.read("log", self.call().query("limit", self.limit)).await
    }

    /// All lines that are there by now. A broken connection is taken up again after the last line that came.
    pub fn stream(self) -> LogStream {
        let reader = Reader {
            query: self,
            connection: None,
            lines: VecDeque::new(),
            broken: 0,
            ended: false,
        };
        stream::unfold(reader, async |mut reader| {
            let item = reader.next().await;
            // An error is the last item.
            reader.ended |= matches!(item, Some(Err(_)));
            item.map(|item| (item, reader))
        })
        .boxed()
    }

    fn call(&self) -> Call {
        Call::get(&["v1", "runs", &self.run, "logs"])
            .query("since", self.since)
            .query("stage", self.stage.as_ref())
    }
}

/// Reads newline-delimited lines over as many connections as it takes.
struct Reader {
    query: LogQuery,
    connection: Option<(reqwest::Response, Vec<u8>)>,
    lines: VecDeque<LogLine>,
    broken: u32,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<LogLine>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                self.query.since = Some(line.id);
                return Some(Ok(line));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.step().await {
                return Some(Err(error));
            }
        }
    }

    async fn step(&mut self) -> Result<()> {
        let client = self.query.client.clone();
        let (mut response, mut partial) = match self.connection.take() {
            Some(connection) => connection,
            None => (
                client.send(self.query.call().accept("application/x-ndjson")).await?,
                Vec::new(),
            ),
        };
        match response.chunk().await {
            Ok(Some(chunk)) => {
                self.broken = 0;
                partial.extend_from_slice(&chunk);
                let rest = self.take_lines(&partial)?;
                partial.drain(..rest);
                if partial.len() > MAX_EVENT {
                    return Err(Error::TooLong {
                        what: "log line",
                        limit: MAX_EVENT,
                    });
                }
                self.connection = Some((response, partial));
            }
            Ok(None) => {
                partial.push(b'\n');
                self.take_lines(&partial)?;
                self.ended = true;
            }
            Err(error) => {
                self.broken += 1;
                if self.broken > client.retry().reconnects {
                    return Err(client.unreachable(error));
                }
                tokio::time::sleep(client.retry().backoff(self.broken)).await;
            }
        }
        Ok(())
    }

    /// Takes whole lines, and tells where the rest begins.
    fn take_lines(&mut self, bytes: &[u8]) -> Result<usize> {
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        for line in bytes[..end]
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
        {
            let line: LogLine = serde_json::from_slice(line).map_err(|error| Error::decode("log", error))?;
            let last = self.lines.back().map(|line| line.id).or(self.query.since);
            if last.is_none_or(|last| line.id > last) {
                self.lines.push_back(line);
            }
        }
        Ok(end)
    }
}
