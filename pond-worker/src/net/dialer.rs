//! Resolve, judge every address, dial a judged one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pond_core::outbound::{AllowPrivate, BadUrl, Host, OutboundUrl, Purpose, Refused, judge};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{DnsResolver, LookupError, Protocols, Resolve, SetupError, Stream, tls};

/// How long resolving and connecting may take together, and the TLS handshake after it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many addresses of one name are tried at most; all are judged.
pub const MAX_ADDRESSES: usize = 16;

/// What a dialer is built from.
#[derive(Debug, Clone, Default)]
pub struct DialerSettings {
    /// The DNS server to ask; the system's resolver if none.
    pub resolver: Option<SocketAddr>,
    /// CA certificates trusted beside the system's.
    pub extra_ca: Vec<CertificateDer<'static>>,
    /// The exceptions to the outbound rule.
    pub allow: AllowPrivate,
}

/// Why there is no connection. What is shown names the host as the caller wrote it and never an address behind it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The outbound rule refuses the URL as it stands.
    #[error("{0}")]
    BadUrl(#[from] BadUrl),
    /// The host is or resolves to an address that the rule refuses.
    #[error("{host} leads to an address that may not be dialled")]
    Refused {
        /// The host.
        host: String,
        /// Which kind of address; for logs, since it tells about the network inside.
        why: Refused,
    },
    /// There is no such host.
    #[error("{host} was not found")]
    NotFound {
        /// The host.
        host: String,
    },
    /// No answer in time.
    #[error("{host} did not answer in time")]
    Timeout {
        /// The host.
        host: String,
    },
    /// No trusted TLS with it.
    #[error("{host} has no TLS certificate that is trusted, or does not speak TLS")]
    Tls {
        /// The host.
        host: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// No connection.
    #[error("{host} cannot be reached")]
    Io {
        /// The host.
        host: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
}

impl DialError {
    /// The same error once more, for a caller that was only lent it.
    pub(super) fn again(&self) -> Self {
        let io = |source: &std::io::Error| std::io::Error::new(source.kind(), source.to_string());
        match self {
            Self::BadUrl(bad) => Self::BadUrl(*bad),
            Self::Refused { host, why } => Self::Refused {
                host: host.clone(),
                why: *why,
            },
            Self::NotFound { host } => Self::NotFound { host: host.clone() },
            Self::Timeout { host } => Self::Timeout { host: host.clone() },
            Self::Tls { host, source } => Self::Tls {
                host: host.clone(),
                source: io(source),
            },
            Self::Io { host, source } => Self::Io {
                host: host.clone(),
                source: io(source),
            },
        }
    }
}

/// Dials the outside; cheap to clone.
#[derive(Clone)]
pub struct Dialer(Arc<Parts>);

struct Parts {
    resolver: Arc<dyn Resolve>,
    allow: AllowPrivate,
    extra_ca: Vec<CertificateDer<'static>>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Dialer {
    /// A dialer over DNS.
    pub fn new(settings: DialerSettings) -> Result<Self, SetupError> {
        let resolver = match settings.resolver {
            Some(server) => DnsResolver::at(server)?,
            None => DnsResolver::system()?,
        };
        Self::with_resolver(settings, Arc::new(resolver))
    }

    /// A dialer over another resolver; `settings.resolver` is not used.
    pub fn with_resolver(settings: DialerSettings, resolver: Arc<dyn Resolve>) -> Result<Self, SetupError> {
        let DialerSettings {
            resolver: _,
            extra_ca,
            allow,
        } = settings;
        let mut http1 = tls::config(&extra_ca)?;
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(Parts {
            resolver,
            allow,
            extra_ca,
            http1: Arc::new(http1),
            http2: Arc::new(http2),
        })))
    }

    /// The exceptions it was built with.
    pub fn allow(&self) -> &AllowPrivate {
        &self.0.allow
    }

    /// The CA certificates it trusts beside the system's.
    pub fn extra_ca(&self) -> &[CertificateDer<'static>] {
        &self.0.extra_ca
    }

    /// Whom its TLS trusts, for what does its own handshake over [`Self::connect`].
    pub fn trust(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.http1)
    }

    /// The addresses to dial for this place. If the rule refuses any that the host has, there are none.
    pub async fn addresses(&self, purpose: Purpose, host: &Host, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let found = match host {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => self.resolve(name).await?,
        };
        if !self.0.allow.admits(purpose, host, port) {
            for ip in &found {
                judge(*ip).map_err(|why| {
                    tracing::warn!(%host, port, %purpose, %why, "outbound connection refused");
                    DialError::Refused {
                        host: host.to_string(),
                        why,
                    }
                })?;
            }
        }
        Ok(found
            .into_iter()
            .take(MAX_ADDRESSES)
            .map(|ip| SocketAddr::new(ip, port))
            .collect())
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, DialError> {
        let host = || name.to_owned();
        let answer = timeout(CONNECT_TIMEOUT, self.0.resolver.resolve(name))
            .await
            .map_err(|_| DialError::Timeout { host: host() })?;
        match answer {
            Ok(found) if found.is_empty() => Err(DialError::NotFound { host: host() }),
            Ok(found) => Ok(found),
            Err(LookupError::NotFound) => Err(DialError::NotFound { host: host() }),
            Err(error @ LookupError::Unavailable(_)) => Err(DialError::Io {
                host: host(),
                source: std::io::Error::other(error),
            }),
        }
    }

    /// Connects to one of the judged addresses, without TLS: for protocols that bring their own.
    pub async fn connect(&self, purpose: Purpose, host: &Host, port: u16) -> Result<TcpStream, DialError> {
        let late = || DialError::Timeout { host: host.to_string() };
        timeout(CONNECT_TIMEOUT, async {
            let addresses = self.addresses(purpose, host, port).await?;
            // A dead address must leave time for the next one.
            let share = CONNECT_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
            let mut last = late();
            for address in addresses {
                match timeout(share.max(Duration::from_secs(1)), TcpStream::connect(address)).await {
                    Ok(Ok(tcp)) => {
                        tcp.set_nodelay(true).map_err(|source| DialError::Io {
                            host: host.to_string(),
                            source,
                        })?;
                        return Ok(tcp);
                    }
                    Ok(Err(source)) => {
                        last = DialError::Io {
                            host: host.to_string(),
                            source,
                        }
                    }
                    Err(_) => last = late(),
                }
            }
            Err(last)
        })
        .await
        .unwrap_or_else(|_| Err(late()))
    }

    /// Connects as the URL says: TLS, its name verified, or plain where the operator's list lets http through.
    pub async fn connect_url(
        &self,
        purpose: Purpose,
        url: &OutboundUrl,
        protocols: Protocols,
    ) -> Result<Stream, DialError> {
        // The URL may have been checked against another list than this dialer's.
        let url = OutboundUrl::parse(url.as_str(), purpose, self.allow())?;
        let tcp = self.connect(purpose, url.host(), url.port()).await?;
        if !url.is_https() {
            return Ok(Stream::Plain(tcp));
        }
        self.handshake(url.host(), tcp, protocols).await
    }

    async fn handshake(&self, host: &Host, tcp: TcpStream, protocols: Protocols) -> Result<Stream, DialError> {
        let config = match protocols {
            Protocols::Http1 => &self.0.http1,
            Protocols::Http2OrHttp1 => &self.0.http2,
        };
        let tls = |source| DialError::Tls {
            host: host.to_string(),
            source,
        };
        let name = match host {
            Host::Address(ip) => ServerName::from(*ip),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|bad| tls(std::io::Error::other(bad)))?,
        };
        match timeout(
            CONNECT_TIMEOUT,
            TlsConnector::from(Arc::clone(config)).connect(name, tcp),
        )
        .await
        {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(source)) => Err(tls(source)),
            Err(_) => Err(DialError::Timeout { host: host.to_string() }),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("allow", &self.0.allow)
            .finish_non_exhaustive()
    }
}
