//! The record of a project.

use std::fmt;

use crate::clock::Timestamp;
use crate::id::ProjectId;

/// The short name of a project: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

impl Slug {
    /// The project that is always there.
    pub fn default_project() -> Self {
        Self("default".into())
    }

    /// The slug of a project that a create named by its id alone.
    pub fn of_id(id: ProjectId) -> Self {
        Self(format!("p-{}", &id.to_string()[..8]))
    }

    /// Checks a slug.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: impl Into<String>) -> Result<Self, &'static str> {
        let text = text.into();
        let fits = (1..=63).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(Self(text))
        } else {
            Err("expected 1 to 63 of a-z 0-9 -, not starting with -")
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The project.
    pub id: ProjectId,
    /// Its short name, unique.
    pub slug: Slug,
    /// Its name for people.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
}
