//! Opens the TLS of hosts that carry secrets: TLS to the job as that host, TLS to the host as usual, and between them HTTP,
//! request by request, with values for tokens on the way there and tokens for values on the way back.
//!
//! One connection of the job is one connection to the place, over the same version of HTTP, and ends with it. Whatever cannot
//! be read as HTTP does not pass.

mod answer;
mod body;
mod decode;
mod exchange;
mod executor;
mod handshake;
mod request;
mod wire;

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use pond_core::egress::{Decision, EgressPolicy};
use pond_core::outbound::Host;
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use super::secrets::{Goal, SealedSecrets};
use super::{Intercept, SandboxCa, Tunnel};

/// Never TLS, by custom: what passes there is left alone.
const PLAIN_PORT: u16 = 80;

/// Opens the TLS of one sandbox.
pub struct Opener {
    secrets: Arc<SealedSecrets>,
    policy: EgressPolicy,
    ca: SandboxCa,
    /// How the far side is verified.
    trust: Arc<ClientConfig>,
    /// For bodies that are read as a whole.
    room: Arc<Semaphore>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl Opener {
    /// For a sandbox that trusts `ca`, with these secrets, under the policy that its proxy has. `trust` says which certificates
    /// of the far side are good.
    pub fn new(secrets: Arc<SealedSecrets>, policy: EgressPolicy, ca: SandboxCa, trust: Arc<ClientConfig>) -> Self {
        Self {
            secrets,
            policy,
            ca,
            trust,
            room: body::room(),
        }
    }

    /// Where a place lies for the secrets, if the rules allow it at all.
    fn goal(&self, host: &Host, port: u16) -> Option<Goal> {
        match self.policy.decide(host, port) {
            Decision::Allowed(ruled) => Some(Goal {
                host: host.clone(),
                port,
                origin: ruled.from,
            }),
            Decision::Forbidden(_) | Decision::Unlisted => None,
        }
    }
}

#[async_trait]
impl Intercept for Opener {
    fn wants(&self, host: &Host, port: u16) -> bool {
        let goal = self.goal(host, port).filter(|_| port != PLAIN_PORT);
        goal.is_some_and(|goal| self.secrets.now().reaches(&goal))
    }

    async fn serve(&self, tunnel: Tunnel) -> io::Result<()> {
        let Some(goal) = self.goal(&tunnel.host, tunnel.port) else {
            return Err(io::ErrorKind::PermissionDenied.into());
        };
        handshake::serve(self, goal, tunnel).await
    }
}
