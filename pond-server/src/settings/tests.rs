//! Every setting: a value that reads, values that do not, and what is told of them.

use super::*;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn read(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let environment = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Settings::read(&environment, Role::Server).map_err(|bad| {
        let text: String = bad.iter().map(ToString::to_string).collect();
        assert!(!text.contains("CANARY"), "{text}");
        bad.into_iter().map(|bad| bad.variable).collect()
    })
}

#[test]
fn an_empty_environment_is_the_default() {
    let settings = read(&[]).unwrap();
    assert_eq!(settings.server.bind.to_string(), "127.0.0.1:8001");
    assert_eq!(settings.engine.lease.as_secs(), 30);
    assert!(settings.pool.is_none() && settings.warnings.is_empty() && settings.engine.require_sandbox);
    assert!(Settings::read(&Environment::new(), Role::Up).unwrap().pool.is_some());
}

#[test]
fn c17_81_each_bad_setting_is_named_and_never_told() {
    let bad: &[(&str, &[&str])] = &[
        ("POND_BIND", &["CANARY", "8001", "127.0.0.1", "127.0.0.1:99999"]),
        ("POND_PUBLIC_URL", &["CANARY", "ftp://x", "https://CANARY@x"]),
        ("POND_ENV_LABEL", &["a\u{7}CANARY"]),
        ("POND_SERVICE_TOKEN", &["CANARY", "CANARY with spaces in it"]),
        ("POND_SERVICE_TOKEN_FILE", &["/nowhere/CANARY"]),
        ("POND_DATABASE_URL", &["CANARY", "mysql://CANARY", "sqlite://"]),
        ("POND_MASTER_KEY", &["CANARY", "QUFB"]),
        ("POND_SOURCE_KEY", &["CANARY"]),
        ("POND_BLOB_URL", &["CANARY", "https://CANARY"]),
        ("POND_BLOB_SHARED", &["yes"]),
        ("POND_REQUIRE_SANDBOX", &["no", "CANARY"]),
        ("POND_EMBEDDED_POOL", &["on"]),
        ("POND_EMBEDDED_CONCURRENCY", &["0", "-1", "CANARY"]),
        ("POND_DISPATCH_NO_WORKER_GRACE_SEC", &["0", "-1"]),
        ("POND_WORKER_OFFLINE_SEC", &["0"]),
        ("POND_CANCEL_GRACE_SEC", &["0", "1.5"]),
        ("POND_LEASE_SEC", &["0", "5"]),
        ("POND_HEARTBEAT_SEC", &["11", "0"]),
        ("POND_MAX_ATTEMPTS", &["0"]),
        ("POND_RUN_MAX_PARALLEL", &["0"]),
        ("POND_PROJECT_MAX_PARALLEL", &["0"]),
        ("POND_PROJECT_MAX_QUEUED", &["0"]),
        ("POND_STAGE_TIMEOUT_SEC", &["0", "CANARY"]),
        ("POND_DEFAULT_HARNESS", &["CANARY with space"]),
        ("POND_DEFAULT_MODEL", &["CANARY/x"]),
        ("POND_LOCAL_SOURCE_ROOT", &["/nowhere/CANARY"]),
        ("POND_GIT_MAX_BYTES", &["0", "1GiB"]),
        ("POND_TARBALL_MAX_BYTES", &["-1"]),
        ("POND_S3_MAX_BYTES", &["x"]),
        ("POND_FOLDER_MAX_BYTES", &["x"]),
        ("POND_BUNDLE_MAX_BYTES", &["0"]),
        ("POND_SOURCE_MAX_FILES", &["0"]),
        (
            "POND_OUTBOUND_ALLOW_PRIVATE",
            &["CANARY", "*:80", "x=CANARY:80", "10.0.0.1", "model=CANARY:80"],
        ),
        ("POND_MODEL_ALLOW_PRIVATE", &["CANARY", "git=CANARY:80"]),
        (
            "POND_EGRESS_ALLOW_PRIVATE",
            &["CANARY", "git=CANARY:80", "10.0.0.0/8:80"],
        ),
        (
            "POND_EGRESS_DEFAULTS",
            &["https://CANARY", "a.test,,CANARY", "none,CANARY"],
        ),
        ("POND_RESOLVER", &["CANARY", "127.0.0.1"]),
        ("POND_EXTRA_CA_FILE", &["/nowhere/CANARY"]),
        ("POND_LOG_MAX_BYTES", &["0"]),
        ("POND_ARTIFACT_MAX_BYTES", &["0"]),
        ("POND_RETENTION_DAYS", &["0", "-1", "CANARY", "1.5", "99999999"]),
    ];
    for (variable, values) in bad {
        for value in *values {
            assert_eq!(
                read(&[(variable, value)]).err(),
                Some(vec![(*variable).to_owned()]),
                "{value}"
            );
        }
        assert!(read(&[(variable, " ")]).is_ok(), "an empty {variable} is not set");
    }
    let several = read(&[("POND_BIND", "x"), ("POND_LEASE_SEC", "x")]).err().unwrap();
    assert_eq!(several, ["POND_BIND", "POND_LEASE_SEC"]);
}

#[test]
fn c17_109_several_servers_need_what_they_share() {
    let url = ("POND_DATABASE_URL", "postgres://u:CANARY@h/db");
    let key = ("POND_MASTER_KEY", KEY);
    let token = ("POND_SERVICE_TOKEN", "a-token-of-the-service");
    let (blobs, shared) = (("POND_BLOB_URL", "file:///srv/blobs"), ("POND_BLOB_SHARED", "1"));
    assert_eq!(read(&[url, token, blobs, shared]).err().unwrap(), ["POND_MASTER_KEY"]);
    assert_eq!(read(&[url, key, blobs, shared]).err().unwrap(), ["POND_SERVICE_TOKEN"]);
    assert_eq!(read(&[url, key, token, blobs]).err().unwrap(), ["POND_BLOB_URL"]);
    assert_eq!(read(&[url, key, token]).err().unwrap(), ["POND_BLOB_URL"]);
    let settings = read(&[url, key, token, blobs, shared]).unwrap();
    assert!(matches!(settings.store.blobs, Blobs::Folder(ref folder) if folder.as_os_str() == "/srv/blobs"));
    assert!(!format!("{settings:?}").contains("CANARY"));
}

#[test]
fn c17_109_a_bucket_is_shared_by_nature() {
    let postgres = ("POND_DATABASE_URL", "postgres://u:CANARY@h/db");
    let server = [
        postgres,
        ("POND_MASTER_KEY", KEY),
        ("POND_SERVICE_TOKEN", "a-token-of-the-service"),
    ];
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDCANARY"),
        ("AWS_SECRET_ACCESS_KEY", "CANARY-secret"),
    ];
    let bucket = ("POND_BLOB_URL", "s3://my-bucket/pond/blobs/");
    let all: Vec<_> = server.into_iter().chain(keys).chain([bucket]).collect();
    let settings = read(&all).unwrap();
    let Blobs::Bucket(place) = &settings.store.blobs else {
        panic!("a bucket")
    };
    assert_eq!(
        (place.bucket.as_str(), place.prefix.as_str(), place.region.as_str()),
        ("my-bucket", "pond/blobs", "us-east-1")
    );
    assert_eq!(
        (place.secret_access_key.expose(), settings.warnings.len()),
        ("CANARY-secret", 0)
    );
    assert!(!format!("{settings:?}").contains("CANARY"));

    let with = |more: &[(&'static str, &'static str)]| {
        read(
            &keys
                .into_iter()
                .chain([bucket])
                .chain(more.iter().copied())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        read(&[bucket]).err().unwrap(),
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    );
    assert_eq!(with(&[("AWS_REGION", "CANARY REGION")]).err().unwrap(), ["AWS_REGION"]);
    for endpoint in ["CANARY", "ftp://CANARY", "https://u:CANARY@h", "https://h/?CANARY"] {
        assert_eq!(
            with(&[("AWS_ENDPOINT_URL", endpoint)]).err().unwrap(),
            ["AWS_ENDPOINT_URL"],
            "{endpoint}"
        );
    }
    for url in [
        "s3://",
        "s3://CANARY",
        "s3://my-bucket/a b",
        "s3://my-bucket//a",
        "s3://my-bucket/../a",
        "s3://my-bucket/a?x",
    ] {
        assert_eq!(
            read(&[keys[0], keys[1], ("POND_BLOB_URL", url)]).err().unwrap(),
            ["POND_BLOB_URL"],
            "{url}"
        );
    }
    assert_eq!(
        with(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:8333")]).unwrap().warnings,
        [""; 0]
    );
    assert_eq!(
        with(&[("AWS_ENDPOINT_URL_S3", "http://storage.test")])
            .unwrap()
            .warnings
            .len(),
        1
    );
}

#[test]
fn logs_and_artifacts_are_kept_ninety_days_unless_told() {
    use pond_core::runs::Retention;
    assert_eq!(read(&[]).unwrap().engine.retention, Retention::days(90));
    assert_eq!(
        read(&[("POND_RETENTION_DAYS", "7")]).unwrap().engine.retention,
        Retention::days(7)
    );
}

#[test]
fn a_guard_that_is_not_served_stops_the_start() {
    for (variable, value) in [("POND_REQUIRE_RECEIPT", "true"), ("POND_REQUIRE_RECEIPT", "CANARY")] {
        assert_eq!(read(&[(variable, value)]).err().unwrap(), [variable]);
    }
    assert!(read(&[("POND_REQUIRE_RECEIPT", "false")]).unwrap().warnings.is_empty());
}

#[test]
fn shell_stages_are_off_and_confined_unless_said_otherwise() {
    let settings = read(&[]).unwrap();
    assert!(!settings.engine.allow_shell && settings.engine.default_budget_usd.is_none());
    assert_eq!(settings.shell, ShellSandbox::Bubblewrap);
    let said = [
        ("POND_ALLOW_SHELL", "true"),
        ("POND_SHELL_SANDBOX", "none"),
        ("POND_DEFAULT_BUDGET_USD", "2.5"),
    ];
    let settings = read(&said).unwrap();
    assert!(settings.engine.allow_shell && settings.warnings.is_empty());
    assert_eq!(settings.shell, ShellSandbox::None);
    assert_eq!(settings.engine.default_budget_usd.unwrap().to_string(), "2.5");
    for (variable, value) in [
        ("POND_ALLOW_SHELL", "perhaps"),
        ("POND_SHELL_SANDBOX", "docker"),
        ("POND_DEFAULT_BUDGET_USD", "0"),
    ] {
        assert_eq!(read(&[(variable, value)]).err().unwrap(), [variable]);
    }
}

#[test]
fn no_single_setting_lets_jobs_out_of_the_sandbox() {
    let mut settings = read(&[("POND_REQUIRE_SANDBOX", "false"), ("POND_EMBEDDED_POOL", "true")]).unwrap();
    assert!(!settings.engine.require_sandbox && !settings.pool.as_ref().unwrap().allow_unconfined);
    settings.allow_unconfined();
    assert!(settings.pool.unwrap().allow_unconfined && settings.warnings.is_empty());
    let mut settings = read(&[]).unwrap();
    settings.allow_unconfined();
    assert!(settings.engine.require_sandbox && settings.warnings.len() == 1);
}

#[test]
fn c17_119_the_root_key_has_one_form() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, KEY).unwrap();
    let file = file.to_str().unwrap();
    let forms = [
        ("POND_MASTER_KEY", KEY),
        ("POND_MASTER_KEY_FILE", file),
        ("POND_SOURCE_KEY", KEY),
        ("POND_SOURCE_KEY_FILE", file),
        ("POND_MASTER_KEY_COMMAND", "print key"),
    ];
    for (at, one) in forms.iter().enumerate() {
        assert!(
            !matches!(read(&[*one]).unwrap().store.root_key, RootKey::Kept),
            "{one:?}"
        );
        for other in &forms[at + 1..] {
            let environment = [*one, *other].map(|(name, value)| (name.to_owned(), value.to_owned()));
            let bad = Settings::read(&environment.into(), Role::Server).err().unwrap();
            assert_eq!(bad.len(), 1, "{bad:?}");
            let told = bad[0].to_string();
            assert!(
                told.contains(one.0) && told.contains(other.0) && !told.contains(KEY),
                "{told}"
            );
        }
    }
}

#[test]
fn secrets_come_from_files_and_odd_names_warn() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token-of-the-service\n").unwrap();
    let path = file.to_str().unwrap();
    let settings = read(&[
        ("POND_SERVICE_TOKEN_FILE", path),
        ("POND_LAESE_SEC", "CANARY"),
        ("POND_URL", "x"),
    ])
    .unwrap();
    assert_eq!(
        settings.server.service_token.unwrap().expose(),
        "a-token-of-the-service"
    );
    assert_eq!(settings.warnings, ["POND_LAESE_SEC is no setting of Pond"]);
    let both = read(&[
        ("POND_SERVICE_TOKEN_FILE", path),
        ("POND_SERVICE_TOKEN", "a-token-of-the-service"),
    ]);
    assert_eq!(both.err().unwrap(), ["POND_SERVICE_TOKEN"]);
    let later = read(&[("POND_OIDC_ISSUER", "x")]).unwrap();
    assert_eq!(later.warnings, ["POND_OIDC_ISSUER has no effect in this version"]);
}
