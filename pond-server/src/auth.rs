//! Who calls, and what a caller may do. Runs before any body is read and before anything is looked up.

use axum::http::{HeaderMap, Uri, header};
use pond_core::Error;
use pond_core::keys::{Action, Area, Keys, Principal, Refused, may};
use pond_core::secret::Secret;

use crate::error::Refusal;

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
    /// Reads of the family that the run of the path is of.
    ReadRun,
    /// Writes of the family that the run of the path is of.
    WriteRun,
    /// Admin.
    Admin,
    /// A paired orchestrator, by its own token.
    Orchestrator,
}

/// What an endpoint asks for of its caller.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// Nothing: there need not be one.
    Nothing,
    /// This, with whatever is its own.
    Action(Action),
    /// One of these; which one, the run of the path says.
    OfRun(fn(Area) -> Action),
    /// The token of a paired orchestrator, which is no principal.
    Orchestrator,
}

impl Access {
    /// What it asks for.
    pub(crate) fn need(self, open_metrics: bool) -> Need {
        match self {
            Self::Open => Need::Nothing,
            Self::Metrics if open_metrics => Need::Nothing,
            Self::Metrics | Self::Admin => Need::Action(Action::Admin),
            Self::Caller => Need::Action(Action::Identify),
            Self::ReadRuns => Need::Action(Action::Read(Area::Runs)),
            Self::WriteRuns => Need::Action(Action::Write(Area::Runs)),
            Self::ReadRun => Need::OfRun(Action::Read),
            Self::WriteRun => Need::OfRun(Action::Write),
            Self::Orchestrator => Need::Orchestrator,
        }
    }
}

/// Whether a caller may call an endpoint at all; what it may see there, its scope says.
pub(crate) fn admits(principal: &Principal, need: Need) -> Result<(), Refusal> {
    let may = |action| may(principal, action, principal.scope());
    match need {
        Need::Nothing => Ok(()),
        Need::Action(action) => Ok(may(action)?),
        // The first that fits; what is lacked is told as of a run that was submitted as one.
        Need::OfRun(of) if Area::OF_RUNS.into_iter().any(|area| may(of(area)).is_ok()) => Ok(()),
        Need::OfRun(of) => Ok(may(of(Area::Runs))?),
        Need::Orchestrator => Err(Refusal::UnknownToken),
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Lacks(scope) => Self::MissingScope(scope),
            // Only a project that a caller names can lie out of its sight: whatever else it names is looked up in its scope.
            Refused::OutOfSight => Error::NotFound("project").into(),
        }
    }
}

/// The tokens that open something: the service token, of which a hash is kept, and the keys of the store.
pub(crate) struct Tokens {
    service: [u8; 32],
}

impl Tokens {
    pub(crate) fn new(service: &Secret) -> Self {
        Self {
            service: pond_core::token::hash(service),
        }
    }

    /// Whose token it is. Hashes are compared, and all of their bytes: neither says how much of a token was right.
    async fn principal(&self, keys: &Keys, sent: &Secret) -> Result<Option<Principal>, Refusal> {
        let differing = self
            .service
            .iter()
            .zip(pond_core::token::hash(sent))
            .fold(0, |seen, (own, sent)| seen | (own ^ sent));
        if std::hint::black_box(differing) == 0 {
            return Ok(Some(Principal::Service));
        }
        Ok(keys.principal(sent).await?)
    }
}

/// The caller of a request, if it has a token that opens something.
pub(crate) async fn identify(
    tokens: &Tokens,
    keys: &Keys,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Principal, Refusal> {
    if names_token(uri) {
        return Err(Refusal::NoToken(
            "a token in the address would be logged: send it as Authorization: Bearer",
        ));
    }
    let sent = Secret::new(token(headers)?);
    tokens.principal(keys, &sent).await?.ok_or(Refusal::UnknownToken)
}

/// The token of a request that only an orchestrator makes.
pub(crate) fn orchestrator_token(headers: &HeaderMap, uri: &Uri) -> Result<Secret, Refusal> {
    if names_token(uri) {
        return Err(Refusal::NoToken(
            "a token in the address would be logged: send it as Authorization: Bearer",
        ));
    }
    token(headers).map(Secret::new)
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
    use pond_core::Pond;

    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    async fn ask(pond: &Pond, uri: &'static str, headers: Headers) -> u16 {
        let tokens = Tokens::new(&Secret::new("right"));
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        match identify(&tokens, pond.keys(), &headers, &Uri::from_static(uri)).await {
            Ok(principal) => {
                assert_eq!(principal, Principal::Service);
                200
            }
            Err(refusal) => refusal.row().0.as_u16(),
        }
    }

    #[tokio::test]
    async fn c17_113_tokens_in_queries_and_differing_headers_are_401() {
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
        let builder = Pond::builder(pond_store::memory(), pond_store::blobs_in_memory());
        let pond = builder.start().await.unwrap();
        for (uri, headers, status) in table {
            assert_eq!(ask(&pond, uri, headers).await, *status, "{uri} {headers:?}");
        }
    }
}
