//! The HTTP client that `object_store` is given: ours, over the dialer, with answers held to a size where they are read whole.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient as ObjectClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use pond_core::outbound::{OutboundUrl, Purpose};
use pond_core::sources::SourceError;

use super::follow::follow;
use super::{Dialer, HttpClient};

/// The most that an answer may have which is read whole: a page of a list, or an error.
const MAX_WHOLE: usize = 16 << 20;

/// Why requests did not get through, kept apart from what the library makes of it.
#[derive(Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn note(&self, why: String) {
        *self.0.lock().expect("no holder of this lock panics") = Some(why);
    }

    fn note_answer(&self, status: StatusCode) {
        match status.as_u16() {
            401 | 403 => self.note("the service refuses it; it may need a credential, or another one".into()),
            404 => self.note("there is no such bucket or object".into()),
            _ => {}
        }
    }

    /// An error of the library as something a user may read: by meaning alone, since its own text tells of places.
    pub(super) fn meaning(&self, error: &object_store::Error, what: &str) -> SourceError {
        use object_store::Error as E;
        let noted = self.0.lock().expect("no holder of this lock panics").clone();
        let why = match (error, noted) {
            (_, Some(noted)) => noted,
            (E::InvalidPath { .. }, None) => "it has an object whose name is no path".into(),
            _ => "the service does not answer as one should".into(),
        };
        tracing::debug!(error = %error, "object storage");
        SourceError::Failed(format!("{what}: {why}"))
    }
}

/// Requests through the dialer.
#[derive(Clone)]
pub(super) struct Dialled {
    client: HttpClient,
    dialer: Dialer,
    trouble: Trouble,
}

impl Dialled {
    pub(super) fn new(client: HttpClient, dialer: Dialer, trouble: Trouble) -> Self {
        Self {
            client,
            dialer,
            trouble,
        }
    }
}

impl fmt::Debug for Dialled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialled")
    }
}

impl HttpConnector for Dialled {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<ObjectClient> {
        Ok(ObjectClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Dialled {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri().to_string();
        let lists = request.uri().query().is_some_and(|query| query.contains("list-type="));
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let followed = async {
            let place = OutboundUrl::parse(&uri, Purpose::S3, self.dialer.allow())?;
            follow(&self.client, &self.dialer, Purpose::S3, &place, request).await
        };
        let answer = followed.await.map_err(|error| {
            self.trouble.note(error.to_string());
            let kind = match error.may_pass() {
                true => HttpErrorKind::Connect,
                false => HttpErrorKind::Unknown,
            };
            HttpError::new(kind, error)
        })?;
        let (head, body) = answer.into_parts();
        self.trouble.note_answer(head.status);
        let whole = lists || !head.status.is_success();
        let most = if whole { MAX_WHOLE } else { usize::MAX };
        let body = Limited::new(body, most).map_err(broken);
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

fn broken(error: Box<dyn Error + Send + Sync>) -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Interrupted, error)
}
