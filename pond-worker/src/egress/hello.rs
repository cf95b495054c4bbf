//! The first bytes of a tunnel: a ClientHello that names the host which was asked for, and nothing else.

use std::io::Read;
use std::time::Duration;

use pond_core::outbound::Host;
use rustls::server::Acceptor;
use tokio::time::timeout;

use super::client::{Client, more};

/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of records that may hold it; the message itself may take 64 KiB.
const MAX_BYTES: usize = 128 << 10;

/// Why a tunnel is cut.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    /// Nothing came, or not all of it.
    #[error("no TLS ClientHello came in time")]
    Silent,
    /// It is something else.
    #[error("the first bytes of the tunnel are no TLS ClientHello: tunnels to this port carry TLS alone")]
    NoHello,
    /// It names nobody.
    #[error("the TLS ClientHello names no host (SNI), where {0} was asked for")]
    Nameless(String),
    /// It names another.
    #[error("the TLS ClientHello names {1} (SNI), where {0} was asked for")]
    Another(String, String),
}

/// Waits for the ClientHello and checks it. What was read stays in the client's buffer, to be sent on.
///
/// An address has no name to send (RFC 6066), so for one no name may be sent.
pub(super) async fn check(client: &mut Client, host: &Host) -> Result<(), Cut> {
    let name = timeout(PATIENCE, name(client)).await.map_err(|_| Cut::Silent)??;
    match (host, name) {
        (Host::Address(_), None) => Ok(()),
        (_, None) => Err(Cut::Nameless(host.to_string())),
        // Read by the one parser, so that spellings do not matter here either.
        (_, Some(name)) if Host::parse(&name).as_ref() == Ok(host) => Ok(()),
        (_, Some(name)) => Err(Cut::Another(host.to_string(), name)),
    }
}

/// The name that the ClientHello carries.
async fn name(client: &mut Client) -> Result<Option<String>, Cut> {
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        // It takes a few KiB at a time, and gives room again when it is asked.
        while fed < client.buffer.len() {
            let mut rest = &client.buffer[fed..];
            let taken = acceptor
                .read_tls(&mut rest as &mut dyn Read)
                .map_err(|_| Cut::NoHello)?;
            fed += taken;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(accepted.client_hello().server_name().map(str::to_owned)),
                Ok(None) if taken == 0 => return Err(Cut::NoHello),
                Ok(None) => {}
                Err(_) => return Err(Cut::NoHello),
            }
        }
        if client.buffer.len() >= MAX_BYTES {
            return Err(Cut::NoHello);
        }
        more(&mut client.stream, &mut client.buffer)
            .await
            .map_err(|_| Cut::Silent)?;
    }
}
