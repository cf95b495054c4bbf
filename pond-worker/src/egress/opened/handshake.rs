//! Both handshakes of a tunnel: the far side is verified first, so that the job is offered the HTTP that both can speak, and
//! is told in words when there is no trust.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pond_core::outbound::Host;
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use rustls::server::{Acceptor, ClientHello};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::super::secrets::Goal;
use super::super::{BoxedIo, Tunnel};
use super::Opener;
use super::exchange::{Exchange, Tunnelled};
use super::request::{Place, Protocol};
use super::wire;

/// How long each handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(15);

impl Protocol {
    const ALL: [Self; 2] = [Self::Http2, Self::Http1];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    /// Those that a client offers, the better first; without a word it means the older one.
    fn offered(hello: &ClientHello<'_>) -> Vec<Self> {
        match hello.alpn() {
            None => vec![Self::Http1],
            Some(names) => {
                let names: Vec<&[u8]> = names.collect();
                Self::ALL
                    .into_iter()
                    .filter(|protocol| names.contains(&protocol.alpn()))
                    .collect()
            }
        }
    }
}

/// Serves a tunnel to its end.
pub(super) async fn serve(opener: &Opener, goal: Goal, tunnel: Tunnel) -> io::Result<()> {
    let Tunnel {
        client,
        host,
        port,
        upgrade,
        upstream,
        teller,
    } = tunnel;
    let place = Place { host, port };
    let greeting = within(LazyConfigAcceptor::new(Acceptor::default(), client)).await?;
    let hello = greeting.client_hello();
    if !is_named(&hello, &place.host) {
        teller
            .refused(format!(
                "the TLS within the tunnel to {} is for another host",
                place.host
            ))
            .await;
        return Ok(());
    }
    let offered = Protocol::offered(&hello);
    let Some(best) = offered.first().copied() else {
        teller
            .refused("neither h2 nor http/1.1 is offered, and nothing else passes here")
            .await;
        return Ok(());
    };
    let far = match connect(opener, &place.host, upstream, &offered).await {
        Ok(far) => Ok(far),
        Err(error) => {
            let reason = format!(
                "{} has no TLS certificate that is trusted, or does not speak TLS",
                place.host
            );
            tracing::debug!(%error, host = %place.host, "the far side of a tunnel is refused");
            teller.refused(reason.clone()).await;
            Err(reason)
        }
    };
    let protocol = far.as_ref().map_or(best, |(_, protocol)| *protocol);
    let config = opener.ca.serve_as(&place.host).map_err(io::Error::other)?;
    let near = within(greeting.into_stream(speaking(&config, protocol))).await?;
    let near: BoxedIo = Box::new(near);
    let way = Tunnelled {
        goal,
        place,
        protocol,
        upgrade,
        teller,
    };
    let exchange = Exchange::new(&opener.secrets, &opener.room, way);
    match far {
        Ok((far, _)) => wire::serve(near, far, protocol, exchange).await,
        Err(reason) => wire::refuse(near, protocol, exchange.closed(reason)).await,
    }
}

/// A name must be said, and no other; of an address nothing is said.
fn is_named(hello: &ClientHello<'_>, host: &Host) -> bool {
    match (hello.server_name(), host) {
        (None, Host::Address(_)) => true,
        (Some(name), host) => Host::parse(name).as_ref() == Ok(host),
        (None, Host::Name(_)) => false,
    }
}

/// TLS to the far side, as usual: nothing of the job has been sent before it is trusted.
async fn connect(
    opener: &Opener,
    host: &Host,
    upstream: TcpStream,
    offered: &[Protocol],
) -> io::Result<(TlsStream<TcpStream>, Protocol)> {
    let mut config = (*opener.trust).clone();
    config.alpn_protocols = offered.iter().map(|protocol| protocol.alpn().to_vec()).collect();
    let name = match host {
        Host::Address(ip) => ServerName::from(*ip),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
    };
    let far = within(TlsConnector::from(Arc::new(config)).connect(name, upstream)).await?;
    let protocol = match far.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    match offered.contains(&protocol) {
        true => Ok((far, protocol)),
        false => Err(io::Error::other("both sides speak another version of HTTP")),
    }
}

fn speaking(config: &ServerConfig, protocol: Protocol) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    Arc::new(config)
}

async fn within<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(HANDSHAKE, handshake)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
