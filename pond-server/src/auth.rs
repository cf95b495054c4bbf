//! Who calls, and what a caller may do. Runs before any body is read and before anything is looked up.

use axum::http::{HeaderMap, Uri, header};
use pond_core::Error;
use pond_core::id::{ProjectId, RunId};
pub(crate) use pond_core::keys::Principal;
use pond_core::keys::{Action, Area, Verdict, may};
use pond_core::logs::SecretNames;
use pond_core::scope::Scope;
use pond_core::secret::Secret;
use sha2::{Digest, Sha256};

use crate::error::{Answer, Refusal};
use crate::state::AppState;

/// Names under which other systems take a token in the query: seen there, it is refused, as addresses are logged.
const TOKEN_PARAMETERS: [&str; 4] = ["token", "access_token", "api_key", "key"];
const MAX_TOKEN: usize = 4096;

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone.
    Open,
    /// Anyone when the server says so, else the service token alone.
    Metrics,
    /// Every caller with a token.
    Caller,
    /// `runs:read`.
    ReadRuns,
    /// `runs:write`.
    WriteRuns,
    /// The right to read the run of the path: `runs:read`, or that of its family.
    ReadRun,
    /// The right to cancel the run of the path: `runs:write`, or that of its family.
    CancelRun,
    /// Admin.
    Admin,
    /// A paired orchestrator, by its own token.
    Orchestrator,
}

impl Access {
    /// What a caller must be allowed; none where no caller is asked.
    pub(crate) fn action(self) -> Option<Action> {
        match self {
            Self::Open | Self::Orchestrator => None,
            Self::Metrics | Self::Admin => Some(Action::Admin),
            Self::Caller => Some(Action::Identify),
            Self::ReadRuns => Some(Action::Read(Area::Runs)),
            Self::WriteRuns => Some(Action::Write(Area::Runs)),
            Self::ReadRun => Some(Action::ReadRun(None)),
            Self::CancelRun => Some(Action::CancelRun(None)),
        }
    }
}

/// What a caller may see of what it asks for: one project, or all that are its own. Of another's project it is told the same
/// as of one that is not there.
pub(crate) fn scope_of(principal: &Principal, named: Option<ProjectId>) -> Answer<Scope> {
    match (principal.scope(), named) {
        (Scope::Org, named) => Ok(named.map_or(Scope::Org, Scope::Project)),
        (own, None) => Ok(own),
        (own, Some(named)) if own.admits(named) => Ok(own),
        (Scope::Project(_), Some(_)) => Err(Error::NotFound("project").into()),
    }
}

/// Whether a caller sees the names of secrets that were redacted.
pub(crate) fn names_for(principal: &Principal) -> SecretNames {
    match principal.is_admin() {
        true => SecretNames::Shown,
        false => SecretNames::Hidden,
    }
}

/// The service token. Only its hash is kept.
#[derive(Debug)]
pub(crate) struct Tokens {
    service: [u8; 32],
}

impl Tokens {
    pub(crate) fn new(service: &Secret) -> Self {
        Self {
            service: hash(service.expose()),
        }
    }

    /// Whether it is the service token. Hashes are compared, and all of their bytes: neither says how much of a token was
    /// right.
    fn is_service(&self, token: &str) -> bool {
        let sent = hash(token);
        let differing = self
            .service
            .iter()
            .zip(sent)
            .fold(0, |seen, (own, sent)| seen | (own ^ sent));
        std::hint::black_box(differing) == 0
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The caller of a request, if it may call this endpoint.
pub(crate) async fn admit(
    state: &AppState,
    access: Access,
    headers: &HeaderMap,
    uri: &Uri,
) -> Answer<Option<Principal>> {
    let Some(action) = access.action() else {
        return Ok(None);
    };
    if access == Access::Metrics && state.open_metrics() {
        return Ok(None);
    }
    let token = sent(headers, uri)?;
    let principal = if state.tokens().is_service(token) {
        Principal::Service
    } else {
        let known = state.pond().keys().principal(token).await?;
        known.ok_or(Refusal::UnknownToken)?
    };
    permitted(may(&principal, action, principal.scope()))?;
    Ok(Some(principal))
}

/// Whether a caller who may touch runs of some family may touch this one.
pub(crate) async fn admit_to_run(state: &AppState, principal: &Principal, access: Access, run: RunId) -> Answer<()> {
    let of = match access {
        Access::ReadRun => Action::ReadRun,
        Access::CancelRun => Action::CancelRun,
        _ => return Ok(()),
    };
    let scope = principal.scope();
    if may(principal, of(Some(Area::Runs)), scope) == Verdict::Allowed {
        return Ok(());
    }
    let run = state.pond().runs().get(scope, run).await?;
    permitted(may(principal, of(Some(run.head.family())), scope))
}

fn permitted(verdict: Verdict) -> Answer<()> {
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Missing(scopes) => Err(Refusal::MissingScope(scopes)),
        Verdict::Elsewhere => Err(Error::NotFound("record").into()),
    }
}

/// The token of a request that only an orchestrator makes.
pub(crate) fn orchestrator_token(headers: &HeaderMap, uri: &Uri) -> Answer<Secret> {
    sent(headers, uri).map(Secret::new)
}

/// The token of a request.
fn sent<'h>(headers: &'h HeaderMap, uri: &Uri) -> Answer<&'h str> {
    if names_token(uri) {
        return Err(Refusal::NoToken(
            "a token in the address would be logged: send it as Authorization: Bearer",
        ));
    }
    token(headers)
}

fn names_token(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .any(|(name, _)| TOKEN_PARAMETERS.contains(&&*name.to_ascii_lowercase()))
}

fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let bearer = one(headers, header::AUTHORIZATION.as_str())?.map(bearer).transpose()?;
    let key = one(headers, "x-api-key")?;
    match (bearer, key) {
        (Some(bearer), Some(key)) if bearer != key => Err(Refusal::NoToken(
            "Authorization and X-API-Key hold different tokens: send one",
        )),
        (Some(token), _) | (None, Some(token)) => plain(token),
        (None, None) => Err(Refusal::NoToken("send the token as Authorization: Bearer or X-API-Key")),
    }
}

fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::NoToken("a token header is there twice"));
    }
    let text = first.map(|value| {
        value
            .to_str()
            .map_err(|_| Refusal::NoToken("the token header is no text"))
    });
    text.transpose()
}

fn bearer(value: &str) -> Result<&str, Refusal> {
    match value.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Refusal::NoToken("expected Authorization: Bearer <token>")),
    }
}

fn plain(token: &str) -> Result<&str, Refusal> {
    let token = token.trim();
    if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Refusal::NoToken("the token is empty or malformed"));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    fn ask(uri: &'static str, headers: Headers) -> u16 {
        let tokens = Tokens::new(&Secret::new("right"));
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        match sent(&headers, &Uri::from_static(uri)) {
            Ok(token) if tokens.is_service(token) => 200,
            Ok(_) => 403,
            Err(refusal) => refusal.row().0.as_u16(),
        }
    }

    #[test]
    fn c17_113_tokens_in_queries_and_differing_headers_are_401() {
        let table: &[(&'static str, Headers, u16)] = &[
            ("/", &[("authorization", "Bearer right")], 200),
            ("/", &[("authorization", "bearer  right")], 200),
            ("/", &[("x-api-key", "right")], 200),
            ("/", &[("authorization", "Bearer right"), ("x-api-key", "right")], 200),
            ("/", &[("authorization", "Bearer right"), ("x-api-key", "wrong")], 401),
            ("/", &[], 401),
            ("/", &[("cookie", "session=right")], 401),
            ("/", &[("authorization", "Bearer ")], 401),
            ("/", &[("authorization", "right")], 401),
            ("/", &[("authorization", "Basic cmlnaHQ=")], 401),
            ("/", &[("authorization", "Bearer a b")], 401),
            ("/?token=right", &[], 401),
            ("/?token=right", &[("authorization", "Bearer right")], 401),
            ("/?a=1&Access_Token=", &[("authorization", "Bearer right")], 401),
            ("/", &[("authorization", "Bearer wrong")], 403),
            ("/", &[("x-api-key", "pond_pk_x")], 403),
        ];
        for (uri, headers, status) in table {
            assert_eq!(ask(uri, headers), *status, "{uri} {headers:?}");
        }
    }
}
