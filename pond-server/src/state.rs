//! What every handler has at hand.

use std::net::IpAddr;
use std::sync::Arc;

use pond_core::entropy::{Entropy, SystemEntropy};
use pond_core::pool::Tries;
use pond_core::secret::Secret;
use pond_core::{Error, Pond};
use tokio_util::sync::CancellationToken;

use crate::auth::Tokens;
use crate::hosts::HostRule;
use crate::metrics::Metrics;
use crate::peer::TrustedProxies;

/// The version that the server tells.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the server is told about itself.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// The operator's name for this deployment.
    pub label: String,
    /// The token that opens everything.
    pub service_token: Secret,
    /// Which `Host` headers are answered.
    pub hosts: HostRule,
    /// Whether `/metrics` needs no token: on a loopback bind.
    pub open_metrics: bool,
    /// Proxies whose word on the client's address counts.
    pub proxies: TrustedProxies,
}

/// An engine with what the HTTP side adds to it. Clones are the same.
#[derive(Clone)]
pub struct AppState {
    inner: Arc<Inner>,
}

struct Inner {
    pond: Pond,
    label: String,
    tokens: Tokens,
    hosts: HostRule,
    open_metrics: bool,
    metrics: Metrics,
    proxies: TrustedProxies,
    tries: Tries,
    entropy: Arc<dyn Entropy>,
    closing: CancellationToken,
}

impl AppState {
    /// Serves this engine.
    pub fn new(pond: Pond, settings: AppSettings) -> Self {
        let AppSettings {
            label,
            service_token,
            hosts,
            open_metrics,
            proxies,
        } = settings;
        let inner = Inner {
            pond,
            label,
            tokens: Tokens::new(&service_token),
            hosts,
            open_metrics,
            metrics: Metrics::default(),
            proxies,
            tries: Tries::default(),
            entropy: Arc::new(SystemEntropy),
            closing: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The engine.
    pub fn pond(&self) -> &Pond {
        &self.inner.pond
    }

    /// Ends live streams, so that a server that drains need not wait for the runs that they follow.
    pub fn close_streams(&self) {
        self.inner.closing.cancel();
    }

    pub(crate) fn label(&self) -> &str {
        &self.inner.label
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    pub(crate) fn hosts(&self) -> &HostRule {
        &self.inner.hosts
    }

    pub(crate) fn open_metrics(&self) -> bool {
        self.inner.open_metrics
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(crate) fn proxies(&self) -> &TrustedProxies {
        &self.inner.proxies
    }

    /// Refuses an address that has failed too often.
    pub(crate) fn admit_try(&self, address: IpAddr) -> Result<(), Error> {
        match self.inner.tries.wait(address, self.pond().now()) {
            None => Ok(()),
            Some(retry_after) => Err(Error::Busy {
                message: "too many codes from this address were not valid; wait a moment".into(),
                retry_after,
            }),
        }
    }

    /// An address has offered a code that is none.
    pub(crate) fn failed_try(&self, address: IpAddr) {
        self.inner.tries.failed(address, self.pond().now());
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.inner.entropy
    }

    pub(crate) fn closing(&self) -> CancellationToken {
        self.inner.closing.clone()
    }
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState")
            .field("label", &self.inner.label)
            .finish_non_exhaustive()
    }
}
