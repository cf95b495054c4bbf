//! A connection that is listened to: what goes through is passed on, kept, and may be changed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Change = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Stands before an address.
pub(super) struct Tap {
    pub(super) addr: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// Passes everything on.
    pub(super) async fn before(to: SocketAddr) -> Self {
        Self::changing(to, |_| None).await
    }

    /// Passes on what `change` makes of each piece that comes back; pieces are as they are read.
    pub(super) async fn changing(
        to: SocketAddr,
        change: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (kept, change): (_, Change) = (Arc::clone(&heard), Arc::new(change));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(to).await else {
                    continue;
                };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(pass(near_in, far_out, Arc::clone(&kept), Arc::new(|_| None)));
                tokio::spawn(pass(far_in, near_out, Arc::clone(&kept), Arc::clone(&change)));
            }
        });
        Self { addr, heard }
    }

    /// Whether these bytes went through.
    pub(super) fn heard(&self, what: &[u8]) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.windows(what.len()).any(|window| window == what)
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    heard: Arc<Mutex<Vec<u8>>>,
    change: Change,
) {
    let mut piece = vec![0; 256 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let bytes = change(&piece[..count]).unwrap_or_else(|| piece[..count].to_vec());
        heard.lock().unwrap().extend_from_slice(&bytes);
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
