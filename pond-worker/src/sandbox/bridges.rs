//! Ways out of a sandbox: ports that listen inside and are served here, each leading to a socket of the worker.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pond_core::sandbox::{Bridge, SandboxError};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bytes that are under way in a connection, each way.
const PIECE: usize = 64 << 10;
/// Connections of one bridge at a time.
const MAX_CONNECTIONS: usize = 256;

/// Serves the ports that a sandbox has opened, if they are those that it was asked to open.
pub(super) fn serve_all(bridges: Vec<Bridge>, listeners: Vec<OwnedFd>) -> Result<JoinSet<()>, SandboxError> {
    if bridges.len() != listeners.len() {
        return Err(SandboxError::failed("the sandbox opened other ports than asked for"));
    }
    let bad = |error| SandboxError::io("a port of the sandbox cannot be served", error);
    let mut serving = JoinSet::new();
    for (bridge, listener) in bridges.into_iter().zip(listeners) {
        let listener = std::net::TcpListener::from(listener);
        let at = listener.local_addr().map_err(bad)?;
        if !at.ip().is_loopback() || at.port() != bridge.port {
            return Err(SandboxError::failed("the sandbox opened another port than asked for"));
        }
        listener.set_nonblocking(true).map_err(bad)?;
        serving.spawn(serve(TcpListener::from_std(listener).map_err(bad)?, bridge.socket));
    }
    Ok(serving)
}

/// Leads connections of a port inside to a socket of the worker.
async fn serve(listener: TcpListener, socket: PathBuf) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let Ok((inside, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others will be given back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let socket = socket.clone();
        connections.spawn(async move {
            let _permit = permit;
            let _ = lead(inside, &socket).await;
        });
    }
}

async fn lead(mut inside: TcpStream, socket: &Path) -> std::io::Result<()> {
    let mut outside = UnixStream::connect(socket).await?;
    inside.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut inside, &mut outside, PIECE, PIECE)
        .await
        .map(drop)
}
