//! Names to addresses: the port, and its form over DNS.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::SetupError;

/// How long one question may wait for its answer, before it is asked once more.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There is no such name, or it has no address.
    #[error("no such host")]
    NotFound,
    /// The resolver did not answer.
    #[error("the resolver did not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Finds the addresses of names.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of a normalized name, of both families. Never an empty list.
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, LookupError>;
}

/// Asks DNS (and, unless a server is given, the hosts file first).
pub struct DnsResolver(TokioResolver);

impl DnsResolver {
    /// As the system is configured. Search domains are not used: a name means one place.
    pub fn system() -> Result<Self, SetupError> {
        let mut builder = TokioResolver::builder_tokio().map_err(|error| SetupError::Resolver(Box::new(error)))?;
        bound(builder.options_mut());
        builder.options_mut().use_hosts_file = ResolveHosts::Always;
        Ok(Self(
            builder.build().map_err(|error| SetupError::Resolver(Box::new(error)))?,
        ))
    }

    /// Asks this server and nobody else.
    pub fn at(server: SocketAddr) -> Result<Self, SetupError> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
            .map(|mut connection| {
                connection.port = server.port();
                connection
            })
            .to_vec();
        let config = ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections)]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        bound(builder.options_mut());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        Ok(Self(
            builder.build().map_err(|error| SetupError::Resolver(Box::new(error)))?,
        ))
    }
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = QUERY_TIMEOUT;
    options.attempts = 2;
    // Both families, always: one bad address of either refuses the name.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}

#[async_trait]
impl Resolve for DnsResolver {
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        // The last dot keeps search domains out.
        let answer = self.0.lookup_ip(format!("{name}.")).await.map_err(|error: NetError| {
            match error.is_no_records_found() || error.is_nx_domain() {
                true => LookupError::NotFound,
                false => LookupError::Unavailable(Box::new(error)),
            }
        })?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() {
            Err(LookupError::NotFound)
        } else {
            Ok(addresses)
        }
    }
}
