//! Strict queries: an unknown parameter, one given twice, or a value that does not read is a fault at its name; an empty
//! value is none. Each endpoint says in [`Param`]s what it knows, and the OpenAPI document is made of the same list.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use pond_core::clock::Timestamp;
use pond_core::{Error, Fault};
use serde::de::DeserializeOwned;

use super::cursor::read_cursor;
use crate::error::Refusal;

/// A query parameter that an endpoint knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Param {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
}

/// The parameters of a request. Faults are gathered; [`Query::done`] tells them all.
#[derive(Debug)]
pub(crate) struct Query {
    given: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl Query {
    /// Reads a query; `known` are the endpoint's.
    pub(crate) fn check(uri: &Uri, known: &[Param]) -> Result<(), Refusal> {
        let mut faults = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for (name, _) in pairs(uri) {
            if !known.iter().any(|param| param.name == name) {
                let names: Vec<&str> = known.iter().map(|param| param.name).collect();
                let known = if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                };
                faults.push(Fault::new(&name, format!("is not a known parameter; known: {known}")));
            } else if seen.contains(&name) {
                faults.push(Fault::new(&name, "is given twice"));
            }
            seen.push(name);
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(faults).into())
        }
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// A value of a type that reads itself.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let read = self.text(name).map(str::parse::<T>)?;
        if read.is_err() {
            self.fault(name, expected);
        }
        read.ok()
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&mut self, name: &str, bounds: RangeInclusive<i64>) -> Option<i64> {
        let read = self
            .text(name)?
            .parse::<i64>()
            .ok()
            .filter(|number| bounds.contains(number));
        if read.is_none() {
            let expected = if *bounds.end() == i64::MAX {
                format!("expected a whole number from {}", bounds.start())
            } else {
                format!("expected a whole number from {} to {}", bounds.start(), bounds.end())
            };
            self.fault(name, &expected);
        }
        read
    }

    /// The size of a page.
    pub(crate) fn limit(&mut self, default: u32) -> u32 {
        let limit = self.integer("limit", 1..=500);
        limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(default)
    }

    /// An RFC 3339 time.
    pub(crate) fn time(&mut self, name: &str) -> Option<Timestamp> {
        // A plus in a query is a space: what `+01:00` becomes when it is not encoded.
        let read = Timestamp::parse(&self.text(name)?.replace(' ', "+"));
        if read.is_err() {
            self.fault(name, "expected an RFC 3339 time, such as 2025-01-31T12:00:00Z");
        }
        read.ok()
    }

    /// A comma-separated list of words.
    pub(crate) fn words<T>(&mut self, name: &str, read: impl Fn(&str) -> Option<T>, known: &[&str]) -> Vec<T> {
        let Some(text) = self.text(name) else { return Vec::new() };
        let words: Option<Vec<T>> = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(read)
            .collect();
        if words.is_none() {
            self.fault(
                name,
                &format!("expected some of {}, separated by commas", known.join(", ")),
            );
        }
        words.unwrap_or_default()
    }

    /// The place where a page starts.
    pub(crate) fn cursor<T: DeserializeOwned>(&mut self) -> Option<T> {
        let read = read_cursor(self.text("cursor")?);
        if read.is_none() {
            self.fault(
                "cursor",
                "is not a cursor of this list; send nextCursor as it was answered",
            );
        }
        read
    }

    /// Adds a fault.
    pub(crate) fn fault(&mut self, name: &str, message: &str) {
        self.faults.push(Fault::new(name, message));
    }

    /// All faults, if there are any.
    pub(crate) fn done(self) -> Result<(), Refusal> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(self.faults).into())
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    /// Unknown and repeated parameters were refused before.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let given = pairs(&parts.uri).filter(|(_, value)| !value.is_empty()).collect();
        Ok(Self {
            given,
            faults: Vec::new(),
        })
    }
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    let query = uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Param] = &[
        Param {
            name: "limit",
            about: "",
        },
        Param {
            name: "since",
            about: "",
        },
    ];

    async fn faults(query: &str) -> Vec<String> {
        let uri: Uri = format!("/?{query}").parse().unwrap();
        let mut parts = axum::http::Request::get(uri.clone()).body(()).unwrap().into_parts().0;
        let mut read = Query::from_request_parts(&mut parts, &()).await.unwrap();
        let _ = (read.limit(50), read.integer("since", 0..=i64::MAX));
        match Query::check(&uri, KNOWN).and_then(|()| read.done()) {
            Ok(()) => Vec::new(),
            Err(Refusal::Engine(Error::Invalid(faults))) => faults.into_iter().map(|fault| fault.pointer).collect(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn c17_19_bounds_and_unknown_parameters_are_faults_at_their_name() {
        for (query, expected) in [
            ("", &[][..]),
            ("limit=&since=", &[]),
            ("limit=500&since=0", &[]),
            ("limit=0", &["limit"]),
            ("limit=501", &["limit"]),
            ("since=-1", &["since"]),
            ("since=x&limit=y", &["limit", "since"]),
            ("since=99999999999999999999", &["since"]),
            ("limits=1", &["limits"]),
            ("limit=1&limit=2", &["limit"]),
        ] {
            assert_eq!(faults(query).await, expected, "{query}");
        }
    }
}
