//! What people's own tools bring into a sandbox: git, pip, npm and cargo, each from a registry that the rules allow, and
//! nothing from anywhere else.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pond_core::egress::{EgressDecision, Origin, ReachHost, Verdict};
use pond_core::outbound::{AllowPrivate, Purpose};
use pond_core::runs::StagePhase;
use pond_core::scope::Scope;
use pond_worker::egress::EgressDefaults;
use pond_worker::net::testing::{GitBehaviour, GitRepo, GitServer};
use serde_json::json;

use super::far::Authority;
use super::names::Names;
use super::packages::{Registries, Shelf, for_cargo, for_npm, for_pip, toolchain};
use super::reach::decisions;
use super::world::{World, quick};

/// Four programs, one of which makes an environment of its own, take longer than most stages here.
const PATIENCE: Duration = Duration::from_secs(200);

/// All that the job could ask for, on loopback: only rules keep it from the last two, of which one is asked for by a script of
/// the package that npm installs.
struct Places {
    git: GitServer,
    registries: Registries,
    names: Names,
    authority: Authority,
    _served: tempfile::TempDir,
}

impl Places {
    async fn start() -> Self {
        let authority = Authority::new();
        let served = tempfile::tempdir().expect("a folder");
        GitRepo::init(served.path(), "repo").commit(&[("thing.txt", "from git\n")]);
        let config = authority.config(&["git.test"], &["http/1.1"]);
        let git = GitServer::start_tls(served.path(), GitBehaviour::default(), config.into()).await;
        let names = ["pip.test", "npm.test", "cargo.test", "denied.test", "collect.test"];
        let registries = Registries::start(&authority, &names).await;
        let port = registries.address.port();
        let collect = format!("curl -sS -m 5 https://collect.test:{port}/ >$POND_OUTPUT_DIR/collect.txt 2>&1 || true");
        registries.hands_out(for_pip("pip.test", "from pip"));
        registries.hands_out(for_npm("npm.test", port, "from npm", &collect));
        registries.hands_out(for_cargo("cargo.test", port, "from cargo"));
        Self {
            git,
            registries,
            names: Names::leading_to(Ipv4Addr::LOCALHOST).await,
            authority,
            _served: served,
        }
    }

    /// A name with its port, as rules spell it.
    fn place(&self, name: &str) -> String {
        let address = match name {
            "git.test" => self.git.address(),
            _ => self.registries.address,
        };
        format!("{name}:{}", address.port())
    }

    /// A world whose worker has two of them as its defaults, and takes one job at a time.
    async fn world(&self) -> World {
        let all = [
            "git.test",
            "pip.test",
            "npm.test",
            "cargo.test",
            "denied.test",
            "collect.test",
        ];
        let private = all.map(|name| self.place(name)).join(",");
        let defaults = ["pip.test", "npm.test"].map(|name| self.place(name)).join(",");
        let world = World::with(quick(), |settings| {
            settings.concurrency = 1;
            settings.resolver = Some(self.names.at);
            settings.egress_allow_private = AllowPrivate::parse_for(Purpose::Egress, &private).expect("exceptions");
            settings.egress_defaults = EgressDefaults::parse(&defaults).expect("a list");
        })
        .await;
        self.prepare(&world);
        world
    }

    /// Puts into the source what a stage needs: whom to trust, a crate with a dependency, and an answer for cargo's questions.
    fn prepare(&self, world: &World) {
        let app = world.folder.path().join("sources/app");
        std::fs::write(app.join("ca.pem"), self.authority.0.pem()).expect("a file");
        for folder in ["crate/src", "crate/.cargo"] {
            std::fs::create_dir_all(app.join(folder)).expect("a folder");
        }
        let manifest =
            "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n\n[dependencies]\nthing = \"1\"\n";
        let config = format!(
            "[source.crates-io]\nreplace-with = \"test\"\n\n[source.test]\nregistry = \"sparse+https://{}/index/\"\n",
            self.place("cargo.test")
        );
        for (path, text) in [
            ("crate/src/lib.rs", ""),
            ("crate/Cargo.toml", manifest),
            ("crate/.cargo/config.toml", &config),
        ] {
            std::fs::write(app.join(path), text).expect("a file");
        }
        let cargo = toolchain(&app.join("toolchain"));
        self.registries
            .hands_out(Shelf::from([("cargo.test/tools/cargo".to_owned(), cargo.into())]));
    }

    fn script(&self) -> String {
        let [git, pip, npm, cargo, denied] =
            ["git.test", "pip.test", "npm.test", "cargo.test", "denied.test"].map(|name| self.place(name));
        format!(
            r#"
            set -e
            echo began
            source=$PWD
            for name in CARGO_HTTP_CAINFO CURL_CA_BUNDLE GIT_SSL_CAINFO NPM_CONFIG_CAFILE PIP_CERT; do
                export $name=$source/ca.pem
            done
            cd $HOME
            git clone -q https://{git}/repo repo
            cp repo/thing.txt $POND_OUTPUT_DIR/git.txt

            python3 -m venv venv
            venv/bin/pip -q --disable-pip-version-check install --index-url https://{pip}/simple thing
            venv/bin/python -c 'import thing; print(thing.VALUE)' >$POND_OUTPUT_DIR/pip.txt

            mkdir modules
            cd modules
            echo '{{}}' >package.json
            npm install --no-audit --no-fund --no-update-notifier --registry https://{npm}/ thing
            node -p 'require("thing")' >$POND_OUTPUT_DIR/npm.txt

            cd $source/crate
            curl -sS -o $HOME/cargo https://{cargo}/tools/cargo
            chmod +x $HOME/cargo
            RUSTC=$source/toolchain/rustc CARGO_HOME=$HOME/.cargo $HOME/cargo fetch
            cat $HOME/.cargo/registry/src/*/thing-1.0.0/src/lib.rs >$POND_OUTPUT_DIR/cargo.txt

            curl -sS https://{denied}/ >$POND_OUTPUT_DIR/tunnel.txt 2>&1 && exit 1
            curl -sS http://{denied}/ >$POND_OUTPUT_DIR/plain.txt 2>&1
            "#
        )
    }
}

fn refusal(place: &str) -> String {
    format!("nothing allows {place}: add {place} to the stage's allow_hosts, or a rule with `pond egress set {place}`")
}

/// The host and port of a decision, as rules spell them.
fn place_of(decision: &EgressDecision) -> String {
    format!("{}:{}", decision.host, decision.port)
}

/// `cargo` itself comes from the test's registry too, as it is none of the sandbox's programs, and asks a stand-in for the
/// compiler (see [`toolchain`]).
#[tokio::test(flavor = "multi_thread")]
async fn c17_65_70_116_git_pip_npm_and_cargo_bring_packages_from_allowed_registries_and_no_more_is_reached() {
    let places = Places::start().await;
    let world = places.world().await;
    let runs = world.pond.runs();
    let blocker = world.submit("echo busy; exec sleep @65", json!({})).await;
    world.said(blocker, "busy").await;

    let hosts = ["git.test", "cargo.test"].map(|name| places.place(name));
    let sandbox = json!({"sandbox": {"profile": "untrusted-code-write", "allow_hosts": hosts}});
    let run = world.submit(&places.script(), sandbox).await;
    let reach = runs.reach(Scope::Org, run).await.expect("known");
    let waits = runs.get(Scope::Org, run).await.expect("there");
    assert!(matches!(waits.head.state.stages[0].phase, StagePhase::Queued { .. }));
    let told = [
        ("git.test", Origin::Run),
        ("cargo.test", Origin::Run),
        ("pip.test", Origin::Default),
        ("npm.test", Origin::Default),
    ];
    let told = told.map(|(name, from)| ReachHost {
        rule: places.place(name),
        from,
    });
    assert_eq!(reach.hosts, BTreeSet::from(told), "before the run");
    assert!(reach.denied.is_empty() && reach.secrets.is_empty(), "{reach:?}");

    runs.cancel(Scope::Org, blocker).await.expect("cancelled");
    world.said(run, "began").await;
    assert_eq!(
        runs.reach(Scope::Org, run).await.expect("known"),
        reach,
        "during the run"
    );
    let ends = tokio::time::timeout(PATIENCE, runs.wait(Scope::Org, run)).await;
    ends.unwrap_or_else(|_| panic!("it ends")).expect("it is there");
    let ended = world.ended(run).await;
    assert_eq!(
        runs.reach(Scope::Org, run).await.expect("known"),
        reach,
        "after the run"
    );

    ended.is_done();
    assert_eq!(ended.text("git.txt"), "from git\n");
    assert_eq!(ended.text("pip.txt"), "from pip\n");
    assert_eq!(ended.text("npm.txt"), "from npm\n");
    assert_eq!(ended.text("cargo.txt"), "pub const VALUE: &str = \"from cargo\";\n");
    assert!(
        ended.text("changes.patch").contains("name = \"thing\""),
        "cargo's lock file is a change"
    );
    let [denied, collect] = ["denied.test", "collect.test"].map(|name| places.place(name));
    assert!(ended.text("tunnel.txt").contains("403"), "{}", ended.text("tunnel.txt"));
    assert!(
        ended.text("collect.txt").contains("403"),
        "{}",
        ended.text("collect.txt")
    );
    assert_eq!(ended.text("plain.txt").trim_end(), refusal(&denied));

    let told = decisions(&world, run).await;
    let (allowed, refused): (Vec<_>, Vec<_>) = told.iter().partition(|one| one.verdict == Verdict::Allowed);
    for decision in &allowed {
        assert_eq!(decision.rule, Some(place_of(decision)), "{decision:?}");
        assert_eq!(decision.ip, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), "{decision:?}");
        assert!(decision.bytes_up > 0 && decision.bytes_down > 0, "{decision:?}");
    }
    let reached: BTreeSet<String> = allowed.iter().map(|one| place_of(one)).collect();
    let promised: BTreeSet<String> = reach.hosts.iter().map(|host| host.rule.clone()).collect();
    assert_eq!(reached, promised, "what was reached is what was told: {told:#?}");
    let mut tried: Vec<String> = refused.iter().map(|one| place_of(one)).collect();
    tried.sort();
    assert_eq!(tried, [collect, denied.clone(), denied], "{told:#?}");
    for decision in refused {
        assert_eq!((decision.rule.as_deref(), decision.ip), (None, None), "{decision:?}");
        assert_eq!(decision.reason, Some(refusal(&place_of(decision))));
        assert_eq!(decision.bytes_down, 0, "{decision:?}");
    }
    // A name that no rule allows is not even looked up, and no server heard of it.
    assert_eq!(places.names.asked(), ["cargo.test", "git.test", "npm.test", "pip.test"]);
    let heard = places.registries.asked();
    assert!(
        !heard
            .iter()
            .any(|asked| asked.starts_with("denied") || asked.starts_with("collect")),
        "{heard:?}"
    );
    world.close().await;
}
