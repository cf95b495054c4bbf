//! A request within an opened tunnel: whether it may pass, and what of it does.

use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, StatusCode, Uri, Version};
use pond_core::outbound::Host;

const HTTPS: u16 = 443;
/// Headers between two neighbours, beside those that `Connection` names.
const HOPS: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Which HTTP is spoken, on both sides of a tunnel alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Why a request does not pass.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: String,
    /// Whether the whole tunnel ends with it.
    pub(super) cut: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        let (reason, cut) = (reason.into(), false);
        Self { status, reason, cut }
    }
}

/// The place that a tunnel leads to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Place {
    /// As requests name it.
    fn authority(&self) -> String {
        match self.port {
            HTTPS => self.host.to_string(),
            port => format!("{}:{port}", self.host),
        }
    }

    fn is_named_by(&self, text: &str) -> bool {
        if text.contains('@') || text.ends_with(':') {
            return false;
        }
        let Ok(authority) = text.parse::<Authority>() else {
            return false;
        };
        let port = authority.port().map_or(Some(HTTPS), |port| port.as_str().parse().ok());
        port == Some(self.port) && Host::parse(authority.host()).as_ref() == Ok(&self.host)
    }
}

/// Whether a request may pass. Whatever names another place than the tunnel's ends the tunnel.
pub(super) fn judge(request: &Parts, place: &Place, upgrade: bool) -> Result<(), Refusal> {
    let hosts: Vec<&HeaderValue> = request.headers.get_all(HOST).iter().collect();
    let uri = request.uri.authority().map(Authority::as_str);
    let named = hosts.iter().map(|host| host.to_str().unwrap_or_default()).chain(uri);
    let is_named = hosts.len() + usize::from(uri.is_some()) > 0 && hosts.len() <= 1;
    let is_https = request.uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTPS);
    if !is_named || !is_https || !named.into_iter().all(|text| place.is_named_by(text)) {
        return Err(Refusal {
            status: StatusCode::MISDIRECTED_REQUEST,
            reason: format!(
                "a request within the tunnel to {} is for another host",
                place.authority()
            ),
            cut: true,
        });
    }
    if matches!(request.method, Method::TRACE | Method::CONNECT) {
        let reason = format!("{} is not passed on where secrets are put in", request.method);
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, reason));
    }
    if request.headers.contains_key(UPGRADE) && !upgrade {
        let reason = format!(
            "changing the protocol is refused; an egress rule for {} with upgrade: true would allow it",
            place.authority()
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, reason));
    }
    Ok(())
}

/// Makes a judged request ready for the far side, but for its secrets and its body.
pub(super) fn readdress(request: &mut Parts, place: &Place, protocol: Protocol) -> Result<(), Refusal> {
    let trailers = request.headers.get_all(TE).iter().any(says_trailers);
    end_hop(&mut request.headers);
    request.headers.remove(TE);
    request.headers.remove(ACCEPT_ENCODING);
    // Written anew, so that nobody reads it in another way than it was judged.
    let authority = place.authority();
    let bad = |_| Refusal::new(StatusCode::BAD_REQUEST, "the request's path is not valid");
    let mut uri = hyper::http::uri::Parts::default();
    let path = request.uri.path_and_query().cloned();
    uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    request.headers.remove(HOST);
    match protocol {
        Protocol::Http1 => {
            let host = HeaderValue::from_str(&authority);
            let host = host.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the host fits in no header"))?;
            request.headers.insert(HOST, host);
            request.version = Version::HTTP_11;
            if trailers {
                request.headers.insert(TE, HeaderValue::from_static("trailers"));
                request.headers.insert(CONNECTION, HeaderValue::from_static("te"));
            }
        }
        Protocol::Http2 => {
            uri.scheme = Some(Scheme::HTTPS);
            let authority = Authority::from_maybe_shared(authority);
            uri.authority =
                Some(authority.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the host is not valid"))?);
            request.version = Version::HTTP_2;
            if trailers {
                request.headers.insert(TE, HeaderValue::from_static("trailers"));
            }
        }
    }
    request.uri = Uri::from_parts(uri).map_err(bad)?;
    Ok(())
}

fn says_trailers(value: &HeaderValue) -> bool {
    let value = value.to_str().unwrap_or_default();
    value
        .split(',')
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Removes what is between two neighbours alone.
pub(super) fn end_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Those say how long the body is, or for whom it is, whoever calls them a matter of the connection.
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST)
        .collect();
    for name in named.iter().chain(&HOPS) {
        headers.remove(name);
    }
}

/// Tells how long a request's body is, or that it is not known.
pub(super) fn tell_length(headers: &mut HeaderMap, length: Option<u64>, protocol: Protocol) {
    headers.remove(CONTENT_LENGTH);
    match (length, protocol) {
        (Some(length), _) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        (None, Protocol::Http1) => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        (None, Protocol::Http2) => {}
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn place(host: &str, port: u16) -> Place {
        let host = Host::parse(host).unwrap();
        Place { host, port }
    }

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn c17_69_every_request_must_name_the_tunnels_host_and_no_other() {
        for (uri, hosts, port, passes) in [
            ("/", &["x.test"][..], 443, true),
            ("/", &["X.TEST."], 443, true),
            ("/", &["x.test:443"], 443, true),
            ("/", &["x.test"], 8443, false),
            ("/", &["x.test:8443"], 8443, true),
            ("/", &["y.test"], 443, false),
            ("/", &["x.test", "x.test"], 443, false),
            ("/", &["x.test:"], 443, false),
            ("/", &["a@x.test"], 443, false),
            ("/", &["x.test, y.test"], 443, false),
            ("/", &[""], 443, false),
            ("/", &[], 443, false),
            ("https://x.test/", &[], 443, true),
            ("https://x.test/", &["y.test"], 443, false),
            ("https://y.test/", &["x.test"], 443, false),
            ("http://x.test/", &["x.test"], 443, false),
            ("https://x.test:8443/", &["x.test:8443"], 8443, true),
        ] {
            let hosts: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let judged = judge(&parts("GET", uri, &hosts), &place("x.test", port), false);
            assert_eq!(judged.is_ok(), passes, "{uri} {hosts:?} {port}");
            assert!(judged.is_ok() || judged.is_err_and(|refusal| refusal.cut));
        }
        let judged = judge(
            &parts("GET", "/", &[("host", "[::1]:8443")]),
            &place("[::1]", 8443),
            false,
        );
        assert!(judged.is_ok());
    }

    #[test]
    fn agents_53_trace_and_a_change_of_protocol_are_refused() {
        let host = ("host", "x.test");
        let upgrade = [host, ("connection", "upgrade"), ("upgrade", "websocket")];
        for (method, headers, allowed, passes) in [
            ("GET", &[host][..], false, true),
            ("TRACE", &[host], true, false),
            ("CONNECT", &[host], true, false),
            ("GET", &upgrade, false, false),
            ("GET", &upgrade, true, true),
            ("GET", &[host, ("upgrade", "h2c")], false, false),
        ] {
            let judged = judge(&parts(method, "/", headers), &place("x.test", 443), allowed);
            assert_eq!(judged.is_ok(), passes, "{method} {headers:?}");
        }
    }

    #[test]
    fn what_is_between_two_neighbours_does_not_pass() {
        let sent = [
            ("host", "X.test:443"),
            ("connection", "keep-alive, X-Own, content-length"),
            ("x-own", "1"),
            ("keep-alive", "5"),
            ("te", "gzip, trailers"),
            ("accept-encoding", "gzip"),
            ("content-length", "3"),
            ("accept", "*/*"),
        ];
        let mut one = parts("POST", "https://x.test/a?b=c", &sent);
        readdress(&mut one, &place("x.test", 443), Protocol::Http1).unwrap();
        let mut told: Vec<_> = one
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        told.sort_unstable();
        assert_eq!(one.uri, "/a?b=c");
        assert_eq!(
            told,
            [
                ("accept", "*/*"),
                ("connection", "te"),
                ("content-length", "3"),
                ("host", "x.test"),
                ("te", "trailers")
            ]
        );
        let mut two = parts("POST", "/a?b=c", &sent);
        readdress(&mut two, &place("x.test", 8443), Protocol::Http2).unwrap();
        assert_eq!(two.uri, "https://x.test:8443/a?b=c");
        assert!(!two.headers.contains_key(HOST) && !two.headers.contains_key(CONNECTION));
    }
}
