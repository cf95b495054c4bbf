//! A run's events, live: one stream over as many connections as it takes, without gap or repeat.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt};

use crate::api::{Event, EventBody, RunStatus, StatusScope};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::request::Call;
use crate::sse::{MAX_EVENT, SseEvent, SseParser};

/// A run's events until it has ended. After an error nothing follows.
pub struct Events {
    inner: BoxStream<'static, Result<Event>>,
}

impl Events {
    pub(crate) fn new(client: Client, run: String, after: Option<u64>) -> Self {
        let follower = Follower {
            client,
            run,
            last: after,
            connection: None,
            events: VecDeque::new(),
            broken: 0,
            run_ended: false,
            done: false,
        };
        let inner = stream::unfold(follower, async |mut follower| {
            let item = follower.next().await;
            follower.done |= matches!(item, Some(Err(_)));
            item.map(|item| (item, follower))
        });
        Self { inner: inner.boxed() }
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

struct Connection {
    response: reqwest::Response,
    parser: SseParser,
    /// It was opened when the run was known to have ended, so it replays all that is left.
    after_end: bool,
}

struct Follower {
    client: Client,
    run: String,
    last: Option<u64>,
    connection: Option<Connection>,
    events: VecDeque<Event>,
    /// Connections in a row that brought no byte.
    broken: u32,
    run_ended: bool,
    done: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.step().await {
                return Some(Err(error));
            }
        }
    }

    async fn step(&mut self) -> Result<()> {
        let Some(mut connection) = self.connection.take() else {
            return self.connect().await;
        };
        match connection.response.chunk().await {
            Ok(Some(chunk)) => {
                self.broken = 0;
                let events = connection.parser.push(&chunk);
                let events = events.map_err(|_| Error::TooLong {
                    what: "event",
                    limit: MAX_EVENT,
                })?;
                for event in events {
                    self.take(event)?;
                }
                // This connection brought the end itself, and so all before it.
                connection.after_end |= self.run_ended;
                self.connection = Some(connection);
                Ok(())
            }
            Ok(None) if connection.after_end => {
                self.done = true;
                Ok(())
            }
            Ok(None) => self.closed().await,
            Err(error) => self.pause(self.client.unreachable(error)).await,
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let mut call = Call::get(&["v1", "runs", &self.run, "events"]).accept("text/event-stream");
        if let Some(last) = self.last {
            call = call.header("last-event-id", &last.to_string())?;
        }
        match self.client.send(call).await {
            Ok(response) => {
                let after_end = self.run_ended;
                self.connection = Some(Connection {
                    response,
                    parser: SseParser::default(),
                    after_end,
                });
                Ok(())
            }
            Err(error) if matches!(error, Error::Unreachable { .. }) || matches!(error.status(), Some(429 | 503)) => {
                self.pause(error).await
            }
            Err(error) => Err(error),
        }
    }

    /// The server closed in good order without having told the end: either the run ended before `last`, or the server
    /// itself is going down.
    async fn closed(&mut self) -> Result<()> {
        let look = self.client.runs().get(&self.run).await;
        match look {
            Ok(detail) if detail.run.status.is_terminal() => {
                // Once more, for what may have come between the close and the look.
                self.run_ended = true;
                Ok(())
            }
            Ok(_) => {
                let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                self.pause(Error::Unreachable {
                    origin: self.client.origin(),
                    source: Box::new(source),
                })
                .await
            }
            Err(error @ Error::Unreachable { .. }) => self.pause(error).await,
            Err(error) => Err(error),
        }
    }

    async fn pause(&mut self, error: Error) -> Result<()> {
        self.broken += 1;
        if self.broken > self.client.retry().reconnects {
            return Err(error);
        }
        tokio::time::sleep(self.client.retry().backoff(self.broken)).await;
        Ok(())
    }

    fn take(&mut self, event: SseEvent) -> Result<()> {
        let Some(id) = event.id.and_then(|id| id.parse().ok()) else {
            return Ok(());
        };
        if self.last.is_some_and(|last| id <= last) {
            return Ok(());
        }
        let body = EventBody::parse(&event.kind, &event.data).map_err(|error| Error::decode("event", error))?;
        if let EventBody::Status(change) = &body {
            self.run_ended |= change.scope == StatusScope::Run && RunStatus::from(&*change.to).is_terminal();
        }
        self.last = Some(id);
        self.events.push_back(Event { id, body });
        Ok(())
    }
}
