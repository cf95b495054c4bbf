//! The certificate authority of one sandbox: signs for the hosts that carry its secrets, and for nothing else.
//!
//! Its key is made in memory and stays there; no other sandbox trusts it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pond_core::clock::{Clock, Timestamp};
use pond_core::entropy::Entropy;
use pond_core::outbound::{Host, HostPattern};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, sign::CertifiedKey, sign::SingleCertAndKey};
use time::OffsetDateTime;

/// Certificates that are kept for the next connection.
const MAX_LEAVES: usize = 128;
/// For how long a host's certificate is good, and how much of that must be left when it is used.
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);
const LEAF_REST: Duration = Duration::from_secs(3600);
/// How much clocks may differ.
const SKEW: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// It could not be made or signed.
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot use it.
    #[error("a certificate cannot be used")]
    Tls(#[from] rustls::Error),
    /// A date that no certificate can hold.
    #[error("a certificate's date is out of range")]
    Date,
}

/// The authority of one sandbox.
pub struct SandboxCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    until: Timestamp,
    /// One key for all hosts.
    leaf: KeyPair,
    leaves: Mutex<Leaves>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for SandboxCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxCa").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Leaves {
    by_host: HashMap<Host, (Arc<ServerConfig>, Timestamp)>,
    /// In the order in which they were made.
    order: VecDeque<Host>,
}

impl SandboxCa {
    /// A fresh authority that is good for `life`. `hosts`, where there are any, are written into it as the only ones it can
    /// sign for: for sandboxes whose rules do not change.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn mint(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        life: Duration,
        hosts: &[HostPattern],
    ) -> Result<Self, CaError> {
        let now = clock.now();
        let until = now.plus(life);
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Pond sandbox");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date(now.minus(SKEW))?;
        params.not_after = date(until)?;
        params.serial_number = Some(serial(&*entropy));
        params.name_constraints = (!hosts.is_empty()).then(|| constraints(hosts));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
            until,
            leaf: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            leaves: Mutex::default(),
            clock,
            entropy,
        })
    }

    /// Its certificate, for the sandbox to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// How TLS is served as this host, without ALPN. The caller has seen that the host carries secrets.
    pub(super) fn serve_as(&self, host: &Host) -> Result<Arc<ServerConfig>, CaError> {
        let now = self.clock.now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, until)) = leaves.by_host.get(host)
            && now.plus(LEAF_REST) < *until
        {
            return Ok(Arc::clone(config));
        }
        let until = now.plus(LEAF_LIFE).min(self.until);
        let config = Arc::new(self.sign(host, now, until)?);
        if leaves
            .by_host
            .insert(host.clone(), (Arc::clone(&config), until))
            .is_none()
        {
            leaves.order.push_back(host.clone());
            if leaves.order.len() > MAX_LEAVES
                && let Some(oldest) = leaves.order.pop_front()
            {
                leaves.by_host.remove(&oldest);
            }
        }
        Ok(config)
    }

    fn sign(&self, host: &Host, now: Timestamp, until: Timestamp) -> Result<ServerConfig, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Pond egress proxy");
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Address(ip) => SanType::IpAddress(*ip),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date(now.minus(SKEW))?;
        params.not_after = date(until)?;
        params.serial_number = Some(serial(&*self.entropy));
        let certificate = params.signed_by(&self.leaf, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf.serialize_der()));
        let key = CertifiedKey::new(vec![certificate], ring::sign::any_ecdsa_type(&key)?);
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        Ok(config)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn serial(entropy: &dyn Entropy) -> SerialNumber {
    let mut number = entropy.draw::<16>();
    // Positive, and of full length.
    number[0] = number[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&number)
}

fn date(at: Timestamp) -> Result<OffsetDateTime, CaError> {
    OffsetDateTime::from_unix_timestamp(at.millis().div_euclid(1000)).map_err(|_| CaError::Date)
}

fn constraints(hosts: &[HostPattern]) -> NameConstraints {
    let all = |ip: IpAddr| CidrSubnet::from_addr_prefix(ip, 0);
    let (mut permitted, mut v4, mut v6) = (Vec::new(), false, false);
    for host in hosts {
        permitted.push(match address(host) {
            Some(ip) => {
                v4 |= ip.is_ipv4();
                v6 |= ip.is_ipv6();
                let whole = if ip.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, whole))
            }
            // Sub-domains are always permitted along with a name.
            None => GeneralSubtree::DnsName(bare(host).trim_start_matches('.').to_owned()),
        });
    }
    let mut excluded = Vec::new();
    if !v4 && !v6 {
        // Without a word about addresses all of them would be permitted.
        excluded.push(GeneralSubtree::IpAddress(all(IpAddr::from([0; 4]))));
        excluded.push(GeneralSubtree::IpAddress(all(IpAddr::from([0; 16]))));
    }
    if !permitted
        .iter()
        .any(|subtree| matches!(subtree, GeneralSubtree::DnsName(_)))
    {
        // Nor would any name be left out.
        permitted.push(GeneralSubtree::DnsName("invalid".into()));
    }
    NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: excluded,
    }
}

/// The host of a rule without its port.
fn bare(host: &HostPattern) -> &str {
    match host.as_str().rsplit_once(':') {
        Some((bare, port)) if !port.ends_with(']') => bare,
        _ => host.as_str(),
    }
}

fn address(host: &HostPattern) -> Option<IpAddr> {
    Host::parse(bare(host)).ok().and_then(|host| host.address())
}
