//! Answers on a listener until told to stop, then drains.

use std::future::Future;
use std::io;

use axum::Router;
use tokio::net::TcpListener;

/// Serves `app` until `shutdown` completes; requests under way are answered to their end.
///
/// Live streams follow runs that may take hours: call [`crate::AppState::close_streams`] when `shutdown` completes.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await
}
