//! Names of artifacts, and what they tell about the content.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of an artifact: `[A-Za-z0-9._-]{1,128}`, not starting with a dot. No path can be spelt with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactName(String);

/// A text that is no artifact name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an artifact name: 1 to 128 of A-Z a-z 0-9 . _ -, not starting with a dot")]
pub struct BadName;

impl ArtifactName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        let fits = (1..=128).contains(&name.len())
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits { Ok(Self(name)) } else { Err(BadName) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ArtifactName {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        Self::new(name)
    }
}

impl From<ArtifactName> for String {
    fn from(name: ArtifactName) -> Self {
        name.0
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The content type we serve it with, by extension; what a browser might run is not on the list.
pub fn content_type(name: &ArtifactName) -> &'static str {
    match name
        .as_str()
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .as_deref()
    {
        Some("json") => "application/json",
        Some("jsonl" | "ndjson") => "application/x-ndjson",
        Some("txt" | "log" | "md" | "csv" | "patch" | "diff") => "text/plain; charset=utf-8",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("pdf") => "application/pdf",
        Some("zip") => "application/zip",
        Some("gz" | "tgz") => "application/gzip",
        Some("tar") => "application/x-tar",
        Some("zst") => "application/zstd",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_22_no_path_is_a_name() {
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "../x",
            "..%2fx",
            "%2e%2e/x",
            "/x",
            "a\0b",
            "a/b",
            "ä",
            &"a".repeat(129),
        ] {
            assert_eq!(ArtifactName::new(bad), Err(BadName), "{bad:?}");
        }
        for good in ["a", "changes.patch", "A-b_c..d", &"a".repeat(128)] {
            assert_eq!(ArtifactName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn c17_95_what_a_browser_might_run_is_octets() {
        for name in ["x.html", "x.svg", "x.xml", "x.js", "x.xhtml", "x.mjs", "x", "x.what"] {
            assert_eq!(
                content_type(&ArtifactName::new(name).unwrap()),
                "application/octet-stream",
                "{name}"
            );
        }
        assert_eq!(
            content_type(&ArtifactName::new("changed-files.JSON").unwrap()),
            "application/json"
        );
    }
}
