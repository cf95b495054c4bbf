//! How programs in a sandbox come to trust its own certificate authority: a bundle of the host's roots and that authority,
//! laid where tools look, and the variables that name it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pond_core::sandbox::{Access, Mount};
use rustls::pki_types::CertificateDer;

/// Where the bundle is inside.
pub const BUNDLE: &str = "/run/pond/ca-certificates.crt";
/// Where the authority alone is inside.
pub const AUTHORITY: &str = "/run/pond/sandbox-ca.crt";
/// Where systems keep their own bundle.
const SYSTEM: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Variables that name a bundle to be used in place of a tool's own roots.
const INSTEAD: [&str; 19] = [
    "AWS_CA_BUNDLE",
    "BUNDLE_SSL_CA_CERT",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "COMPOSER_CAFILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HEX_CACERTS_PATH",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "NPM_CONFIG_CAFILE",
    "PERL_LWP_SSL_CA_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "YARN_HTTPS_CA_FILE_PATH",
    "npm_config_cafile",
];
/// The variable that names certificates beside a tool's own roots.
const BESIDE: &str = "NODE_EXTRA_CA_CERTS";

/// The names of all variables that say whom to trust.
pub fn variables() -> impl Iterator<Item = &'static str> {
    INSTEAD.into_iter().chain([BESIDE])
}

/// What a sandbox is given to trust its authority.
#[derive(Debug, Clone)]
pub struct Trust {
    bundle: String,
    authority: String,
}

/// A trust that was laid into a folder of the host.
#[derive(Debug, Clone, Default)]
pub struct Laid {
    /// What is to be shown inside.
    pub mounts: Vec<Mount>,
    /// What is to be set there.
    pub env: BTreeMap<String, String>,
}

impl Trust {
    /// The host's roots, those the operator adds, and this authority.
    pub fn new(authority: &str, extra: &[CertificateDer<'static>]) -> Self {
        let system = rustls_native_certs::load_native_certs().certs;
        let mut bundle = String::new();
        for root in system.iter().chain(extra) {
            pem(&mut bundle, root);
        }
        bundle.push_str(authority);
        Self {
            bundle,
            authority: authority.to_owned(),
        }
    }

    /// Writes its files into a folder of the host, and tells how they are to be shown. The system's own bundle is covered
    /// where it is `present` in the sandbox: the backend's root may not be the host's.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn lay(&self, folder: &Path, present: impl Fn(&Path) -> bool) -> io::Result<Laid> {
        let bundle = write(folder, "ca-certificates.crt", &self.bundle)?;
        let authority = write(folder, "sandbox-ca.crt", &self.authority)?;
        let mount = |host: &Path, inside: &str| Mount {
            host: host.to_owned(),
            inside: inside.into(),
            access: Access::Read,
        };
        let mut mounts = vec![mount(&bundle, BUNDLE), mount(&authority, AUTHORITY)];
        let system = SYSTEM.into_iter().filter(|path| present(Path::new(path)));
        mounts.extend(system.map(|path| mount(&bundle, path)));
        let mut env: BTreeMap<String, String> =
            INSTEAD.iter().map(|name| ((*name).to_owned(), BUNDLE.into())).collect();
        env.insert(BESIDE.into(), AUTHORITY.into());
        Ok(Laid { mounts, env })
    }
}

/// Whether a bundle of the host's is a file that a sandbox over the host's own system shows: a link leads elsewhere.
pub fn on_the_host(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.is_file())
}

/// Whether a bundle is covered in an image, of which nothing is known: where most systems keep theirs. A file that an image
/// lacks is made for the mount.
pub fn in_an_image(path: &Path) -> bool {
    path == Path::new(SYSTEM[0])
}

fn write(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444))?;
    Ok(path)
}

fn pem(out: &mut String, certificate: &CertificateDer<'_>) {
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    let text = STANDARD.encode(certificate);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = left;
    }
    out.push_str("-----END CERTIFICATE-----\n");
}
