//! Whom outbound TLS trusts: the system's certificates and those the operator adds.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The largest file of extra certificates.
const MAX_CA_FILE: u64 = 4 << 20;

/// Why the dialer cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The system's resolver settings cannot be used.
    #[error("the resolver settings cannot be used")]
    Resolver(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An extra CA certificate is not one.
    #[error("an extra CA certificate is not valid")]
    Certificate(#[source] rustls::Error),
    /// The TLS provider lacks what is asked of it.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Why a file of CA certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// It cannot be read.
    #[error("cannot be read")]
    Unreadable(#[source] std::io::Error),
    /// It is not a list of PEM certificates.
    #[error("is not a file of PEM certificates")]
    Malformed,
}

/// Reads the certificates of a PEM file; one without any is refused.
pub fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let size = std::fs::metadata(path).map_err(CaFileError::Unreadable)?.len();
    if size > MAX_CA_FILE {
        return Err(CaFileError::Malformed);
    }
    let text = std::fs::read(path).map_err(CaFileError::Unreadable)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| CaFileError::Malformed)?;
    if certificates.is_empty() {
        Err(CaFileError::Malformed)
    } else {
        Ok(certificates)
    }
}

/// A client configuration on ring, without ALPN. A system without certificates is no error: the extra ones may be enough,
/// and without any every handshake fails.
pub(super) fn config(extra: &[CertificateDer<'static>]) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (_, ignored) = roots.add_parsable_certificates(system.certs);
    if ignored > 0 || !system.errors.is_empty() {
        tracing::debug!(
            ignored,
            errors = system.errors.len(),
            "some system certificates are left out"
        );
    }
    for certificate in extra {
        roots.add(certificate.clone()).map_err(SetupError::Certificate)?;
    }
    if roots.is_empty() {
        tracing::warn!("no CA certificates found: outbound TLS will fail");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
