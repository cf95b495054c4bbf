//! Git and folder sources against a real git server on loopback, among them what a hostile repository may hold.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pond_core::outbound::AllowPrivate;
use pond_core::secret::Secret;
use pond_core::sources::{Caps, FolderScope, GitKey, Kind, Limits, Resolved, Source, SourceError, SourceFetch, parse};
use pond_worker::net::testing::{CountingListener, GitBehaviour, GitRepo, GitServer, ScriptedResolver};
use pond_worker::net::{Dialer, DialerSettings, Fetcher, FetcherSettings, GitFetcher};
use serde_json::json;
use tempfile::TempDir;

/// A served repository and a fetcher that may reach it.
struct World {
    temp: TempDir,
    repo: GitRepo,
    server: GitServer,
}

const LIMITS: Limits = Limits {
    bytes: 8 << 20,
    files: 200,
};

impl World {
    async fn new(behaviour: GitBehaviour) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let served = temp.path().join("served");
        fs::create_dir(temp.path().join("scratch")).unwrap();
        let repo = GitRepo::init(&served, "app");
        let server = GitServer::start(&served, behaviour).await;
        Self { temp, repo, server }
    }

    fn allow(&self) -> AllowPrivate {
        let port = self.server.address().port();
        AllowPrivate::parse(&format!("git=127.0.0.1:{port},git=inner.test:{port}")).unwrap()
    }

    fn dialer(&self) -> Dialer {
        let resolver = ScriptedResolver::new().answer("inner.test", &["127.0.0.1"]);
        let settings = DialerSettings {
            allow: self.allow(),
            ..DialerSettings::default()
        };
        Dialer::with_resolver(settings, Arc::new(resolver)).unwrap()
    }

    fn scratch(&self) -> PathBuf {
        self.temp.path().join("scratch")
    }

    fn target(&self) -> PathBuf {
        self.temp.path().join("into")
    }

    fn fetcher(&self) -> Fetcher {
        let caps = Caps {
            git: LIMITS.bytes,
            files: LIMITS.files,
            ..Caps::default()
        };
        Fetcher::new(
            self.dialer(),
            FetcherSettings {
                folder_root: None,
                scratch: self.scratch(),
                caps,
            },
        )
    }

    fn source(&self, url: &str, reference: Option<&str>) -> Source {
        source(&self.allow(), url, reference)
    }

    /// Fetches into a fresh folder and checks that nothing else is left behind.
    async fn fetch(&self, reference: Option<&str>, pin: Option<&str>) -> Result<String, SourceError> {
        let _ = fs::remove_dir_all(self.target());
        let source = self.source(&self.server.url("app"), reference);
        let result = self
            .fetcher()
            .fetch(&source, None, pin, &FolderScope::Root, &self.target())
            .await;
        assert_eq!(
            fs::read_dir(self.scratch()).unwrap().count(),
            0,
            "the repository is removed"
        );
        assert_eq!(self.target().exists(), result.is_ok(), "a failed fetch leaves nothing");
        result.map(|resolved| match resolved {
            Resolved::Commit(commit) => commit,
            Resolved::Digest(_) => panic!("git sources resolve to commits"),
        })
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.target().join(path)).unwrap()
    }
}

fn source(allow: &AllowPrivate, url: &str, reference: Option<&str>) -> Source {
    let list = json!([{"label": "app", "kind": "git_https", "config": {"url": url, "ref": reference}}]);
    parse(&list, "", allow).unwrap().remove(0)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn branches_tags_commits_and_the_default_are_fetched() {
    let world = World::new(GitBehaviour::default()).await;
    let first = world.repo.commit(&[("a.txt", "one"), ("sub/run.sh", "#!/bin/sh")]);
    world.repo.git(&["tag", "--annotate", "--message=x", "v1"]);
    fs::set_permissions(
        world.repo.folder().join("sub/run.sh"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let second = world.repo.commit(&[("a.txt", "two")]);
    world.repo.git(&["branch", "other", &first]);

    assert_eq!(world.fetch(None, None).await.unwrap(), second);
    assert_eq!(
        (world.read("a.txt").as_str(), names(&world.target())),
        ("two", vec!["a.txt".into(), "sub".into()])
    );
    assert_eq!(
        fs::metadata(world.target().join("sub/run.sh"))
            .unwrap()
            .permissions()
            .mode()
            & 0o111,
        0o111
    );
    for reference in ["other", "refs/heads/other", "v1", &first] {
        assert_eq!(
            world.fetch(Some(reference), None).await.as_deref(),
            Ok(first.as_str()),
            "{reference}"
        );
        assert_eq!(world.read("a.txt"), "one");
    }
    let missing = world.fetch(Some("nowhere"), None).await.unwrap_err();
    assert!(missing.to_string().contains("no such branch"), "{missing}");
    let fetcher = world.fetcher();
    let reachable = |reference| {
        let source = world.source(&world.server.url("app"), reference);
        let fetcher = &fetcher;
        async move { fetcher.reachable(&source, None, &FolderScope::Root).await }
    };
    assert!(reachable(None).await && reachable(Some("v1")).await && !reachable(Some("nowhere")).await);
}

#[tokio::test]
async fn a_pin_gives_the_first_commit_after_the_branch_moved() {
    // The old protocol hands out only what a reference names, so there the history is searched.
    for behaviour in [
        GitBehaviour::default(),
        GitBehaviour {
            old_protocol: true,
            ..GitBehaviour::default()
        },
    ] {
        let world = World::new(behaviour).await;
        let first = world.repo.commit(&[("a.txt", "one")]);
        assert_eq!(world.fetch(Some("main"), None).await.unwrap(), first);
        world.repo.commit(&[("a.txt", "two")]);

        assert_eq!(world.fetch(Some("main"), Some(&first)).await.unwrap(), first);
        assert_eq!(world.read("a.txt"), "one");
    }
}

#[tokio::test]
async fn a_pin_that_is_gone_fails_clearly() {
    let world = World::new(GitBehaviour {
        old_protocol: true,
        ..GitBehaviour::default()
    })
    .await;
    world.repo.commit(&[("a.txt", "one")]);
    let lost = world.repo.commit(&[("a.txt", "two")]);
    world.repo.git(&["reset", "--quiet", "--hard", "HEAD~1"]);

    let error = world.fetch(Some("main"), Some(&lost)).await.unwrap_err();
    assert_eq!(error.code(), "source_failed");
    assert!(error.to_string().contains(&lost), "{error}");
    let nonsense = world.fetch(None, Some("--upload-pack=x")).await.unwrap_err();
    assert_eq!(nonsense.to_string(), "the recorded commit is not one");
    // The server may be told to hand out any commit.
    world.repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    assert_eq!(world.fetch(Some("main"), Some(&lost)).await.unwrap(), lost);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = CountingListener::on("127.0.0.1").await;
    let redirect_to = Some(format!("http://{}", inner.address()));
    let world = World::new(GitBehaviour {
        redirect_to,
        ..GitBehaviour::default()
    })
    .await;
    world.repo.commit(&[("a", "")]);

    let error = world.fetch(None, None).await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    assert!(world.server.requests() > 0);
    assert_eq!(inner.count().await, 0);
}

#[tokio::test]
async fn a_name_is_held_to_its_judged_address() {
    // The name is known to the dialer alone, so git arrives only if it is pinned.
    let world = World::new(GitBehaviour::default()).await;
    let commit = world.repo.commit(&[("a", "")]);
    let url = format!("http://inner.test:{}/app", world.server.address().port());
    let fetched = world
        .fetcher()
        .fetch(
            &world.source(&url, None),
            None,
            None,
            &FolderScope::Root,
            &world.target(),
        )
        .await;
    assert_eq!(fetched, Ok(Resolved::Commit(commit)));
}

#[tokio::test]
async fn c17_35_blocked_names_are_refused_before_git_dials() {
    let listener = CountingListener::on("127.0.0.1").await;
    let port = listener.address().port();
    let scratch = tempfile::tempdir().unwrap();
    let resolver = ScriptedResolver::new()
        .answer("loop.test", &["127.0.0.1"])
        .answer("mixed.test", &["8.8.8.8", "127.0.0.1"])
        .answer("rebind.test", &["10.0.0.1"]);
    let dialer = Dialer::with_resolver(DialerSettings::default(), Arc::new(resolver)).unwrap();
    let settings = FetcherSettings {
        scratch: scratch.path().to_owned(),
        ..FetcherSettings::default()
    };
    let fetcher = Fetcher::new(dialer, settings);

    for name in ["loop.test", "mixed.test", "rebind.test"] {
        let source = source(&AllowPrivate::default(), &format!("https://{name}:{port}/app"), None);
        let into = scratch.path().join("into");
        let error = fetcher
            .fetch(&source, None, None, &FolderScope::Root, &into)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("may not be dialled"), "{name}: {error}");
        assert!(!fetcher.reachable(&source, None, &FolderScope::Root).await);
    }
    // A source accepted under another list is judged anew.
    let listed = AllowPrivate::parse(&format!("git=127.0.0.1:{port}")).unwrap();
    let source = source(&listed, &format!("http://127.0.0.1:{port}/app"), None);
    let error = fetcher
        .fetch(&source, None, None, &FolderScope::Root, &scratch.path().join("into"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "source_failed");
    assert_eq!(listener.count().await, 0);
}

#[tokio::test]
async fn a_hostile_repository_is_only_files() {
    let world = World::new(GitBehaviour::default()).await;
    let proof = world.temp.path().join("proof");
    let repo = &world.repo;
    repo.commit(&[
        ("kept", "kept"),
        (
            ".gitattributes",
            "* filter=evil diff=evil text eol=crlf export-ignore export-subst ident\n",
        ),
        ("lines", "a\nb\n$Format:%H$ $Id$\n"),
        (".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = ../../..\n"),
        (".lfsconfig", "[lfs]\n\turl = http://127.0.0.1:1/\n"),
        (
            "sub/hooks/post-checkout",
            &format!("#!/bin/sh\ntouch {}\n", proof.display()),
        ),
    ]);
    for (link, target) in [
        ("out", "../../etc/passwd"),
        ("absolute", "/etc/passwd"),
        ("inner", "sub/../kept"),
    ] {
        symlink(target, repo.folder().join(link)).unwrap();
    }
    let commit = repo.commit(&[]);
    // A submodule without a repository.
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},s")]);
    repo.git(&["commit", "--quiet", "--message", "submodule"]);

    world.fetch(None, None).await.unwrap();

    let into = world.target();
    assert_eq!(
        names(&into),
        [
            ".gitattributes",
            ".gitmodules",
            ".lfsconfig",
            "inner",
            "kept",
            "lines",
            "sub"
        ]
    );
    assert_eq!(
        world.read("lines"),
        "a\nb\n$Format:%H$ $Id$\n",
        "no attribute took effect"
    );
    assert_eq!(world.read("inner"), "kept");
    assert!(!proof.exists());
}

#[tokio::test]
async fn trees_that_name_the_outside_are_refused_and_git_folders_left_out() {
    let world = World::new(GitBehaviour::default()).await;
    let repo = &world.repo;
    repo.commit(&[("kept", "evil")]);
    let blob = repo.git(&["hash-object", "-w", "kept"]);
    let raw: Vec<u8> = (0..20)
        .map(|n| u8::from_str_radix(&blob[2 * n..2 * n + 2], 16).unwrap())
        .collect();
    let commit_tree = |entries: &[(&str, &str, &[u8])]| {
        let mut tree = Vec::new();
        for (mode, name, object) in entries {
            tree.extend([mode.as_bytes(), b" ", name.as_bytes(), b"\0", object].concat());
        }
        let file = world.temp.path().join("tree");
        fs::write(&file, tree).unwrap();
        repo.git(&["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()])
    };
    let publish = |tree: &str| {
        let commit = repo.git(&["commit-tree", "-m", "x", tree]);
        repo.git(&["update-ref", "refs/heads/evil", &commit]);
        commit
    };
    let bytes = |hex: &str| -> Vec<u8> {
        (0..20)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
            .collect()
    };

    let inner = commit_tree(&[("100644", "config", &raw)]);
    for name in ["..", "../x", "/tmp/pond-evil"] {
        publish(&commit_tree(&[("100644", name, &raw)]));
        let error = world.fetch(Some("evil"), None).await.unwrap_err();
        assert_eq!(error.code(), "source_failed", "{name}: {error}");
        assert!(
            error.to_string().starts_with("the source holds a"),
            "{name}: refused for its name, not before: {error}"
        );
    }
    assert!(!Path::new("/tmp/pond-evil").exists());
    publish(&commit_tree(&[("40000", "..", &bytes(&inner))]));
    assert!(world.fetch(Some("evil"), None).await.is_err());
    // A link, then a file beneath it.
    let target = repo.folder().join("target");
    fs::write(&target, "..").unwrap();
    let link = repo.git(&["hash-object", "-w", "target"]);
    publish(&commit_tree(&[
        ("120000", "d", &bytes(&link)),
        ("40000", "d", &bytes(&inner)),
    ]));
    assert!(world.fetch(Some("evil"), None).await.is_err());

    let commit = publish(&commit_tree(&[
        ("40000", ".git", &bytes(&inner)),
        ("100644", "kept", &raw),
    ]));
    assert_eq!(world.fetch(Some("evil"), None).await.unwrap(), commit);
    assert_eq!(names(&world.target()), ["kept"]);
}

#[tokio::test]
async fn too_large_and_too_many_are_refused() {
    let world = World::new(GitBehaviour::default()).await;
    // Small on the wire, large as a file.
    let zeros = "0".repeat(LIMITS.bytes as usize + 1);
    world.repo.commit(&[("zeros", zeros.as_str())]);
    let error = world.fetch(None, None).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        ("source_too_large", "the source is larger than 8388608 bytes".into())
    );

    // Large on the wire: what no compression makes smaller.
    world.repo.git(&["rm", "--quiet", "zeros"]);
    let mut state = 1u64;
    let noise: String = (0..(LIMITS.bytes + (6 << 20)))
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + ((state >> 33) % 90) as u8)
        })
        .collect();
    world.repo.commit(&[("noise", noise.as_str())]);
    assert_eq!(world.fetch(None, None).await.unwrap_err().code(), "source_too_large");

    world.repo.git(&["rm", "--quiet", "noise"]);
    let many: Vec<_> = (0..=LIMITS.files).map(|n| (format!("f{n}"), n.to_string())).collect();
    let many: Vec<_> = many.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    world.repo.commit(&many);
    let error = world.fetch(None, None).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        ("source_too_large", "the source is more than 200 files".into())
    );
}

#[tokio::test]
async fn a_credential_is_sent_in_the_header_alone() {
    let authorization = Some("Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0".to_owned());
    let world = World::new(GitBehaviour {
        authorization,
        ..GitBehaviour::default()
    })
    .await;
    let commit = world.repo.commit(&[("a", "")]);
    let Kind::GitHttps(git) = world.source(&world.server.url("app"), None).kind else {
        panic!("a git source")
    };
    let fetcher = GitFetcher::new(world.dialer(), world.scratch(), LIMITS);

    let denied = fetcher.fetch(&git, None, None, &world.target()).await.unwrap_err();
    assert!(denied.to_string().contains("needs a credential"), "{denied}");
    let credential = key("x-access-token", "s3cret");
    assert!(!format!("{credential:?}").contains("s3cret"));
    assert_eq!(
        fetcher.fetch(&git, None, Some(&credential), &world.target()).await,
        Ok(commit)
    );
    let wrong = key("me", "wr0ng");
    let into = world.temp.path().join("again");
    let error = fetcher.fetch(&git, None, Some(&wrong), &into).await.unwrap_err();
    assert!(error.to_string().contains("refuses the credential"), "{error}");
    assert!(!error.to_string().contains("wr0ng"), "{error}");
}

fn key(username: &str, token: &str) -> GitKey {
    GitKey {
        username: username.into(),
        token: Secret::new(token),
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_given_up() {
    let world = World::new(GitBehaviour::default()).await;
    let silent = CountingListener::on("127.0.0.1").await;
    let allow = AllowPrivate::parse(&format!("git={}", silent.address())).unwrap();
    let Kind::GitHttps(git) = source(&allow, &format!("http://{}/app", silent.address()), None).kind else {
        panic!("a git source")
    };
    let settings = DialerSettings {
        allow,
        ..DialerSettings::default()
    };
    let dialer = Dialer::with_resolver(settings, Arc::new(ScriptedResolver::new())).unwrap();
    let fetcher = GitFetcher::new(dialer, world.scratch(), LIMITS).with_timeout(Duration::from_millis(700));

    let error = fetcher.fetch(&git, None, None, &world.target()).await.unwrap_err();

    assert!(error.to_string().contains("longer than"), "{error}");
    assert_eq!(silent.count().await, 1);
    assert_eq!(fs::read_dir(world.scratch()).unwrap().count(), 0);
    // Git and its helper are gone: nobody works in the removed folder any more.
    let scratch = world.scratch();
    let works_there = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|process| fs::read_link(process.path().join("cwd")).ok())
            .any(|cwd| cwd.starts_with(&scratch))
    };
    tokio::time::timeout(Duration::from_secs(10), async {
        while works_there() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the whole group is killed");
}

#[tokio::test]
async fn without_git_the_failure_says_so() {
    let world = World::new(GitBehaviour::default()).await;
    let Kind::GitHttps(git) = world.source(&world.server.url("app"), None).kind else {
        panic!("a git source")
    };
    for (program, part) in [
        ("/nowhere/git", "git program cannot be started"),
        ("/bin/true", "or newer is needed"),
    ] {
        let fetcher = GitFetcher::new(world.dialer(), world.scratch(), LIMITS).with_program(program);
        let error = fetcher.fetch(&git, None, None, &world.target()).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(world.server.requests(), 0);
}

#[tokio::test]
async fn a_folder_is_copied_and_told_by_its_digest() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    fs::create_dir_all(root.join("app")).unwrap();
    fs::write(root.join("app/a"), "a").unwrap();
    let settings = FetcherSettings {
        folder_root: Some(root.clone()),
        scratch: temp.path().to_owned(),
        caps: Caps::default(),
    };
    let dialer = Dialer::with_resolver(DialerSettings::default(), Arc::new(ScriptedResolver::new())).unwrap();
    let fetcher = Fetcher::new(dialer, settings);
    let source = |path: &str| {
        let list = json!([{"label": "a", "kind": "folder", "config": {"path": path}}]);
        parse(&list, "", &AllowPrivate::default()).unwrap().remove(0)
    };

    let app = source("app");
    assert_eq!(fetcher.admit(&app, &FolderScope::Root).await, Ok(()));
    let first = fetcher
        .fetch(&app, None, None, &FolderScope::Root, &temp.path().join("1"))
        .await
        .unwrap();
    let again = fetcher
        .fetch(&app, None, None, &FolderScope::Root, &temp.path().join("2"))
        .await
        .unwrap();
    fs::write(root.join("app/a"), "b").unwrap();
    let changed = fetcher
        .fetch(&app, None, None, &FolderScope::Root, &temp.path().join("3"))
        .await
        .unwrap();
    assert!(first == again && first != changed && first.as_str().len() == 64);

    let mut refusals = Vec::new();
    for path in ["missing", "..", "/etc", "/nowhere"] {
        refusals.push(fetcher.admit(&source(path), &FolderScope::Root).await.unwrap_err());
        assert!(
            fetcher
                .fetch(&source(path), None, None, &FolderScope::Root, &temp.path().join("4"))
                .await
                .is_err()
        );
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "every refusal reads the same");
    assert_eq!(refusals[0].pointer, "/config/path");
}
