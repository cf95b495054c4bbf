//! A URL that Pond may dial: https, a host, no user, no literal address that the rule refuses.

use std::fmt;

use url::Url;

use super::{AllowPrivate, BadHost, Host, Purpose, Refused, judge};

/// The longest URL, in bytes.
pub const MAX_URL: usize = 4096;

/// A URL that passed the part of the outbound rule that needs no resolver. Its host is normalized.
#[derive(Clone, PartialEq, Eq)]
pub struct OutboundUrl {
    url: Url,
    host: Host,
    port: u16,
}

/// Why a URL may not be dialled. Never holds any of its text, which may carry a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Over [`MAX_URL`].
    #[error("the URL is longer than {MAX_URL} bytes")]
    TooLong,
    /// Not a URL with a host.
    #[error("must be an absolute https URL")]
    Malformed,
    /// Neither https nor http.
    #[error("must be an https URL")]
    Scheme,
    /// http, to a place that is not listed.
    #[error(
        "must be an https URL: http is for places that POND_OUTBOUND_ALLOW_PRIVATE or POND_MODEL_ALLOW_PRIVATE lists"
    )]
    Plain,
    /// A user or password in it.
    #[error("must not hold a user name or password")]
    Userinfo,
    /// The host is not one.
    #[error(transparent)]
    Host(#[from] BadHost),
    /// The host is a literal address that the rule refuses.
    #[error("the host is {0}, which may not be dialled")]
    Address(#[from] Refused),
}

impl OutboundUrl {
    /// Reads and checks a URL.
    pub fn parse(text: &str, purpose: Purpose, allow: &AllowPrivate) -> Result<Self, BadUrl> {
        let mut url = read(text)?;
        let host = Host::parse(url.host_str().ok_or(BadUrl::Malformed)?)?;
        let port = url
            .port_or_known_default()
            .filter(|port| *port != 0)
            .ok_or(BadUrl::Malformed)?;
        // The last dot must not make two spellings of one place.
        url.set_host(Some(&host.to_string())).map_err(|_| BadUrl::Malformed)?;
        if !allow.admits(purpose, &host, port) {
            if url.scheme() == "http" {
                return Err(BadUrl::Plain);
            }
            if let Some(ip) = host.address() {
                judge(ip)?;
            }
        }
        Ok(Self { url, host, port })
    }

    /// The whole URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its port, the scheme's own where none was written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is encrypted; if not, the operator listed the place.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// Reads what every browser reads alike; the repairs of the URL standard (tabs, backslashes, missing slashes) are refused,
/// since the next program in line may repair otherwise.
fn read(text: &str) -> Result<Url, BadUrl> {
    if text.len() > MAX_URL {
        return Err(BadUrl::TooLong);
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(BadUrl::Malformed);
    }
    let (scheme, rest) = text.split_once(':').ok_or(BadUrl::Malformed)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(BadUrl::Scheme);
    }
    let rest = rest.strip_prefix("//").ok_or(BadUrl::Malformed)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // An empty user (`https://@host`) vanishes in parsing, so it is looked for here.
    if authority.contains('@') {
        return Err(BadUrl::Userinfo);
    }
    if authority.is_empty() {
        return Err(BadUrl::Malformed);
    }
    Url::parse(text).map_err(|_| BadUrl::Malformed)
}

impl fmt::Debug for OutboundUrl {
    /// Path and query may carry a token (a webhook's often do).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutboundUrl({}://{}:{}/..)", self.url.scheme(), self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OutboundUrl, BadUrl> {
        OutboundUrl::parse(text, Purpose::Git, &AllowPrivate::default())
    }

    #[test]
    fn a_public_https_url_is_normalized() {
        let url = parse("HTTPS://GitHub.COM./a/b.git?x=1").unwrap();
        assert_eq!(url.as_str(), "https://github.com/a/b.git?x=1");
        assert_eq!(
            (url.host().to_string().as_str(), url.port(), url.is_https()),
            ("github.com", 443, true)
        );
        assert_eq!(parse("https://h:8443/").unwrap().port(), 8443);
        assert!(parse("https://8.8.8.8/").is_ok());
        assert!(!format!("{:?}", parse("https://h/?token=abc").unwrap()).contains("abc"));
    }

    #[test]
    fn what_is_not_plain_https_is_refused() {
        for (text, why) in [
            ("http://github.com/a", BadUrl::Plain),
            ("file:///etc/passwd", BadUrl::Scheme),
            ("ssh://git@github.com/a", BadUrl::Scheme),
            ("git@github.com:a/b", BadUrl::Scheme),
            ("ext::sh -c id", BadUrl::Malformed),
            ("ext::sh", BadUrl::Scheme),
            ("git://github.com/a", BadUrl::Scheme),
            ("https://user@github.com/a", BadUrl::Userinfo),
            ("https://user:pass@github.com/a", BadUrl::Userinfo),
            ("https://@github.com/a", BadUrl::Userinfo),
            ("https://github.com@evil.test/a", BadUrl::Userinfo),
            ("https:github.com/a", BadUrl::Malformed),
            ("https:///github.com/a", BadUrl::Malformed),
            ("https://", BadUrl::Malformed),
            ("https://h:0/", BadUrl::Malformed),
            ("https://h:99999/", BadUrl::Malformed),
            ("https://h\\@evil.test/", BadUrl::Malformed),
            ("https://h/\n", BadUrl::Malformed),
            (" https://h/", BadUrl::Malformed),
            ("github.com/a", BadUrl::Malformed),
            ("", BadUrl::Malformed),
        ] {
            assert_eq!(parse(text).err(), Some(why), "{text}");
        }
        assert_eq!(
            parse(&format!("https://h/{}", "a".repeat(MAX_URL))).err(),
            Some(BadUrl::TooLong)
        );
    }

    #[test]
    fn literal_addresses_are_judged_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "%31%32%37.0.0.1",
            "[::1]",
            "[fd00:ec2::254]",
            "0",
            "[64:ff9b::127.0.0.1]",
        ] {
            assert!(
                matches!(parse(&format!("https://{host}/")), Err(BadUrl::Address(_))),
                "{host}"
            );
        }
    }

    #[test]
    fn a_listed_place_may_be_private_and_plain_for_its_use() {
        let allow = AllowPrivate::parse("git=127.0.0.1:8080,webhook=hook.internal:80").unwrap();
        let parse = |text, purpose| OutboundUrl::parse(text, purpose, &allow);

        assert!(!parse("http://127.0.0.1:8080/a", Purpose::Git).unwrap().is_https());
        assert!(parse("https://127.0.0.1:8080/a", Purpose::Git).is_ok());
        assert!(parse("http://2130706433:8080/a", Purpose::Git).is_ok());
        assert!(parse("http://hook.internal/a", Purpose::Webhook).is_ok());
        assert_eq!(
            parse("http://127.0.0.1:8080/a", Purpose::Webhook).err(),
            Some(BadUrl::Plain)
        );
        assert_eq!(
            parse("https://127.0.0.1:8081/a", Purpose::Git).err(),
            Some(BadUrl::Address(Refused::Loopback))
        );
    }
}
