//! The sealed secrets of one job made ready: the authority that its sandbox trusts, and what opens TLS for it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pond_core::clock::Clock;
use pond_core::egress::EgressPolicy;
use pond_core::entropy::Entropy;
use pond_core::outbound::HostPattern;

use super::{CaError, Intercept, Laid, Opener, SandboxCa, SealedSecret, SealedSecrets, Trust};
use crate::net::Dialer;

/// How much longer than its job an authority is good.
const SPARE: Duration = Duration::from_secs(3600);

/// Why a job's secrets cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// No authority could be made.
    #[error("the sandbox's certificate authority cannot be made")]
    Ca(#[from] CaError),
    /// Its certificate could not be laid down.
    #[error("the sandbox's certificates cannot be written")]
    Io(#[from] io::Error),
}

/// The sealed secrets of one job.
pub struct Sealing {
    /// To be changed while the job runs.
    pub secrets: Arc<SealedSecrets>,
    /// Opens TLS for the job's proxy.
    pub intercept: Arc<dyn Intercept>,
    /// What the sandbox is given to trust it.
    pub laid: Laid,
}

/// What the secrets of a job are sealed with.
pub struct Sealer<'a> {
    /// The policy of the job's proxy.
    pub policy: &'a EgressPolicy,
    /// Says which certificates of the far side are good.
    pub dialer: &'a Dialer,
    /// Dates certificates.
    pub clock: &'a Arc<dyn Clock>,
    /// Numbers them.
    pub entropy: &'a Arc<dyn Entropy>,
    /// How long the job may take.
    pub life: Duration,
    /// Whether hosts may be added while it runs: then they cannot be written into the authority.
    pub hosts_may_change: bool,
}

impl Sealer<'_> {
    /// Makes them ready, and lays the certificates into an empty folder of the job's. Nothing when no secret can go anywhere:
    /// such a sandbox trusts nobody of its own.
    ///
    /// # Errors
    /// When the authority cannot be made or laid down.
    pub fn seal(
        &self,
        secrets: Vec<SealedSecret>,
        folder: &Path,
        present: impl Fn(&Path) -> bool,
    ) -> Result<Option<Sealing>, SealingError> {
        if secrets.iter().all(|secret| secret.rule.places.is_empty()) {
            return Ok(None);
        }
        let hosts = if self.hosts_may_change {
            Vec::new()
        } else {
            named(&secrets)
        };
        let (clock, entropy) = (Arc::clone(self.clock), Arc::clone(self.entropy));
        let ca = SandboxCa::mint(clock, entropy, self.life.saturating_add(SPARE), &hosts)?;
        let laid = Trust::new(ca.pem(), self.dialer.extra_ca()).lay(folder, present)?;
        let secrets = Arc::new(SealedSecrets::new(secrets));
        let opener = Opener::new(Arc::clone(&secrets), self.policy.clone(), ca, self.dialer.trust());
        Ok(Some(Sealing {
            secrets,
            intercept: Arc::new(opener),
            laid,
        }))
    }
}

/// The hosts that can be written into the authority: all of the secrets', if each names its own.
fn named(secrets: &[SealedSecret]) -> Vec<HostPattern> {
    let rules = || {
        secrets
            .iter()
            .map(|secret| &secret.rule)
            .filter(|rule| !rule.places.is_empty())
    };
    match rules().any(|rule| rule.hosts.is_empty()) {
        true => Vec::new(),
        false => rules().flat_map(|rule| rule.hosts.clone()).collect(),
    }
}
