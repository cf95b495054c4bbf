//! `noop`: ticks, each with a log line and a step of progress.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{EngineWork, Executor, Replay, StageContext, Work};
use crate::artifacts::ArtifactName;
use crate::body::Object;
use crate::runs::StageOutcome;

const MAX_TICKS: u64 = 10_000;
const MAX_TOTAL_SEC: f64 = 3600.0;

#[derive(Debug)]
struct Noop {
    ticks: u32,
    interval: Duration,
}

pub(super) fn read(object: &mut Object<'_>) -> Option<Arc<dyn Executor>> {
    let ticks = object.integer("ticks", 0..=MAX_TICKS).unwrap_or(1);
    let interval = match object.optional("interval_sec") {
        None => 0.0,
        Some(value) => value.as_f64().unwrap_or(-1.0),
    };
    let total = interval * ticks as f64;
    if !(interval >= 0.0 && total <= MAX_TOTAL_SEC) {
        object.fault(
            "interval_sec",
            "expected seconds from 0, with ticks × interval_sec at most 3600",
        );
        return None;
    }
    Some(Arc::new(Noop {
        ticks: u32::try_from(ticks).ok()?,
        interval: Duration::from_secs_f64(interval),
    }))
}

impl Executor for Noop {
    fn kind(&self) -> &'static str {
        "noop"
    }

    fn work(&self) -> Work<'_> {
        Work::Engine(self)
    }

    fn leaves(&self, _name: &ArtifactName) -> bool {
        false
    }
}

#[async_trait]
impl EngineWork for Noop {
    fn replay(&self) -> Replay {
        Replay::Safe
    }

    fn timeout(&self) -> Option<Duration> {
        None
    }

    async fn run(&self, stage: &StageContext) -> StageOutcome {
        for tick in 1..=self.ticks {
            if !self.interval.is_zero() {
                stage.clock.sleep(self.interval).await;
            }
            stage
                .sink
                .line(stage.clock.now(), format!("tick {tick} of {}", self.ticks));
            stage.sink.progress(tick, self.ticks);
        }
        StageOutcome::Done
    }
}
