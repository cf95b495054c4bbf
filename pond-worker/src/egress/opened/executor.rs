//! Tasks of one tunnel, which end with it.

use hyper::rt::Executor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Starts tasks until the [`Tasks`] that it is of are dropped.
#[derive(Clone)]
pub(super) struct Tied(CancellationToken);

/// Ends what was started when it is dropped.
pub(super) struct Tasks {
    token: CancellationToken,
    _guard: DropGuard,
}

impl Tasks {
    pub(super) fn new() -> Self {
        let token = CancellationToken::new();
        let _guard = token.clone().drop_guard();
        Self { token, _guard }
    }

    pub(super) fn executor(&self) -> Tied {
        Tied(self.token.clone())
    }
}

impl<F> Executor<F> for Tied
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let token = self.0.clone();
        tokio::spawn(async move { token.run_until_cancelled_owned(task).await });
    }
}
