//! TLS to the outside: the name is verified, and only the system's and the operator's certificates count.

use std::fs;
use std::sync::Arc;

use pond_core::outbound::{AllowPrivate, OutboundUrl, Purpose};
use pond_core::sources::{Kind, Limits, parse};
use pond_worker::net::testing::{GitBehaviour, GitRepo, GitServer, ScriptedResolver};
use pond_worker::net::{DialError, Dialer, DialerSettings, GitFetcher, Protocols, Stream, read_ca_file};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    files: 100,
};

/// A CA and a server configuration for `name` signed by it.
fn authority(name: &str, alpn: &[&str]) -> (CertificateDer<'static>, String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    (ca.der().clone(), ca.pem(), Arc::new(config))
}

fn dialer(port: u16, extra_ca: Vec<CertificateDer<'static>>) -> Dialer {
    let allow = AllowPrivate::parse(&format!("git=inner.test:{port},git=other.test:{port}")).unwrap();
    let resolver = ScriptedResolver::new()
        .answer("inner.test", &["127.0.0.1"])
        .answer("other.test", &["127.0.0.1"]);
    Dialer::with_resolver(
        DialerSettings {
            resolver: None,
            extra_ca,
            allow,
        },
        Arc::new(resolver),
    )
    .unwrap()
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_name_the_host() {
    let temp = tempfile::tempdir().unwrap();
    let (ca, _, config) = authority("inner.test", &["h2", "http/1.1"]);
    let server = GitServer::start_tls(temp.path(), GitBehaviour::default(), config).await;
    let port = server.address().port();
    let connect = async |dialer: &Dialer, host: &str, protocols| {
        let url = OutboundUrl::parse(&format!("https://{host}:{port}/"), Purpose::Git, dialer.allow()).unwrap();
        dialer.connect_url(Purpose::Git, &url, protocols).await
    };

    let trusting = dialer(port, vec![ca]);
    let plain = connect(&trusting, "inner.test", Protocols::Http1).await.unwrap();
    assert!(matches!(plain, Stream::Tls(_)) && !plain.is_h2());
    assert!(
        connect(&trusting, "inner.test", Protocols::Http2OrHttp1)
            .await
            .unwrap()
            .is_h2()
    );
    let other = connect(&trusting, "other.test", Protocols::Http1).await;
    assert!(matches!(other, Err(DialError::Tls { .. })), "another name: {other:?}");
    let stranger = connect(&dialer(port, Vec::new()), "inner.test", Protocols::Http1).await;
    assert!(
        matches!(stranger, Err(DialError::Tls { .. })),
        "an unknown CA: {stranger:?}"
    );
}

#[tokio::test]
async fn git_trusts_the_same_certificates() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("scratch")).unwrap();
    let (_, pem, config) = authority("inner.test", &[]);
    fs::write(temp.path().join("ca.pem"), pem).unwrap();
    let extra = read_ca_file(&temp.path().join("ca.pem")).unwrap();
    let commit = GitRepo::init(&temp.path().join("served"), "app").commit(&[("a", "")]);
    let server = GitServer::start_tls(&temp.path().join("served"), GitBehaviour::default(), config).await;
    let port = server.address().port();
    let fetch = async |dialer: Dialer, host: &str| {
        let url = format!("https://{host}:{port}/app");
        let list = json!([{"label": "app", "kind": "git_https", "config": {"url": url}}]);
        let Kind::GitHttps(git) = parse(&list, "", dialer.allow()).unwrap().remove(0).kind else {
            panic!("a git source")
        };
        let fetcher = GitFetcher::new(dialer, temp.path().join("scratch"), LIMITS);
        fetcher.fetch(&git, None, None, &temp.path().join("into")).await
    };

    for (dialer, host) in [
        (dialer(port, Vec::new()), "inner.test"),
        (dialer(port, extra.clone()), "other.test"),
    ] {
        let error = fetch(dialer, host).await.unwrap_err();
        assert!(error.to_string().contains("TLS certificate"), "{host}: {error}");
    }
    assert_eq!(server.requests(), 0);
    assert_eq!(fetch(dialer(port, extra), "inner.test").await, Ok(commit));
}

#[test]
fn a_ca_file_holds_certificates_or_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("ca.pem");
    assert!(read_ca_file(&path).is_err());
    for text in [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&path, text).unwrap();
        assert!(read_ca_file(&path).is_err(), "{text:?}");
    }
}
