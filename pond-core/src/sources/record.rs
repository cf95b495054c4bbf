//! What a caller asks to work on: `{label, kind, config}`, closed, with every fault told at once.

use serde_json::Value;

use super::fields::Fields;
use crate::error::Fault;
use crate::outbound::{AllowPrivate, OutboundUrl, Purpose};

/// The most sources of one run.
pub const MAX_SOURCES: usize = 16;

/// The longest folder path, reference and credential name.
const MAX_PATH: usize = 4096;
const MAX_REF: usize = 255;
const MAX_CREDENTIAL: usize = 128;

/// One source of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name in the run, and its folder in the checkout when there are several.
    pub label: String,
    /// Where it comes from.
    pub kind: Kind,
}

/// Where a source comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A git repository over https.
    GitHttps(Git),
    /// A folder of this host.
    Folder(Folder),
    /// An archive over https.
    Tarball(Tarball),
    /// Objects of a bucket.
    S3(S3),
}

/// A git source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    /// The repository.
    pub url: OutboundUrl,
    /// Branch, tag or commit; the repository's default branch if none.
    pub reference: Option<GitRef>,
    /// The credential to fetch with.
    pub credential: Option<String>,
}

/// A folder source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Absolute, or relative to the operator's root.
    pub path: String,
}

/// A tarball source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tarball {
    /// The archive.
    pub url: OutboundUrl,
    /// What it must hash to, in lower-case hex.
    pub sha256: Option<String>,
}

/// An object storage source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// What the names of its objects start with.
    pub prefix: String,
    /// The bucket's region.
    pub region: Option<String>,
    /// The service, where it is not AWS.
    pub endpoint_url: Option<OutboundUrl>,
    /// The credential to fetch with.
    pub credential: Option<String>,
}

/// A git reference that is safe on a command line and in a refspec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRef(String);

impl GitRef {
    /// Reads a branch, tag, full reference or commit.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const SANE: &str =
            "must be a branch, tag or commit: letters, digits, '.', '_', '/', '+' and '-', not starting with '-'";
        if text.is_empty() || text.len() > MAX_REF {
            return Err("must have 1 to 255 characters");
        }
        let alphabet = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/+-".contains(&b));
        let shape = !text.starts_with(['-', '/', '.', '+']) && !text.ends_with(['/', '.']) && !text.ends_with(".lock");
        if !alphabet || !shape || ["..", "//", "/."].iter().any(|bad| text.contains(bad)) {
            return Err(SANE);
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the list of sources at `pointer`, or tells every fault in it.
pub fn parse(value: &Value, pointer: &str, allow: &AllowPrivate) -> Result<Vec<Source>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut sources: Vec<Source> = Vec::new();
    let Some(list) = value.as_array() else {
        return Err(vec![Fault::new(pointer, "must be an array")]);
    };
    if list.len() > MAX_SOURCES {
        return Err(vec![Fault::new(
            pointer,
            format!("must have at most {MAX_SOURCES} sources"),
        )]);
    }
    for (index, value) in list.iter().enumerate() {
        let at = format!("{pointer}/{index}");
        let Some(source) = parse_one(value, &at, allow, &mut faults) else {
            continue;
        };
        if sources.iter().any(|other| other.label == source.label) {
            faults.push(Fault::new(format!("{at}/label"), "another source has this label"));
        }
        sources.push(source);
    }
    if faults.is_empty() { Ok(sources) } else { Err(faults) }
}

fn parse_one(value: &Value, at: &str, allow: &AllowPrivate, faults: &mut Vec<Fault>) -> Option<Source> {
    let mut fields = Fields::open(value, at.to_owned(), &["label", "kind", "config"], faults)?;
    let label = fields.read("label", label);
    let kind = fields.text("kind");
    let config = fields.value("config");
    let at = format!("{at}/config");
    let kind = match kind? {
        "git_https" => Kind::GitHttps(git(config?, at, allow, fields.faults())?),
        "folder" => Kind::Folder(folder(config?, at, fields.faults())?),
        "tarball" => Kind::Tarball(tarball(config?, at, allow, fields.faults())?),
        "s3" => Kind::S3(s3(config?, at, allow, fields.faults())?),
        _ => {
            fields.fault("kind", "must be one of git_https, folder, tarball, s3");
            return None;
        }
    };
    Some(Source { label: label?, kind })
}

fn label(text: &str) -> Result<String, &'static str> {
    let sane = text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    sane.then(|| text.to_owned())
        .ok_or("must be 1 to 64 of letters, digits, '.', '_', '-', starting with a letter or digit")
}

fn credential(text: &str) -> Result<String, &'static str> {
    let sane = (1..=MAX_CREDENTIAL).contains(&text.len()) && !text.chars().any(char::is_control);
    sane.then(|| text.to_owned()).ok_or("must be the name of a credential")
}

fn git(value: &Value, at: String, allow: &AllowPrivate, faults: &mut Vec<Fault>) -> Option<Git> {
    let mut fields = Fields::open(value, at, &["url", "ref", "credential"], faults)?;
    let url = fields.read("url", |text| OutboundUrl::parse(text, Purpose::Git, allow));
    let reference = fields.read_optional("ref", GitRef::parse);
    let credential = fields.read_optional("credential", credential);
    Some(Git {
        url: url?,
        reference,
        credential,
    })
}

fn folder(value: &Value, at: String, faults: &mut Vec<Fault>) -> Option<Folder> {
    let mut fields = Fields::open(value, at, &["path"], faults)?;
    let path = fields.read("path", |text| {
        let sane = (1..=MAX_PATH).contains(&text.len()) && !text.contains('\0');
        sane.then(|| text.to_owned()).ok_or("must be a path")
    });
    Some(Folder { path: path? })
}

fn tarball(value: &Value, at: String, allow: &AllowPrivate, faults: &mut Vec<Fault>) -> Option<Tarball> {
    let mut fields = Fields::open(value, at, &["url", "sha256"], faults)?;
    let url = fields.read("url", |text| OutboundUrl::parse(text, Purpose::Tarball, allow));
    let sha256 = fields.read_optional("sha256", |text| {
        let hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| text.to_ascii_lowercase())
            .ok_or("must be 64 hexadecimal digits")
    });
    Some(Tarball { url: url?, sha256 })
}

fn s3(value: &Value, at: String, allow: &AllowPrivate, faults: &mut Vec<Fault>) -> Option<S3> {
    let known = ["bucket", "prefix", "region", "endpoint_url", "credential"];
    let mut fields = Fields::open(value, at, &known, faults)?;
    let bucket = fields.read("bucket", |text| is_bucket(text).then(|| text.to_owned()).ok_or(BUCKET));
    let prefix = fields.read("prefix", |text| {
        // Some services keep objects as files, and would read such parts as steps.
        let step = |part: &str| matches!(part, "." | "..");
        let sane = text.len() <= 1024 && !text.chars().any(char::is_control) && !text.split('/').any(step);
        sane.then(|| text.to_owned())
            .ok_or("must have at most 1024 characters, without '.' and '..' as parts")
    });
    let region = fields.read_optional("region", |text| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let sane = (1..=64).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-');
        sane.then(|| text.to_owned())
            .ok_or("must be 1 to 64 of a-z, 0-9 and '-'")
    });
    let endpoint_url = fields.read_optional("endpoint_url", |text| {
        let url = OutboundUrl::parse(text, Purpose::S3, allow).map_err(|bad| bad.to_string())?;
        match url.url().query().is_none() && url.url().fragment().is_none() {
            true => Ok(url),
            false => Err("must have no query and no fragment".to_owned()),
        }
    });
    let credential = fields.read_optional("credential", credential);
    Some(S3 {
        bucket: bucket?,
        prefix: prefix?,
        region,
        endpoint_url,
        credential,
    })
}

/// What a bucket's name is held to.
pub(crate) const BUCKET: &str = "must be 3 to 63 of a-z, 0-9, '.' and '-', starting and ending with a letter or digit";

/// Whether a text is a bucket's name.
pub fn is_bucket(text: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&text.len())
        && text.starts_with(end)
        && text.ends_with(end)
        && !text.contains("..")
        && text.chars().all(|c| end(c) || c == '.' || c == '-')
}

impl Source {
    /// The credential that it names.
    pub fn credential(&self) -> Option<&str> {
        match &self.kind {
            Kind::GitHttps(git) => git.credential.as_deref(),
            Kind::S3(s3) => s3.credential.as_deref(),
            Kind::Folder(_) | Kind::Tarball(_) => None,
        }
    }
}

impl S3 {
    /// The bucket's region, where none was named AWS's own default.
    pub fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }

    /// The service: the endpoint that was named, else AWS in the bucket's region. Without a slash at the end; the bucket is
    /// the next part of the path.
    pub fn endpoint(&self) -> String {
        match &self.endpoint_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("https://s3.{}.amazonaws.com", self.region()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn faults(value: &Value) -> Vec<(String, String)> {
        let allow = AllowPrivate::default();
        let found = parse(value, "/sources", &allow).expect_err("faults");
        found.into_iter().map(|fault| (fault.pointer, fault.message)).collect()
    }

    fn pointers(value: &Value) -> Vec<String> {
        faults(value).into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn git_and_folder_sources_are_read() {
        let list = json!([
            {"label": "app", "kind": "git_https", "config": {"url": "https://Example.com/a.git", "ref": "feature/x+1"}},
            {"label": "docs", "kind": "folder", "config": {"path": "/srv/docs"}},
        ]);
        let sources = parse(&list, "/sources", &AllowPrivate::default()).unwrap();

        let Kind::GitHttps(git) = &sources[0].kind else {
            panic!("{sources:?}")
        };
        assert_eq!(git.url.as_str(), "https://example.com/a.git");
        assert_eq!(git.reference.as_ref().map(GitRef::as_str), Some("feature/x+1"));
        assert_eq!(
            sources[1].kind,
            Kind::Folder(Folder {
                path: "/srv/docs".into()
            })
        );
    }

    #[test]
    fn every_fault_is_told_with_its_pointer() {
        let list = json!([
            {"label": "-a", "kind": "git_https", "config": {"url": "file:///etc", "ref": "--upload-pack=x", "depth": 1}},
            {"label": "b", "kind": "svn", "config": {}, "a/b~c": 1},
            {"kind": "folder", "config": {"path": 7}},
            7,
            {"label": "x", "kind": "folder"},
        ]);
        assert_eq!(
            pointers(&list),
            [
                "/sources/0/label",
                "/sources/0/config/depth",
                "/sources/0/config/url",
                "/sources/0/config/ref",
                "/sources/1/a~1b~0c",
                "/sources/1/kind",
                "/sources/2/label",
                "/sources/2/config/path",
                "/sources/3",
                "/sources/4/config",
            ]
        );
    }

    #[test]
    fn labels_are_unique_and_sources_bounded() {
        let one = json!({"label": "a", "kind": "folder", "config": {"path": "x"}});
        assert_eq!(pointers(&json!([one, one])), ["/sources/1/label"]);
        assert_eq!(pointers(&Value::Array(vec![one; MAX_SOURCES + 1])), ["/sources"]);
        assert_eq!(pointers(&json!({})), ["/sources"]);
    }

    #[test]
    fn c17_34_urls_that_git_must_not_get_are_faults() {
        for url in [
            "https://user:pw@example.com/a",
            "http://example.com/a",
            "file:///etc/passwd",
            "ssh://example.com/a",
            "git@example.com:a",
            "ext::sh -c id",
            "https://127.0.0.1/a",
            "https://2130706433/a",
            "https://[::ffff:127.0.0.1]/a",
            "--upload-pack=x",
        ] {
            let list = json!([{"label": "a", "kind": "git_https", "config": {"url": url}}]);
            let found = faults(&list);
            assert_eq!(found.len(), 1, "{url}");
            assert_eq!(found[0].0, "/sources/0/config/url", "{url}");
            assert!(
                !found[0].1.contains("pw"),
                "the message must not hold the URL: {}",
                found[0].1
            );
        }
    }

    #[test]
    fn a_plain_url_is_taken_where_the_operator_lists_it_for_git() {
        let list = json!([{"label": "a", "kind": "git_https", "config": {"url": "http://127.0.0.1:8080/a"}}]);
        assert!(parse(&list, "", &AllowPrivate::parse("git=127.0.0.1:8080").unwrap()).is_ok());
        assert!(parse(&list, "", &AllowPrivate::parse("webhook=127.0.0.1:8080").unwrap()).is_err());
    }

    #[test]
    fn archives_and_buckets_are_read_and_checked() {
        let list = json!([
            {"label": "t", "kind": "tarball", "config": {"url": "https://example.com/a.tgz", "sha256": "A".repeat(64)}},
            {"label": "s", "kind": "s3", "config": {"bucket": "my-bucket", "prefix": "p/", "credential": "c"}},
            {"label": "r", "kind": "s3", "config": {
                "bucket": "my-bucket", "prefix": "", "region": "eu-west-1", "endpoint_url": "https://s3.example.com/base/"}},
        ]);
        let sources = parse(&list, "/sources", &AllowPrivate::default()).unwrap();
        let Kind::Tarball(tarball) = &sources[0].kind else {
            panic!("{sources:?}")
        };
        assert_eq!(tarball.sha256, Some("a".repeat(64)));
        let (Kind::S3(aws), Kind::S3(other)) = (&sources[1].kind, &sources[2].kind) else {
            panic!("{sources:?}")
        };
        assert_eq!(aws.endpoint(), "https://s3.us-east-1.amazonaws.com");
        assert_eq!(
            (other.endpoint().as_str(), other.region()),
            ("https://s3.example.com/base", "eu-west-1")
        );
        assert_eq!((sources[0].credential(), sources[1].credential()), (None, Some("c")));

        let bad = |config: Value| pointers(&json!([{"label": "s", "kind": "s3", "config": config}]));
        for (field, values) in [
            ("bucket", vec!["b", "b/c", "..", "a..b", ".bc", "Bcd", "a b"]),
            ("prefix", vec!["../x", "a/../b", "a/./b", "a\u{0}"]),
            ("region", vec!["", "a.evil", "eu/west", "-x"]),
            (
                "endpoint_url",
                vec![
                    "http://a/",
                    "https://127.0.0.1/",
                    "https://u@a/",
                    "https://a/?x=1",
                    "https://a/#x",
                ],
            ),
        ] {
            for value in values {
                let mut config = json!({"bucket": "my-bucket", "prefix": "p/"});
                config[field] = value.into();
                assert_eq!(bad(config), [format!("/sources/0/config/{field}")], "{value:?}");
            }
        }
        let digest = json!([{"label": "t", "kind": "tarball", "config": {"url": "https://e.com/a", "sha256": "abc"}}]);
        assert_eq!(pointers(&digest), ["/sources/0/config/sha256"]);
    }

    #[test]
    fn references_are_sane() {
        for good in [
            "main",
            "v1.2.3",
            "release/2026-01",
            "refs/heads/x",
            "0123456789abcdef0123456789abcdef01234567",
            "a_b+c",
        ] {
            assert!(GitRef::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "a b",
            "a..b",
            "a:b",
            "+a",
            "a~1",
            "a^",
            "a?",
            "*",
            "a\\b",
            "/a",
            "a/",
            "a//b",
            "a.lock",
            "a\0",
            "a\n",
            "@{u}",
            ".a",
            "a/.b",
            "ä",
        ] {
            assert!(GitRef::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in "\\PC{0,60}", field in "[a-z]{1,6}") {
            let list = json!([{"label": text, "kind": "git_https", "config": {"url": text, "ref": text, field: text}}]);
            let _ = parse(&list, "", &AllowPrivate::default());
        }
    }
}
