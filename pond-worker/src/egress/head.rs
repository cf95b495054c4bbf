//! The head of a request to the proxy, read strictly: what two programs might read differently is refused.

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Version};
use pond_core::outbound::Host;

/// The most bytes of a head.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// The most headers.
const MAX_HEADERS: usize = 128;

/// A request's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) target: Target,
    pub(super) place: Place,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A tunnel.
    Connect,
    /// One plain request, for this path.
    Path(PathAndQuery),
}

/// Where to.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; none without a body.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Why a head is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// It is no request that this proxy serves. There is no place to tell of.
    Request(&'static str),
    /// It asks for a place, and not in the one way that a place may be asked for.
    Place {
        /// The host as it is written.
        asked: String,
        /// The port, 0 when it is none.
        port: u16,
        /// What is wrong.
        why: &'static str,
    },
}

const ONLY: &str = "this proxy serves CONNECT host:port and http:// URLs alone";

impl Head {
    /// Reads a head, up to and with its empty line.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadHead> {
        let bad = BadHead::Request;
        check_lines(bytes)?;
        let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut room);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(read)) if read == bytes.len() => {}
            Ok(_) => return Err(bad("the request cannot be read")),
            Err(httparse::Error::TooManyHeaders) => return Err(bad("the request has too many headers")),
            Err(_) => return Err(bad("the request cannot be read")),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(bad("the request cannot be read"));
        };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("the method cannot be read"))?;
        let version = if version == 0 {
            Version::HTTP_10
        } else {
            Version::HTTP_11
        };
        let mut headers = HeaderMap::new();
        for header in request.headers.iter() {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| bad("a header cannot be read"))?;
            let value = HeaderValue::from_bytes(header.value).map_err(|_| bad("a header cannot be read"))?;
            headers.append(name, value);
        }
        let framing = framing(&headers, version)?;
        let (target, place) = match method {
            Method::CONNECT => (Target::Connect, connect_place(target)?),
            _ => absolute(target)?,
        };
        if target == Target::Connect && framing != Framing::Length(0) {
            return Err(bad("a CONNECT has no body"));
        }
        check_host(&headers, version, &target, &place)?;
        Ok(Self {
            method,
            version,
            target,
            place,
            headers,
            framing,
        })
    }

    /// Whether the connection may serve another request after this one.
    pub(super) fn keeps_alive(&self) -> bool {
        let says = |word: &str| listed(&self.headers, &CONNECTION).any(|own| own == word);
        let proxy = self.headers.get("proxy-connection");
        let says_close = says("close") || proxy.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        self.version == Version::HTTP_11 && !says_close
    }

    /// Whether the client waits to be told to send its body.
    pub(super) fn expects_continue(&self) -> bool {
        let expects = self.headers.get(EXPECT).map(HeaderValue::as_bytes);
        self.version == Version::HTTP_11 && expects.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    /// The protocol that the client wants to change to.
    pub(super) fn upgrade(&self) -> Option<&HeaderValue> {
        self.headers.get(UPGRADE)
    }
}

/// The words of a list header, in lower case.
pub(super) fn listed<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + 'h {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>()
    })
}

/// Lines end with CR LF and nothing else; neither CR nor LF nor NUL stands anywhere else; no line is folded.
fn check_lines(bytes: &[u8]) -> Result<(), BadHead> {
    let Some(lines) = bytes.strip_suffix(b"\r\n\r\n") else {
        return Err(BadHead::Request("the request cannot be read"));
    };
    let mut rest = lines;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        let folded = matches!(rest.get(at + 2), Some(b' ' | b'\t'));
        if !rest[at..].starts_with(b"\r\n") || folded || rest.get(at + 2) == Some(&b'\r') {
            return Err(BadHead::Request("a line of the request is not ended as it must be"));
        }
        rest = &rest[at + 2..];
    }
    Ok(())
}

fn framing(headers: &HeaderMap, version: Version) -> Result<Framing, BadHead> {
    let bad = BadHead::Request;
    let only = |name: &HeaderName| {
        let mut all = headers.get_all(name).into_iter();
        match (all.next(), all.next()) {
            (first, None) => Ok(first),
            _ => Err(bad("a header that says how long the body is stands there twice")),
        }
    };
    match (only(&TRANSFER_ENCODING)?, only(&CONTENT_LENGTH)?) {
        (Some(_), Some(_)) => Err(bad("the request says in two ways how long its body is")),
        (Some(value), None) if version == Version::HTTP_11 && value.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (Some(_), None) => Err(bad("the transfer encoding is not known")),
        (None, Some(value)) => {
            let text = value.to_str().unwrap_or_default();
            let digits = (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            let length = text.parse().ok().filter(|_| digits);
            length.map(Framing::Length).ok_or(bad("the content length is none"))
        }
        (None, None) => Ok(Framing::Length(0)),
    }
}

fn connect_place(target: &str) -> Result<Place, BadHead> {
    let (host, port) = target.rsplit_once(':').unwrap_or((target, ""));
    if host.is_empty() || host.starts_with('/') {
        return Err(BadHead::Request(ONLY));
    }
    place(host, Some(port))
}

fn absolute(target: &str) -> Result<(Target, Place), BadHead> {
    let bad = BadHead::Request;
    let Some((scheme, rest)) = target.split_once("://") else {
        return Err(bad(ONLY));
    };
    if scheme.eq_ignore_ascii_case("https") {
        return Err(bad("https goes by CONNECT host:443"));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(bad(ONLY));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let place = place(host, port)?;
    if path.contains(['#', '\\']) {
        return Err(bad("the URL cannot be read"));
    }
    let path = match path.starts_with('/') {
        true => path.parse(),
        false => format!("/{path}").parse(),
    };
    Ok((Target::Path(path.map_err(|_| bad("the URL cannot be read"))?), place))
}

/// Reads a host and a port; without a port the one of plain HTTP is meant.
fn place(host: &str, port: Option<&str>) -> Result<Place, BadHead> {
    let number = match port {
        None => Some(80),
        Some(text) => port_of(text),
    };
    let bad = |why| BadHead::Place {
        asked: host.to_owned(),
        port: number.unwrap_or(0),
        why,
    };
    let host = Host::parse(host).map_err(|_| bad("that is no valid host"))?;
    let port = number.ok_or_else(|| bad("the port is none"))?;
    Ok(Place { host, port })
}

fn port_of(text: &str) -> Option<u16> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// `Host` stands there once and names the place; without a port it names that of the place's own kind.
fn check_host(headers: &HeaderMap, version: Version, target: &Target, place: &Place) -> Result<(), BadHead> {
    let mut all = headers.get_all(HOST).into_iter();
    let value = match (all.next(), all.next()) {
        (None, _) if version == Version::HTTP_10 => return Ok(()),
        (None, _) => return Err(BadHead::Request("the request has no Host")),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(BadHead::Request("the request has more than one Host")),
    };
    let text = value.to_str().unwrap_or_default();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port_of(port)),
        _ if *target == Target::Connect => (text, Some(place.port)),
        _ => (text, Some(80)),
    };
    if Host::parse(host).as_ref() == Ok(&place.host) && port == Some(place.port) {
        return Ok(());
    }
    Err(BadHead::Place {
        asked: place.host.to_string(),
        port: place.port,
        why: "its Host header names another place",
    })
}
