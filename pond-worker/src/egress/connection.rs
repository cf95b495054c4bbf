//! One connection of a job: its requests one after the other, each judged and told of.

use std::sync::Arc;

use hyper::StatusCode;
use pond_core::outbound::Purpose;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::forward::forward;
use super::head::{BadHead, Place, Target};
use super::record::Record;
use super::serve::Shared;
use super::traffic::Traffic;
use super::tunnel::tunnel;
use crate::net::DialError;

/// What is said of a connection that the proxy's end broke off.
const ENDED: &str = "cut: the job's network was closed";

/// Serves a connection to its end, or until it is to stop; tells of every decision even then.
pub(super) async fn connection(stream: UnixStream, shared: Arc<Shared>, stop: CancellationToken) {
    let mut client = Client::new(stream);
    loop {
        let head = async {
            // What cannot be told may not happen.
            let room = shared.decisions.reserve().await;
            drop(room.ok()?);
            client.head().await
        };
        let head = match stop.run_until_cancelled(head).await.flatten() {
            None => return,
            Some(Ok(head)) => head,
            Some(Err(bad)) => return refuse(client, &shared, &stop, bad).await,
        };
        let mut record = Record::new(&shared, &head.place.host.to_string(), head.place.port);
        let traffic = Arc::new(Traffic::default());
        let place = head.place.clone();
        let next = match head.target {
            Target::Connect => {
                let served = tunnel(&shared, client, place, &mut record, &traffic);
                stop.run_until_cancelled(served).await.map(|()| None)
            }
            Target::Path(_) => {
                let served = forward(&shared, client, head, &mut record, &traffic);
                stop.run_until_cancelled(served).await
            }
        };
        if next.is_none() {
            record.note(ENDED);
        }
        record.tell(&shared, Some(&traffic)).await;
        match next.flatten() {
            Some(again) => client = again,
            None => return,
        }
    }
}

/// Refuses what cannot be read; what asks for a place is told of.
async fn refuse(mut client: Client, shared: &Shared, stop: &CancellationToken, bad: BadHead) {
    match bad {
        BadHead::Request(why) => {
            stop.run_until_cancelled(client.refuse(StatusCode::BAD_REQUEST, why))
                .await;
        }
        BadHead::Place { asked, port, why } => {
            let mut record = Record::new(shared, &asked, port);
            record.deny(format!("{asked} is refused: {why}"));
            let line = record.reason().to_owned();
            stop.run_until_cancelled(client.refuse(StatusCode::FORBIDDEN, &line))
                .await;
            record.tell(shared, None).await;
        }
    }
}

impl Shared {
    /// Dials a place that the rules allow. Otherwise what the client is answered, which stands in the record too.
    pub(super) async fn dial(&self, place: &Place, record: &mut Record) -> Result<TcpStream, (StatusCode, String)> {
        let Place { host, port } = place;
        let error = match self.parts.dialer.connect(Purpose::Egress, host, *port).await {
            Ok(upstream) => {
                record.ip = upstream.peer_addr().ok().map(|address| address.ip());
                return Ok(upstream);
            }
            Err(error) => error,
        };
        let (status, line) = match &error {
            DialError::Refused { .. } => (
                StatusCode::FORBIDDEN,
                format!("{error}: the operator of the worker can allow {host}:{port} with POND_EGRESS_ALLOW_PRIVATE"),
            ),
            DialError::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, error.to_string()),
            _ => (StatusCode::BAD_GATEWAY, error.to_string()),
        };
        match status {
            StatusCode::FORBIDDEN => record.deny(line.clone()),
            _ => record.note(line.clone()),
        }
        Err((status, line))
    }
}
