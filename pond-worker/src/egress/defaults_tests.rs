//! What the settings of pip, npm and cargo come to, in folders made for it.

use super::*;

fn found(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Vec<String> {
    let root = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let mut all = BTreeMap::from([("HOME".to_owned(), "/home/w".to_owned())]);
    all.extend(
        environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let found = EgressDefaults::find(&all, root.path());
    found.hosts().iter().map(ToString::to_string).collect()
}

const PUBLIC: [&str; 5] = [
    "files.pythonhosted.org",
    "index.crates.io",
    "pypi.org",
    "registry.npmjs.org",
    "static.crates.io",
];

/// The public hosts but for these, and those.
fn public(without: &[&str], with: &[&str]) -> Vec<String> {
    let kept = PUBLIC.iter().filter(|host| !without.contains(host));
    let mut all: Vec<String> = kept.chain(with).map(|host| (*host).to_owned()).collect();
    all.sort();
    all
}

#[test]
fn a_host_that_is_set_up_with_nothing_has_the_public_registries() {
    assert_eq!(found(&[], &[]), public(&[], &[]));
}

#[test]
fn each_tool_is_read_as_it_reads_itself() {
    let (pip, npm, cargo) = (
        &["pypi.org", "files.pythonhosted.org"],
        &["registry.npmjs.org"],
        &["index.crates.io", "static.crates.io"],
    );
    let user_pip = (
        "home/w/.config/pip/pip.conf",
        "[global]\nindex-url = https://user:pass@py.corp.test/simple\n",
    );
    let etc_pip = (
        "etc/pip.conf",
        "[install]\nindex_url=http://etc.corp.test:8080/simple\n[other]\nindex-url=https://no.test\n",
    );
    assert_eq!(found(&[user_pip], &[]), public(pip, &["py.corp.test"]));
    assert_eq!(found(&[etc_pip], &[]), public(pip, &["etc.corp.test:8080"]));
    assert_eq!(
        found(&[etc_pip, user_pip], &[]),
        public(pip, &["py.corp.test"]),
        "the user's own counts more"
    );
    assert_eq!(
        found(
            &[user_pip],
            &[
                ("PIP_INDEX_URL", "https://env.test/simple"),
                ("PIP_EXTRA_INDEX_URL", "https://a.test https://b.test:1/")
            ]
        ),
        public(pip, &["a.test", "b.test:1", "env.test"])
    );
    assert_eq!(
        found(&[user_pip], &[("PIP_CONFIG_FILE", "/dev/null")]),
        public(&[], &[])
    );
    let more = (
        "home/w/.pip/pip.conf",
        "# c\n[global]\nextra-index-url =\n  https://one.test/simple\n  https://two.test/simple\ntimeout = 5\n",
    );
    assert_eq!(found(&[more], &[]), public(&[], &["one.test", "two.test"]));

    let npmrc = (
        "home/w/.npmrc",
        "; c\nregistry=https://npm.corp.test/\n@own:registry=https://scope.test:8443/\n//npm.corp.test/:_authToken=secret\n",
    );
    assert_eq!(found(&[npmrc], &[]), public(npm, &["npm.corp.test", "scope.test:8443"]));
    assert_eq!(
        found(&[npmrc], &[("NPM_CONFIG_REGISTRY", "https://env.test")]),
        public(npm, &["env.test", "scope.test:8443"])
    );
    let elsewhere = ("opt/npmrc", "registry = \"https://opt.test/\"\n");
    assert_eq!(
        found(&[npmrc, elsewhere], &[("npm_config_userconfig", "/opt/npmrc")]),
        public(npm, &["opt.test"])
    );

    let replaced = (
        "home/w/.cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"near\"\n[source.near]\nregistry = \"sparse+https://crates.corp.test/index/\"\n[registries.own]\nindex = \"https://git.corp.test/index\"\n",
    );
    assert_eq!(
        found(&[replaced], &[]),
        public(cargo, &["crates.corp.test", "git.corp.test"])
    );
    let added = (
        "opt/cargo/config",
        "[registries]\nown = { index = \"sparse+https://own.test/\" }\n",
    );
    assert_eq!(
        found(
            &[added],
            &[
                ("CARGO_HOME", "/opt/cargo"),
                ("CARGO_REGISTRIES_TWO_INDEX", "https://two.test")
            ]
        ),
        public(&[], &["own.test", "two.test"])
    );
}

#[test]
fn what_cannot_be_read_counts_as_not_there() {
    let files = [
        (
            "home/w/.cargo/config.toml",
            "[source.crates-io]\nreplace-with = \"a\"\n[source.a]\nreplace-with = \"crates-io\"\n",
        ),
        ("home/w/.npmrc", "registry=${NPM_REGISTRY}\n@x:registry=file:///srv\n"),
        ("etc/pip.conf", "\u{0}[global\nindex-url\n= x\n"),
    ];
    assert_eq!(found(&files, &[]), public(&[], &[]));
    assert_eq!(
        found(&[("home/w/.cargo/config.toml", "not = [toml")], &[]),
        public(&[], &[])
    );
}

#[test]
fn the_list_of_the_operator_is_host_rules_or_none() {
    assert_eq!(EgressDefaults::parse(" none "), Ok(EgressDefaults::default()));
    let list = EgressDefaults::parse("b.test, .a.test:8443 ,B.test.").expect("a list");
    assert_eq!(
        list.hosts().iter().map(ToString::to_string).collect::<Vec<_>>(),
        [".a.test:8443", "b.test"]
    );
    for (text, position) in [
        ("", 1),
        ("a.test,", 2),
        ("a.test,none", 2),
        ("a.test,https://b.test", 2),
        ("*", 1),
        ("a.test,x:0", 2),
    ] {
        assert_eq!(EgressDefaults::parse(text), Err(BadDefaults { position }), "{text}");
    }
}
