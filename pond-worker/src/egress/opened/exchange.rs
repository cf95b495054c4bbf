//! One request and its answer on their way through a tunnel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::Teller;
use super::super::secrets::{Goal, Known, SealedSecrets, Unfit};
use super::answer::{self, Unreadable};
use super::body::{self, BoxError, Passing};
use super::request::{self, Place, Protocol, Refusal};
use super::wire::Far;

/// The connection, or the one request of it, ends without an answer: as the far side's did.
#[derive(Debug, thiserror::Error)]
#[error("the far side is gone")]
pub(super) struct Gone(#[source] BoxError);

impl Gone {
    fn because(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

/// The tunnel that a request is in.
pub(super) struct Tunnelled {
    pub(super) goal: Goal,
    pub(super) place: Place,
    pub(super) protocol: Protocol,
    /// Whether a request may change the protocol.
    pub(super) upgrade: bool,
    pub(super) teller: Teller,
}

/// What the requests of one tunnel share.
pub(super) struct Exchange {
    secrets: Arc<SealedSecrets>,
    room: Arc<Semaphore>,
    way: Tunnelled,
    /// The far side, or why there is none.
    far: Result<Far, String>,
    changing: AtomicBool,
    changed: Mutex<Option<(OnUpgrade, OnUpgrade)>>,
    /// Raised when the tunnel is to end with the answers that are under way.
    pub(super) cut: CancellationToken,
}

impl Exchange {
    /// A tunnel with no far side yet.
    pub(super) fn new(secrets: &Arc<SealedSecrets>, room: &Arc<Semaphore>, way: Tunnelled) -> Self {
        Self {
            secrets: Arc::clone(secrets),
            room: Arc::clone(room),
            way,
            far: Err(String::new()),
            changing: AtomicBool::new(false),
            changed: Mutex::default(),
            cut: CancellationToken::new(),
        }
    }

    /// With this far side.
    pub(super) fn toward(self, far: Far) -> Self {
        Self { far: Ok(far), ..self }
    }

    /// Without any, and why.
    pub(super) fn closed(self, reason: String) -> Self {
        Self {
            far: Err(reason),
            ..self
        }
    }

    /// Whether a request has asked for another protocol, and may yet get it.
    pub(super) fn is_changing(&self) -> bool {
        self.changing.load(Ordering::Acquire)
    }

    /// Both ends of a connection that speaks another protocol now.
    pub(super) fn changed(&self) -> Option<(OnUpgrade, OnUpgrade)> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Passes a request on, and its answer back.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Passing>, Gone> {
        match self.pass(request).await {
            Ok(answer) => Ok(answer),
            Err(Unpassed::Gone(gone)) => {
                tracing::debug!(error = %gone.0, host = %self.way.place.host, "a request within a tunnel broke");
                Err(gone)
            }
            Err(Unpassed::Refused(refusal)) => {
                if self.far.is_ok() {
                    self.way.teller.refused(refusal.reason.clone()).await;
                }
                if refusal.cut {
                    self.cut.cancel();
                }
                Ok(said(&refusal))
            }
        }
    }

    async fn pass(&self, mut request: Request<Incoming>) -> Result<Response<Passing>, Unpassed> {
        let near = hyper::upgrade::on(&mut request);
        let (mut head, body) = request.into_parts();
        // Nothing that was noted about the one connection is meant for the other.
        head.extensions.clear();
        let Tunnelled { place, protocol, .. } = &self.way;
        request::judge(&head, place, self.way.upgrade)?;
        let far = self.far.as_ref().map_err(|reason| Refusal {
            status: StatusCode::BAD_GATEWAY,
            reason: reason.clone(),
            cut: true,
        })?;
        let wish = head.headers.get(UPGRADE).cloned();
        request::readdress(&mut head, place, *protocol)?;
        let known = self.secrets.now();
        let body = self.fill(&known, &mut head.headers, body).await?;
        if let Some(wish) = &wish {
            self.changing.store(true, Ordering::Release);
            head.headers.insert(UPGRADE, wish.clone());
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        let method = head.method.clone();
        let mut request = Request::from_parts(head, body);
        self.await_word(&mut request);
        let mut answer = far.send(request).await.map_err(Gone::because)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.change(near, answer, &known, wish.is_some());
        }
        self.changing.store(false, Ordering::Release);
        answer.extensions_mut().clear();
        // An answer may come long after the request, and after another change.
        let cleaned = answer::clean(answer, &method, *protocol, self.secrets.now().scrub(), &self.room).await;
        cleaned.map_err(|error| match error {
            Unreadable::Encoded => Refusal::new(StatusCode::BAD_GATEWAY, error.to_string()).into(),
            Unreadable::Broken(error) => Gone(error).into(),
        })
    }

    /// Puts values in place of tokens where they belong, and gives the body to send.
    async fn fill(&self, known: &Known, headers: &mut HeaderMap, body: Incoming) -> Result<Passing, Unpassed> {
        let protocol = self.way.protocol;
        let way = known.toward(&self.way.goal);
        way.fill(headers).map_err(|Unfit(name)| {
            let reason = format!("the secret behind a token in {name} cannot stand in a header");
            Refusal::new(StatusCode::FORBIDDEN, reason)
        })?;
        let swap = way.body();
        let encoded = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if body.is_end_stream() {
            return Ok(body::untouched(body));
        }
        if swap.is_empty() || encoded {
            request::tell_length(headers, body.size_hint().exact(), protocol);
            return Ok(body::untouched(body));
        }
        let (body, length) = body::altered(body, swap.stream(), &self.room).await.map_err(Gone)?;
        request::tell_length(headers, length, protocol);
        if length.is_some() {
            // It is here already.
            headers.remove(EXPECT);
        }
        Ok(body)
    }

    /// Lets a client that waits for a word of the far side have it from there.
    fn await_word(&self, request: &mut Request<Passing>) {
        if self.way.protocol == Protocol::Http2 {
            request.headers_mut().remove(EXPECT);
            return;
        }
        if !request.headers().contains_key(EXPECT) {
            return;
        }
        let wanted = CancellationToken::new();
        let told = wanted.clone();
        hyper::ext::on_informational(request, move |_| told.cancel());
        let body = std::mem::replace(request.body_mut(), body::told(String::new()));
        *request.body_mut() = body::awaited(body, wanted);
    }

    /// The far side speaks another protocol from here on, which is passed as it is.
    fn change(
        &self,
        near: OnUpgrade,
        mut answer: Response<Incoming>,
        known: &Known,
        wished: bool,
    ) -> Result<Response<Passing>, Unpassed> {
        if !wished {
            return Err(Gone::because("the protocol was changed without a request").into());
        }
        let far = hyper::upgrade::on(&mut answer);
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some((near, far));
        let mut changed = Response::new(body::told(String::new()));
        *changed.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *changed.headers_mut() = known.scrub().headers(answer.headers());
        Ok(changed)
    }
}

/// Why a request was not passed on, or its answer not back.
enum Unpassed {
    Refused(Refusal),
    Gone(Gone),
}

impl From<Refusal> for Unpassed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Gone> for Unpassed {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

fn said(refusal: &Refusal) -> Response<Passing> {
    let mut answer = Response::new(body::told(format!("{}\n", refusal.reason)));
    *answer.status_mut() = refusal.status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}
