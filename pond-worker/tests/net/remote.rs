//! Archives and objects: from servers on loopback, among them a real S3 service, and what hostile ones may try.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use bytes::Bytes;
use futures::StreamExt;
use pond_core::outbound::AllowPrivate;
use pond_core::secret::Secret;
use pond_core::sources::{
    Caps, FolderScope, GitKey, Resolved, S3Key, Source, SourceError, SourceFetch, SourceKey, parse,
};
use pond_store::testing::test_bucket;
use pond_worker::net::testing::{CountingListener, GitBehaviour, GitRepo, GitServer};
use pond_worker::net::{Dialer, DialerSettings, Fetcher, FetcherSettings};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use wiremock::matchers::{any, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// A folder, and a fetcher that may reach what was listed.
struct World {
    temp: TempDir,
    allow: AllowPrivate,
    fetcher: Fetcher,
}

const CAP: u64 = 256 << 10;

impl World {
    fn new(allowed: &[String]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let scratch = temp.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let allow = AllowPrivate::parse(&allowed.join(",")).unwrap();
        let settings = DialerSettings {
            allow: allow.clone(),
            ..DialerSettings::default()
        };
        let caps = Caps {
            tarball: CAP,
            s3: CAP,
            files: 20,
            ..Caps::default()
        };
        let settings_of_fetcher = FetcherSettings {
            folder_root: None,
            scratch,
            caps,
        };
        let fetcher = Fetcher::new(Dialer::new(settings).unwrap(), settings_of_fetcher);
        Self { temp, allow, fetcher }
    }

    fn source(&self, kind: &str, config: &Value) -> Source {
        let list = json!([{"label": "app", "kind": kind, "config": config}]);
        parse(&list, "", &self.allow).unwrap().remove(0)
    }

    fn target(&self) -> PathBuf {
        self.temp.path().join("into")
    }

    /// Fetches into a fresh folder and checks that nothing else is left behind.
    async fn fetch(&self, source: &Source, key: Option<&SourceKey>, pin: Option<&str>) -> Result<String, SourceError> {
        let _ = fs::remove_dir_all(self.target());
        let fetched = self
            .fetcher
            .fetch(source, key, pin, &FolderScope::Root, &self.target())
            .await;
        assert_eq!(
            fs::read_dir(self.temp.path().join("scratch")).unwrap().count(),
            0,
            "no partial file"
        );
        assert_eq!(self.target().exists(), fetched.is_ok(), "a failed fetch leaves nothing");
        fetched.map(|resolved| match resolved {
            Resolved::Digest(hex) => hex,
            Resolved::Commit(_) => panic!("not a git source"),
        })
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.target().join(path)).unwrap()
    }
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Written raw: the library refuses names that a hostile archive has.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn serve(server: &MockServer, at: &str, bytes: &[u8]) {
    Mock::given(method("GET"))
        .and(path(at))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(bytes))
        .mount(server)
        .await;
}

async fn redirect(server: &MockServer, at: &str, to: &str) {
    Mock::given(path(at))
        .respond_with(ResponseTemplate::new(302).insert_header("location", to))
        .mount(server)
        .await;
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[tokio::test]
async fn tarballs_are_fetched_and_held_to_their_digest() {
    let server = MockServer::start().await;
    let world = World::new(&[format!("tarball={}", server.address())]);
    let plain = tar(&[("a.txt", b"one"), ("sub/b.txt", b"two")]);
    for (name, bytes) in [
        ("a.tar", plain.clone()),
        ("a.tar.gz", gzip(&plain)),
        ("a.tar.zst", zstd::encode_all(&plain[..], 3).unwrap()),
    ] {
        serve(&server, &format!("/{name}"), &bytes).await;
        let digest = sha256(&bytes);
        let url = format!("http://{}/{name}", server.address());
        let source = world.source("tarball", &json!({"url": url, "sha256": digest}));
        assert_eq!(world.fetch(&source, None, None).await, Ok(digest.clone()), "{name}");
        assert_eq!(world.read("sub/b.txt"), "two");
        assert_eq!(world.fetch(&source, None, Some(&digest)).await, Ok(digest.clone()));
        let moved = world.fetch(&source, None, Some(&"0".repeat(64))).await.unwrap_err();
        assert!(
            moved.to_string().contains("not the one that was fetched before"),
            "{moved}"
        );
        let other = world.source("tarball", &json!({"url": url, "sha256": "f".repeat(64)}));
        let refused = world.fetch(&other, None, None).await.unwrap_err();
        assert_eq!(refused.code(), "source_failed");
        assert!(refused.to_string().contains(&digest), "{refused}");
    }
    let gone = world.source("tarball", &json!({"url": format!("http://{}/none", server.address())}));
    assert!(
        world
            .fetch(&gone, None, None)
            .await
            .unwrap_err()
            .to_string()
            .contains("404")
    );
    assert!(!world.fetcher.reachable(&gone, None, &FolderScope::Root).await);
}

#[tokio::test]
async fn c17_37_hostile_and_oversize_tarballs_leave_nothing() {
    let server = MockServer::start().await;
    let world = World::new(&[format!("tarball={}", server.address())]);
    let large: Vec<u8> = (0..CAP as u32 + 1)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let many: Vec<(String, &[u8])> = (0..21).map(|at| (format!("f{at}"), &b"x"[..])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    for (name, bytes, code) in [
        ("up", tar(&[("a", b"x"), ("../../evil", b"x")]), "source_failed"),
        ("absolute", tar(&[("/tmp/pond-evil", b"x")]), "source_failed"),
        ("broken", b"this is no archive".to_vec(), "source_failed"),
        ("sent", large.clone(), "source_too_large"),
        ("bomb", gzip(&tar(&[("zeros", &vec![0; 64 << 20])])), "source_too_large"),
        ("many", tar(&many), "source_too_large"),
    ] {
        serve(&server, &format!("/{name}"), &bytes).await;
        let source = world.source(
            "tarball",
            &json!({"url": format!("http://{}/{name}", server.address())}),
        );
        let error = world.fetch(&source, None, None).await.unwrap_err();
        assert_eq!(error.code(), code, "{name}: {error}");
    }
    let beside: Vec<_> = fs::read_dir(world.temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(beside, ["scratch"], "nothing was written beside the target");
}

#[tokio::test]
async fn c17_35_redirects_are_few_and_each_judged() {
    let (server, inner) = (MockServer::start().await, CountingListener::on("127.0.0.1").await);
    let world = World::new(&[format!("tarball={}", server.address())]);
    let bytes = tar(&[("a", b"x")]);
    serve(&server, "/end", &bytes).await;
    for (from, to) in [("/1", "/end"), ("/2", "/1"), ("/3", "/2"), ("/4", "/3")] {
        redirect(&server, from, to).await;
    }
    redirect(&server, "/inner", &format!("http://{}/x", inner.address())).await;
    redirect(&server, "/metadata", "https://169.254.169.254/latest").await;
    redirect(&server, "/file", "file:///etc/passwd").await;
    redirect(&server, "/user", "https://u:p@example.com/").await;
    let source = |at: &str| world.source("tarball", &json!({"url": format!("http://{}{at}", server.address())}));
    assert_eq!(
        world.fetch(&source("/3"), None, None).await,
        Ok(sha256(&bytes)),
        "three redirects are followed"
    );
    for (at, part) in [
        ("/4", "more than 3"),
        ("/inner", "redirects elsewhere"),
        ("/metadata", "redirects elsewhere"),
        ("/file", "redirects elsewhere"),
        ("/user", "redirects elsewhere"),
    ] {
        let error = world.fetch(&source(at), None, None).await.unwrap_err();
        assert!(error.to_string().contains(part), "{at}: {error}");
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }
    assert_eq!(inner.count().await, 0);
}

fn s3_key(secret: &str) -> SourceKey {
    SourceKey::S3(S3Key {
        access_key_id: "pond-test".into(),
        secret_access_key: Secret::new(secret),
        session_token: None,
    })
}

#[tokio::test]
async fn objects_of_a_real_service_are_fetched() {
    let place = test_bucket();
    let endpoint = place.endpoint.clone().unwrap();
    let host = endpoint.trim_start_matches("http://").to_owned();
    let blobs = pond_store::blobs_in_bucket(&place).unwrap();
    for (key, size) in [
        ("app/a", 5),
        ("app/sub/b", 70_000),
        ("app/sub/empty", 0),
        ("apple/c", 3),
        ("other/d", 1),
    ] {
        let bytes = Bytes::from(vec![b'x'; size]);
        blobs
            .put(key, futures::stream::once(async { Ok(bytes) }).boxed(), 1 << 20)
            .await
            .unwrap();
    }
    let world = World::new(&[format!("s3={host}")]);
    let key = s3_key(place.secret_access_key.expose());
    let source = |prefix: &str| {
        let config = json!({"bucket": place.bucket, "prefix": format!("pond/blobs/{prefix}"), "endpoint_url": endpoint, "credential": "c"});
        world.source("s3", &config)
    };

    let digest = world.fetch(&source("app/"), Some(&key), None).await.unwrap();
    assert_eq!(
        (
            world.read("a").as_str(),
            world.read("sub/b").len(),
            world.read("sub/empty").len()
        ),
        ("xxxxx", 70_000, 0)
    );
    assert!(!world.target().join("c").exists());
    assert_eq!(
        world.fetch(&source("app/"), Some(&key), Some(&digest)).await,
        Ok(digest)
    );
    world.fetch(&source("app"), Some(&key), None).await.unwrap();
    assert_eq!(
        (world.read("app/a").as_str(), world.read("apple/c").as_str()),
        ("xxxxx", "xxx"),
        "a prefix is no folder"
    );
    assert!(
        world
            .fetcher
            .reachable(&source("app/"), Some(&key), &FolderScope::Root)
            .await
    );

    let changed = world
        .fetch(&source("app/"), Some(&key), Some(&"0".repeat(64)))
        .await
        .unwrap_err();
    assert!(changed.to_string().contains("fetched before"), "{changed}");
    let nothing = world.fetch(&source("nowhere/"), Some(&key), None).await.unwrap_err();
    assert!(nothing.to_string().contains("no object"), "{nothing}");
    assert!(
        !world
            .fetcher
            .reachable(&source("nowhere/"), Some(&key), &FolderScope::Root)
            .await
    );
    let wrong = world
        .fetch(&source("app/"), Some(&s3_key("CANARY")), None)
        .await
        .unwrap_err();
    assert!(
        wrong.to_string().contains("refuses it") && !wrong.to_string().contains("CANARY"),
        "{wrong}"
    );
    let config = json!({"bucket": place.bucket, "prefix": "pond/", "endpoint_url": endpoint});
    let unsigned = world.fetch(&world.source("s3", &config), None, None).await.unwrap_err();
    assert!(unsigned.to_string().contains("refuses it"), "{unsigned}");

    let bytes = Bytes::from(vec![b'x'; CAP as usize]);
    blobs
        .put("app/large", futures::stream::once(async { Ok(bytes) }).boxed(), 1 << 20)
        .await
        .unwrap();
    let large = world.fetch(&source("app/"), Some(&key), None).await.unwrap_err();
    assert_eq!(large.code(), "source_too_large");
}

fn listing(keys: &[(&str, usize)]) -> String {
    let objects: String = keys
        .iter()
        .map(|(key, size)| {
            format!("<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>{size}</Size></Contents>")
        })
        .collect();
    format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>"
    )
}

fn object(size: usize) -> ResponseTemplate {
    ResponseTemplate::new(200)
        .insert_header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .insert_header("etag", "\"e\"")
        .set_body_bytes(vec![b'x'; size])
}

#[tokio::test]
async fn a_service_that_lies_is_held_to_the_caps() {
    let server = MockServer::start().await;
    let world = World::new(&[format!("s3={}", server.address())]);
    let config = json!({"bucket": "bucket", "prefix": "p/", "endpoint_url": format!("http://{}", server.address())});
    let source = world.source("s3", &config);
    for (list, body, code) in [
        (listing(&[("p/small", 1)]), object(CAP as usize + 1), "source_too_large"),
        (listing(&[("p/../../evil", 1)]), object(1), "source_failed"),
        ("not a list".to_owned(), object(1), "source_failed"),
        (
            listing(&(0..21).map(|_| ("p/same", 1)).collect::<Vec<_>>()),
            object(1),
            "source_too_large",
        ),
    ] {
        server.reset().await;
        Mock::given(path("/bucket"))
            .respond_with(ResponseTemplate::new(200).set_body_string(list))
            .mount(&server)
            .await;
        Mock::given(any())
            .respond_with(body)
            .with_priority(9)
            .mount(&server)
            .await;
        let error = world.fetch(&source, None, None).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
}

#[tokio::test]
async fn c17_85_a_key_does_not_follow_a_redirect() {
    let (first, other) = (MockServer::start().await, MockServer::start().await);
    let world = World::new(&[format!("s3={}", first.address()), format!("s3={}", other.address())]);
    Mock::given(path("/bucket"))
        .respond_with(ResponseTemplate::new(200).set_body_string(listing(&[("p/a", 1)])))
        .mount(&first)
        .await;
    let away = format!("http://{}/elsewhere", other.address());
    redirect(&first, "/bucket/p/a", &away).await;
    Mock::given(path("/elsewhere"))
        .respond_with(object(1))
        .mount(&other)
        .await;
    let config = json!({"bucket": "bucket", "prefix": "p/", "endpoint_url": format!("http://{}", first.address()), "credential": "c"});
    let mut key = s3_key("s3cret");
    if let SourceKey::S3(key) = &mut key {
        key.session_token = Some(Secret::new("CANARY-session"));
    }
    world
        .fetch(&world.source("s3", &config), Some(&key), None)
        .await
        .unwrap();
    let carries = |requests: Vec<Request>| {
        assert!(!requests.is_empty());
        requests.iter().any(|request| {
            request.headers.contains_key("authorization") || request.headers.contains_key("x-amz-security-token")
        })
    };
    assert!(
        carries(first.received_requests().await.unwrap()),
        "the place itself gets it"
    );
    assert!(
        !carries(other.received_requests().await.unwrap()),
        "where a redirect leads it is not sent"
    );
}

#[tokio::test]
async fn c17_85_a_git_token_does_not_follow_a_redirect_and_is_needed_where_named() {
    let temp = tempfile::tempdir().unwrap();
    GitRepo::init(temp.path(), "app").commit(&[("a", "")]);
    let inner = CountingListener::on("127.0.0.1").await;
    let redirect_to = Some(format!("http://{}", inner.address()));
    let server = GitServer::start(
        temp.path(),
        GitBehaviour {
            redirect_to,
            ..GitBehaviour::default()
        },
    )
    .await;
    let world = World::new(&[format!("git={}", server.address()), format!("git={}", inner.address())]);
    let source = world.source("git_https", &json!({"url": server.url("app"), "credential": "c"}));
    let unopened = world.fetch(&source, None, None).await.unwrap_err();
    assert!(unopened.to_string().contains("was not opened"), "{unopened}");
    assert_eq!(server.requests(), 0, "without its credential nothing is tried");
    let key = SourceKey::Git(GitKey {
        username: "me".into(),
        token: Secret::new("CANARY"),
    });
    let error = world.fetch(&source, Some(&key), None).await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    assert!(server.requests() > 0);
    assert_eq!(inner.count().await, 0, "nobody came to where the redirect leads");
}
