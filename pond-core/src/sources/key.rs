//! What a source is fetched with, and whether a credential may be used for it. Judged twice by the same function: at preflight
//! over what is stored, and before each fetch over what is then opened.

use std::fmt;

use super::{Kind, Source};
use crate::config::{Credential, CredentialSecrets};
use crate::outbound::Host;
use crate::secret::Secret;

/// The secret of a git credential, and the name that may go with it.
const GIT_TOKEN: &str = "GIT_TOKEN";
const GIT_USERNAME: &str = "GIT_USERNAME";
/// GitHub's word for a token's user; others take any.
const ANY_USERNAME: &str = "x-access-token";

const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// An opened credential, as one kind of source takes it.
#[derive(Debug, Clone)]
pub enum SourceKey {
    /// For git over https.
    Git(GitKey),
    /// For object storage.
    S3(S3Key),
}

/// A token for HTTP basic authentication.
#[derive(Clone)]
pub struct GitKey {
    /// The user name that the server expects beside it.
    pub username: String,
    /// The token.
    pub token: Secret,
}

/// Keys of an S3 service.
#[derive(Clone)]
pub struct S3Key {
    /// Which key it is.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// What temporary keys come with.
    pub session_token: Option<Secret>,
}

/// Why a credential may not be used for a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// There is none of this name in scope.
    #[error("is not there")]
    Missing,
    /// It is for something else.
    #[error("is not of provider {0}")]
    Provider(&'static str),
    /// A part of it is missing.
    #[error("has no {0}")]
    Lacks(&'static str),
    /// Its hosts, path prefixes or buckets do not cover the source.
    #[error("may not be sent where the source is: its hosts or buckets do not cover it")]
    Place,
}

impl KeyRefused {
    /// The code of the problem that preflight tells.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing | Self::Provider(_) | Self::Lacks(_) => "credential_missing",
            Self::Place => "credential_host_mismatch",
        }
    }
}

/// Whether this credential may be used for this source.
///
/// # Errors
/// Why not.
pub fn fits(source: &Source, credential: &Credential) -> Result<(), KeyRefused> {
    let (provider, needed): (_, &[&'static str]) = match &source.kind {
        Kind::GitHttps(_) => ("git", &[GIT_TOKEN]),
        Kind::S3(_) => ("s3", &[ACCESS_KEY, SECRET_KEY]),
        // Neither takes a credential.
        Kind::Folder(_) | Kind::Tarball(_) => return Err(KeyRefused::Place),
    };
    if credential.provider != provider {
        return Err(KeyRefused::Provider(provider));
    }
    if let Some(lacking) = needed.iter().find(|name| !credential.secret_keys.contains(**name)) {
        return Err(KeyRefused::Lacks(lacking));
    }
    if covered(source, credential) {
        Ok(())
    } else {
        Err(KeyRefused::Place)
    }
}

/// Whether host, port and path (with bucket and prefix, which are its beginning) are among the credential's.
fn covered(source: &Source, credential: &Credential) -> bool {
    let covers = |host: &Host, port, path: &str| credential.hosts.iter().any(|own| own.covers(host, port, path));
    match &source.kind {
        Kind::GitHttps(git) => covers(git.url.host(), git.url.port(), git.url.url().path()),
        Kind::S3(s3) => {
            let Ok(url) = url::Url::parse(&s3.endpoint()) else {
                return false;
            };
            let Some(Ok(host)) = url.host_str().map(Host::parse) else {
                return false;
            };
            let port = url.port_or_known_default().unwrap_or_default();
            let base = url.path().trim_end_matches('/');
            let path = format!("{base}/{}/{}", s3.bucket, s3.prefix);
            credential.buckets.contains(&s3.bucket) && covers(&host, port, &path)
        }
        Kind::Folder(_) | Kind::Tarball(_) => false,
    }
}

impl SourceKey {
    /// What this credential is to this source.
    ///
    /// # Errors
    /// When it may not be used for it.
    pub fn open(source: &Source, credential: &Credential, mut secrets: CredentialSecrets) -> Result<Self, KeyRefused> {
        fits(source, credential)?;
        let mut take = |name: &'static str| secrets.remove(name).ok_or(KeyRefused::Lacks(name));
        match &source.kind {
            Kind::GitHttps(_) => {
                let token = take(GIT_TOKEN)?;
                let plain = credential.env.get(GIT_USERNAME).cloned();
                let username = plain.or_else(|| take(GIT_USERNAME).ok().map(|name| name.expose().to_owned()));
                let username = username.unwrap_or_else(|| ANY_USERNAME.to_owned());
                Ok(Self::Git(GitKey { username, token }))
            }
            Kind::S3(_) => Ok(Self::S3(S3Key {
                access_key_id: take(ACCESS_KEY)?.expose().to_owned(),
                secret_access_key: take(SECRET_KEY)?,
                session_token: take(SESSION_TOKEN).ok(),
            })),
            Kind::Folder(_) | Kind::Tarball(_) => Err(KeyRefused::Place),
        }
    }
}

impl fmt::Debug for GitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GitKey(..)")
    }
}

impl fmt::Debug for S3Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::CredentialHost;
    use crate::outbound::AllowPrivate;
    use crate::sources::parse;

    fn source(kind: &str, config: &Value) -> Source {
        let list = json!([{"label": "a", "kind": kind, "config": config}]);
        parse(&list, "", &AllowPrivate::default()).unwrap().remove(0)
    }

    fn credential(provider: &str, hosts: &[&str], buckets: &[&str], secrets: &[&str]) -> Credential {
        Credential {
            name: "c".into(),
            provider: provider.into(),
            env: Default::default(),
            secret_keys: secrets.iter().map(|name| (*name).to_owned()).collect(),
            hosts: hosts.iter().map(|text| CredentialHost::parse(text).unwrap()).collect(),
            buckets: buckets.iter().map(|name| (*name).to_owned()).collect(),
            remote_features: Default::default(),
        }
    }

    #[test]
    fn c17_85_a_credential_is_for_its_places_alone() {
        let git = |url: &str| source("git_https", &json!({"url": url, "credential": "c"}));
        let s3 = |bucket: &str, prefix: &str| {
            source(
                "s3",
                &json!({"bucket": bucket, "prefix": prefix, "region": "eu-west-1"}),
            )
        };
        let aws = [ACCESS_KEY, SECRET_KEY];
        let home = "s3.eu-west-1.amazonaws.com";
        for (source, credential, expected) in [
            (
                git("https://git.test/acme/app"),
                credential("git", &["git.test/acme"], &[], &[GIT_TOKEN]),
                Ok(()),
            ),
            (
                git("https://git.test/acme-x/app"),
                credential("git", &["git.test/acme"], &[], &[GIT_TOKEN]),
                Err(KeyRefused::Place),
            ),
            (
                git("https://git.test:8443/acme"),
                credential("git", &["git.test"], &[], &[GIT_TOKEN]),
                Err(KeyRefused::Place),
            ),
            (
                git("https://evil.test/acme"),
                credential("git", &["git.test"], &[], &[GIT_TOKEN]),
                Err(KeyRefused::Place),
            ),
            (
                git("https://git.test/acme"),
                credential("s3", &["git.test"], &["bbb"], &aws),
                Err(KeyRefused::Provider("git")),
            ),
            (
                git("https://git.test/acme"),
                credential("git", &["git.test"], &[], &[]),
                Err(KeyRefused::Lacks(GIT_TOKEN)),
            ),
            (s3("bbb", "p/"), credential("s3", &[home], &["bbb"], &aws), Ok(())),
            (
                s3("bbb", "p/"),
                credential("s3", &[home], &["ccc"], &aws),
                Err(KeyRefused::Place),
            ),
            (
                s3("bbb", "p/"),
                credential("s3", &["s3.us-east-1.amazonaws.com"], &["bbb"], &aws),
                Err(KeyRefused::Place),
            ),
            (
                s3("bbb", "p/x"),
                credential("s3", &["s3.eu-west-1.amazonaws.com/bbb/p"], &["bbb"], &aws),
                Ok(()),
            ),
            (
                s3("bbb", "px"),
                credential("s3", &["s3.eu-west-1.amazonaws.com/bbb/p"], &["bbb"], &aws),
                Err(KeyRefused::Place),
            ),
            (
                s3("bbb", ""),
                credential("s3", &[home], &["bbb"], &[ACCESS_KEY]),
                Err(KeyRefused::Lacks(SECRET_KEY)),
            ),
            (
                source("tarball", &json!({"url": "https://git.test/a"})),
                credential("git", &["git.test"], &[], &[GIT_TOKEN]),
                Err(KeyRefused::Place),
            ),
        ] {
            assert_eq!(fits(&source, &credential), expected, "{source:?} with {credential:?}");
        }
    }

    #[test]
    fn an_opened_key_never_shows_itself() {
        let credential = credential("git", &["git.test"], &[], &[GIT_TOKEN]);
        let secrets = CredentialSecrets::from([(GIT_TOKEN.to_owned(), Secret::new("CANARY"))]);
        let source = source("git_https", &json!({"url": "https://git.test/a", "credential": "c"}));
        let key = SourceKey::open(&source, &credential, secrets).unwrap();
        assert!(!format!("{key:?}").contains("CANARY"));
        let SourceKey::Git(key) = key else { panic!("for git") };
        assert_eq!((key.username.as_str(), key.token.expose()), (ANY_USERNAME, "CANARY"));
    }
}
