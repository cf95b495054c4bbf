//! What ends a job from outside.

use tokio::sync::watch;

/// Why a job is to end; a later reason stands above an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It is not.
    Not,
    /// It was cancelled.
    Cancel,
    /// The worker leaves, and another one takes it on.
    Leave,
    /// The lease is lost: it belongs to somebody else, and nothing more may be told of it.
    Lost,
}

/// Shared by a job and those who may end it.
#[derive(Debug, Clone)]
pub(crate) struct Switch(watch::Sender<Stop>);

impl Switch {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Stop::Not))
    }

    /// Raises it; it never falls back.
    pub(crate) fn raise(&self, stop: Stop) {
        self.0.send_if_modified(|now| {
            let higher = stop > *now;
            *now = stop.max(*now);
            higher
        });
    }

    pub(crate) fn now(&self) -> Stop {
        *self.0.borrow()
    }

    /// Waits until it is as high as this.
    pub(crate) async fn reaches(&self, stop: Stop) -> Stop {
        let mut seen = self.0.subscribe();
        // The sender is held here, so it cannot close.
        let now = seen.wait_for(|now| *now >= stop).await.map(|now| *now);
        now.unwrap_or(Stop::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rises_and_never_falls() {
        let switch = Switch::new();
        assert_eq!(switch.now(), Stop::Not);
        switch.raise(Stop::Leave);
        switch.raise(Stop::Cancel);
        assert_eq!(switch.now(), Stop::Leave);
        assert_eq!(switch.reaches(Stop::Cancel).await, Stop::Leave);
        let later = switch.clone();
        let waiting = tokio::spawn(async move { later.reaches(Stop::Lost).await });
        switch.raise(Stop::Lost);
        assert_eq!(waiting.await.expect("it ends"), Stop::Lost);
    }
}
