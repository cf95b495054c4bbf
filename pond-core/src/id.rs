//! Ids: one newtype per kind of record, so that a run's id can't be handed to a function that wants a worker's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;
use crate::entropy::Entropy;

/// A path id or body id that is no well-formed UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct BadId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Mints a fresh id (UUID v7, RFC 9562 §5.7) from the engine's clock and entropy.
            pub fn mint(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                Self(mint_v7(clock, entropy))
            }

            /// The 16 bytes, as stored.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The UUID within.
            pub fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                parse_hyphenated(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    )+};
}

ids! {
    /// A run.
    RunId;
    /// A project, the tenant that everything belongs to.
    ProjectId;
    /// One attempt of a stage handed to a pool: the job.
    JobId;
    /// A worker.
    WorkerId;
    /// An orchestrator, paired with the engine.
    OrchestratorId;
    /// One life of a worker process.
    BootId;
    /// One life of an engine process.
    EngineId;
    /// An API key.
    KeyId;
}

/// Only the usual 8-4-4-4-12 spelling: one record has one address.
fn parse_hyphenated(text: &str) -> Result<Uuid, BadId> {
    if text.len() != 36 {
        return Err(BadId);
    }
    Uuid::try_parse(text).map_err(|_| BadId)
}

fn mint_v7(clock: &dyn Clock, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0u8; 10];
    entropy.fill(&mut random);
    let micros = u64::try_from(clock.now().micros()).unwrap_or(0);
    // RFC 9562 §6.2 method 3: sub-millisecond time in rand_a keeps ids of one process close to creation order.
    let fraction = u16::try_from((micros % 1000) * 4096 / 1000).unwrap_or(0);
    random[0] = (fraction >> 8) as u8;
    random[1] = (fraction & 0xff) as u8;
    uuid::Builder::from_unix_timestamp_millis(micros / 1000, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ManualClock, SeededEntropy};

    #[test]
    fn ids_rise_with_time_and_are_v7() {
        let (clock, entropy) = (ManualClock::new(), SeededEntropy::new(7));
        let first = RunId::mint(&*clock, &entropy);
        clock.advance(std::time::Duration::from_micros(300));
        let second = RunId::mint(&*clock, &entropy);
        assert!(first < second);
        assert_eq!(first.uuid().get_version_num(), 7);
    }

    #[test]
    fn only_the_hyphenated_spelling_is_an_id() {
        let id = "018f0000-0000-7000-8000-000000000001";
        assert_eq!(id.parse::<RunId>().unwrap().to_string(), id);
        for bad in [
            "",
            "x",
            "018f0000000070008000000000000001",
            "{018f0000-0000-7000-8000-000000000001}",
            "../x",
        ] {
            assert_eq!(bad.parse::<RunId>(), Err(BadId), "{bad}");
        }
    }
}
