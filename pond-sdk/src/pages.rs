//! Lists across their pages, as streams.

use std::future::Future;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::error::{Error, Result};

/// A list across its pages; each page is fetched when it is needed.
pub type Pages<T> = BoxStream<'static, Result<T>>;

/// One page: its entries, and where the next one begins.
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<T>,
    pub(crate) next: Option<String>,
}

/// Where a list stands.
enum Place {
    Start,
    At(String),
    End,
}

/// Fetches page after page until there is no next one.
pub(crate) fn pages<T, F, A>(fetch: F) -> Pages<T>
where
    T: Send + 'static,
    F: Fn(Option<String>) -> A + Send + 'static,
    A: Future<Output = Result<Page<T>>> + Send + 'static,
{
    stream::try_unfold((Place::Start, fetch), async |(place, fetch)| {
        let cursor = match place {
            Place::Start => None,
            Place::At(cursor) => Some(cursor),
            Place::End => return Ok(None),
        };
        let page = fetch(cursor.clone()).await?;
        let next = match page.next {
            None => Place::End,
            // Not to go in circles with a server that does.
            Some(next) if Some(&next) == cursor.as_ref() => {
                let source = std::io::Error::other("the next page is this page");
                return Err(Error::decode("list", source));
            }
            Some(next) => Place::At(next),
        };
        Ok(Some((stream::iter(page.entries.into_iter().map(Ok)), (next, fetch))))
    })
    .try_flatten()
    .boxed()
}
