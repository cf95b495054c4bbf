//! What git said, as something a user may read: never its own words, which may tell of the network or of this host.

use pond_core::sources::SourceError;

/// Git's words (in the C locale) and what they mean. The first that fits counts.
const MEANINGS: [(&str, &str); 15] = [
    (
        "couldn't find remote ref",
        "the repository has no such branch, tag or commit",
    ),
    ("not our ref", "the repository does not hand out that commit"),
    ("unadvertised object", "the repository does not hand out that commit"),
    (
        "error: 301",
        "the repository's URL redirects elsewhere, which is not followed",
    ),
    (
        "error: 302",
        "the repository's URL redirects elsewhere, which is not followed",
    ),
    (
        "error: 303",
        "the repository's URL redirects elsewhere, which is not followed",
    ),
    (
        "error: 307",
        "the repository's URL redirects elsewhere, which is not followed",
    ),
    (
        "error: 308",
        "the repository's URL redirects elsewhere, which is not followed",
    ),
    (
        "could not read Username",
        "there is no such repository, or it needs a credential",
    ),
    ("Authentication failed", "the repository refuses the credential"),
    ("not found", "there is no such repository, or it needs a credential"),
    (
        "certificate",
        "the repository's host has no TLS certificate that is trusted",
    ),
    ("ut of memory", "the repository holds an object that is too large"),
    ("mmap failed", "the repository holds an object that is too large"),
    ("Could not connect", "the repository's host cannot be reached"),
];

/// Tells by meaning why a transfer failed.
pub(super) fn meaning(said: &str) -> SourceError {
    let meaning = MEANINGS
        .iter()
        .find(|(words, _)| said.contains(words))
        .map(|(_, meaning)| *meaning);
    SourceError::Failed(meaning.unwrap_or("the repository cannot be fetched").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_told_by_meaning_alone() {
        for (said, part) in [
            ("fatal: couldn't find remote ref main", "no such branch"),
            (
                "fatal: unable to access 'https://x/': The requested URL returned error: 302",
                "redirects",
            ),
            (
                "fatal: could not read Username for 'https://x': terminal prompts disabled",
                "credential",
            ),
            ("fatal: something about /root/secret and 10.0.0.1", "cannot be fetched"),
        ] {
            let text = meaning(said).to_string();
            assert!(text.contains(part) && !text.contains("10.0.0.1"), "{text}");
        }
    }
}
