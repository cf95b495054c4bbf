//! What the proxy leaves to another: tunnels whose TLS is opened, since their host may get a secret.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::outbound::Host;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of whatever kind.
pub type BoxedIo = Box<dyn Io>;

/// Opens the TLS of hosts that carry secrets.
#[async_trait]
pub trait Intercept: Send + Sync {
    /// Whether tunnels to this place are opened. Asked only of places that the rules allow, and on every port.
    fn wants(&self, host: &Host, port: u16) -> bool;

    /// Serves one tunnel to its end. The proxy has judged the place, dialled it and seen that the ClientHello names it; the
    /// bytes of the job are counted as they pass. The future is dropped when the job ends, and when nothing passes for long.
    ///
    /// # Errors
    /// When the tunnel broke. What is refused is told by the tunnel's [`Teller`].
    async fn serve(&self, tunnel: Tunnel) -> io::Result<()>;
}

/// A tunnel to open.
pub struct Tunnel {
    /// The job's end, from the first byte of its ClientHello.
    pub client: BoxedIo,
    /// The host of the `CONNECT`.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Whether the rule lets a request change the protocol (`upgrade: true`).
    pub upgrade: bool,
    /// The place itself, before any TLS.
    pub upstream: TcpStream,
    /// Tells of requests that are refused.
    pub teller: Teller,
}

/// Tells decisions about requests within an opened tunnel.
#[derive(Clone)]
pub struct Teller(Arc<dyn Tell>);

/// Where a [`Teller`] tells.
#[async_trait]
pub(super) trait Tell: Send + Sync {
    async fn refused(&self, reason: String);
}

impl Teller {
    pub(super) fn new(tell: Arc<dyn Tell>) -> Self {
        Self(tell)
    }

    /// Records that a request of this tunnel was refused, and why; waits while the queue is full.
    pub async fn refused(&self, reason: impl Into<String> + Send) {
        self.0.refused(reason.into()).await;
    }
}
