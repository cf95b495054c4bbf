//! Which headers pass: to the provider, and back. Everything else is left out, the client's authentication before all.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::grant::Grant;
use super::provider::Auth;
use super::refusal::Refusal;

/// Headers of a request that pass; the rest of what a provider needs is put by [`request`] itself.
const REQUEST: [&str; 3] = ["accept", "anthropic-version", "user-agent"];

/// Headers of an answer that pass. Those that name the account behind the key do not.
const ANSWER: [&str; 10] = [
    "cache-control",
    "content-type",
    "date",
    "openai-processing-ms",
    "openai-version",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
    "x-should-retry",
];

/// Families of headers that tell limits.
const ANSWER_FAMILIES: [&str; 2] = ["anthropic-ratelimit-", "x-ratelimit-"];

/// The headers to send on, with the real key.
pub(super) fn request(grant: &Grant, client: &HeaderMap, has_body: bool) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::with_capacity(8);
    for name in REQUEST {
        if let Some(value) = client.get(name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    // Usage is read on the way, and bytes pass as they are.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    betas(grant, client, &mut headers)?;
    authenticate(grant, &mut headers)?;
    Ok(headers)
}

fn betas(grant: &Grant, client: &HeaderMap, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let Some(betas) = grant.provider.beta else {
        return Ok(());
    };
    let mut passing = Vec::new();
    for value in client.get_all(betas.header) {
        for beta in value.to_str().unwrap_or("").split(',').map(str::trim) {
            let remote = betas.remote.iter().find(|(prefix, _)| beta.starts_with(prefix));
            if let Some((_, feature)) = remote {
                super::wire::require(grant, *feature, beta)?;
            }
            if remote.is_some() || betas.pass.contains(&beta) {
                passing.push(beta);
            }
        }
    }
    if let Ok(value) = HeaderValue::from_str(&passing.join(","))
        && !passing.is_empty()
    {
        headers.insert(HeaderName::from_static(betas.header), value);
    }
    Ok(())
}

fn authenticate(grant: &Grant, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let key = grant.key.expose();
    let (name, value) = match grant.auth {
        Auth::Bearer => (header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))),
        Auth::Header(name) => (HeaderName::from_static(name), HeaderValue::from_str(key)),
    };
    let mut value = value.map_err(|_| Refusal::upstream("the credential's key fits in no header"))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// The headers of an answer that pass.
pub(super) fn answer(grant: &Grant, upstream: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    for (name, value) in upstream {
        let listed = ANSWER.contains(&name.as_str());
        let passes = listed || ANSWER_FAMILIES.iter().any(|family| name.as_str().starts_with(family));
        if passes && !contains(value.as_bytes(), grant.key.expose().as_bytes()) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// Whether `text` holds `part`.
pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}
