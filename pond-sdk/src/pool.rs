//! The pool: codes that let orchestrators and workers in, who is there, and who is to leave.

use reqwest::header::{HeaderMap, LINK};
use serde::de::DeserializeOwned;

use crate::api::{CreateEnrollmentCode, CreatePairingCode, Drain, Orchestrator, PoolCode, Worker};
use crate::client::Client;
use crate::error::Result;
use crate::pages::{Page, Pages, pages};
use crate::request::Call;

/// The calls on the pool.
#[derive(Debug, Clone)]
pub struct Pool {
    client: Client,
}

impl Client {
    /// The calls on the pool.
    pub fn pool(&self) -> Pool {
        Pool { client: self.clone() }
    }
}

impl Pool {
    /// Makes a code that pairs one orchestrator. The answer alone holds it.
    pub async fn pairing_code(&self, code: &CreatePairingCode) -> Result<PoolCode> {
        let call = Call::create(&["v1", "admin", "pool", "pairing-codes"])?.json(code)?;
        self.client.read("pairing code", call).await
    }

    /// Makes a code that lets one worker in behind an orchestrator. The answer alone holds it.
    pub async fn enrollment_code(&self, code: &CreateEnrollmentCode) -> Result<PoolCode> {
        let call = Call::create(&["v1", "admin", "pool", "enrollment-codes"])?.json(code)?;
        self.client.read("enrolment code", call).await
    }

    /// All orchestrators.
    pub fn orchestrators(&self) -> Pages<Orchestrator> {
        self.list("orchestrators", "list of orchestrators")
    }

    /// All workers.
    pub fn workers(&self) -> Pages<Worker> {
        self.list("workers", "list of workers")
    }

    fn list<T: DeserializeOwned + Send + 'static>(&self, list: &'static str, what: &'static str) -> Pages<T> {
        let client = self.client.clone();
        pages(move |cursor| {
            let client = client.clone();
            async move {
                let call = Call::get(&["v1", "admin", "pool", list]).query("cursor", cursor);
                let (headers, entries): (_, Vec<T>) = client.read_with_headers(what, call).await?;
                Ok(Page {
                    entries,
                    next: next_cursor(&headers),
                })
            }
        })
    }

    /// Keeps new jobs from a worker, or lets it have them again; those that it has go on.
    pub async fn drain(&self, worker_id: &str, drain: bool) -> Result<Worker> {
        let call = Call::put_like(&["v1", "admin", "pool", "workers", worker_id, "drain"]);
        let call = call.json(&Drain { drain: Some(drain) })?;
        self.client.read("worker", call).await
    }

    /// Takes a worker out: its token is refused from then on, its jobs wait again.
    pub async fn remove_worker(&self, worker_id: &str) -> Result<()> {
        let call = Call::delete(&["v1", "admin", "pool", "workers", worker_id]);
        self.client.done(call).await
    }

    /// Takes an orchestrator out with all workers behind it.
    pub async fn remove_orchestrator(&self, orch_id: &str) -> Result<()> {
        let call = Call::delete(&["v1", "admin", "pool", "orchestrators", orch_id]);
        self.client.done(call).await
    }
}

/// The cursor of the next page. These lists are bare, so it stands in `Link`; of its address nothing else is believed, as the
/// token goes where the client was told to go and nowhere else.
fn next_cursor(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok());
    let next = links.flat_map(|links| links.split(',')).find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then_some(address)
    })?;
    let (_, query) = next.split_once('?')?;
    let mut fields = url::form_urlencoded::parse(query.as_bytes());
    fields.find_map(|(name, value)| (name == "cursor").then(|| value.into_owned()))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn the_next_page_is_read_from_its_link() {
        for (links, cursor) in [
            (&["</v1/x?limit=2&cursor=a-b_c>; rel=\"next\""][..], Some("a-b_c")),
            (
                &["</v1/x?cursor=a>; rel=\"prev\", <https://other/v1/x?cursor=b%2B>; title=x; rel=next"],
                Some("b+"),
            ),
            (
                &["</v1/x?cursor=a>; rel=\"prev\"", "</v1/x?cursor=c>;rel=\"next\""],
                Some("c"),
            ),
            (&["</v1/x>; rel=\"next\""], None),
            (&["nonsense", "", "<"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for link in links {
                headers.append(LINK, HeaderValue::from_static(link));
            }
            assert_eq!(next_cursor(&headers).as_deref(), cursor, "{links:?}");
        }
    }
}
