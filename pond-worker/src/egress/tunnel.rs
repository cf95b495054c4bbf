//! `CONNECT`: a tunnel to a place, spliced or handed to what opens its TLS.

use std::io::{self, Cursor};
use std::sync::Arc;

use bytes::BytesMut;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpStream, UnixStream};

use super::client::Client;
use super::head::Place;
use super::hello;
use super::judge::{Judged, TLS_PORT, Way};
use super::record::{Record, Within};
use super::serve::Shared;
use super::traffic::{Counted, End, Traffic};
use super::{BoxedIo, Intercept, Teller, Tunnel};

/// Bytes that are under way in a tunnel, each way.
const BUFFER: usize = 64 << 10;

/// Serves a tunnel to its end. What becomes of it is left in `record`.
pub(super) async fn tunnel(
    shared: &Arc<Shared>,
    mut client: Client,
    place: Place,
    record: &mut Record,
    traffic: &Arc<Traffic>,
) {
    let upgrade = match shared.judge.judge(&place, Way::Tunnel, shared.parts.clock.now()) {
        Judged::Denied { rule, reason } => {
            record.rule = rule;
            client.refuse(StatusCode::FORBIDDEN, &reason).await;
            return record.deny(reason);
        }
        Judged::Allowed { rule, upgrade } => {
            record.allow(rule);
            upgrade
        }
    };
    let upstream = match shared.dial(&place, record).await {
        Ok(upstream) => upstream,
        Err((status, line)) => return client.refuse(status, &line).await,
    };
    if client
        .stream
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .is_err()
    {
        return;
    }
    let intercept = shared.parts.intercept.clone();
    let intercept = intercept.filter(|intercept| intercept.wants(&place.host, place.port));
    if (place.port == TLS_PORT || intercept.is_some())
        && let Err(cut) = hello::check(&mut client, &place.host).await
    {
        return record.deny(cut.to_string());
    }
    let Client { stream, buffer } = client;
    let ended = async {
        match intercept {
            None => splice(stream, &buffer, upstream, traffic).await,
            Some(intercept) => {
                let teller = Teller::new(Arc::new(Within {
                    shared: Arc::clone(shared),
                    record: record.clone(),
                }));
                let tunnel = Tunnel {
                    client: replayed(stream, buffer, traffic),
                    host: place.host,
                    port: place.port,
                    upgrade,
                    upstream,
                    teller,
                };
                open(&*intercept, tunnel).await
            }
        }
    };
    let silent = tokio::select! {
        biased;
        ended = ended => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel broke");
            }
            false
        }
        () = traffic.idle(&*shared.parts.clock) => true,
    };
    if silent {
        record.note("cut: nothing passed for a long time");
    }
}

async fn open(intercept: &dyn Intercept, tunnel: Tunnel) -> io::Result<()> {
    intercept.serve(tunnel).await
}

/// Passes everything, each way until its end.
pub(super) async fn splice(
    mut stream: UnixStream,
    read: &[u8],
    upstream: TcpStream,
    traffic: &Arc<Traffic>,
) -> io::Result<()> {
    let mut upstream = Counted::new(upstream, End::Place, traffic);
    upstream.write_all(read).await?;
    copy_bidirectional_with_sizes(&mut stream, &mut upstream, BUFFER, BUFFER)
        .await
        .map(drop)
}

/// The job's end from its first byte, counted.
fn replayed(stream: UnixStream, read: BytesMut, traffic: &Arc<Traffic>) -> BoxedIo {
    let (reader, writer) = stream.into_split();
    let whole = tokio::io::join(Cursor::new(read.freeze()).chain(reader), writer);
    Box::new(Counted::new(whole, End::Job, traffic))
}
