//! What is particular to containers: what their settings tell, which image they are of, and which engines are refused.

use std::path::Path;
use std::time::{Duration, Instant};

use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};
use pond_core::sandbox::{BackendKind, Exec, Exit, HomeFile, Output, Profile, Running, SandboxError, Spec};
use pond_core::secret::Secret;
use pond_worker::sandbox::{BackendSettings, DockerSettings, open};

use super::{
    ENGINE, ENGINE_WITH_USER_NAMESPACES, as_another_user, engine, engine_at, host, left_alone, settings, settings_with,
    spec, uid_range,
};

const WRITE: Profile = Profile::UntrustedCodeWrite;

/// Runs a script to its end; what it wrote to both streams, and how it ended.
async fn sh(running: &dyn Running, script: &str, secret: Option<&str>) -> (String, Exit) {
    let env = secret.map(|secret| ("GIVEN".to_owned(), Secret::new(secret)));
    let mut process = running
        .exec(Exec {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: env.into_iter().collect(),
            ..Exec::default()
        })
        .await
        .expect("runs");
    let mut said = Vec::new();
    loop {
        match process.output.recv().await.expect("an end comes first") {
            Output::Bytes(_, bytes) => said.extend_from_slice(&bytes),
            Output::Exited(exit) => return (String::from_utf8(said).expect("text"), exit),
        }
    }
}

async fn with_spec(spec: impl FnOnce(&Path) -> Spec, settings: &BackendSettings, then: impl AsyncFnOnce(&dyn Running)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = host(&folder.path().join("state"), uid_range());
    let sandbox = open(BackendKind::Docker, &host, settings);
    let running = sandbox.start(spec(&folder.path().join("work"))).await.expect("starts");
    then(&*running).await;
    running.kill().await.expect("ends");
    host.close().expect("nothing is left");
}

async fn refused(settings: &BackendSettings, change: impl FnOnce(&mut Spec)) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = host(&folder.path().join("state"), uid_range());
    let mut spec = spec(WRITE, &folder.path().join("work"));
    change(&mut spec);
    let outcome = open(BackendKind::Docker, &host, settings).start(spec).await.err();
    host.close().expect("nothing is left");
    match outcome {
        Some(refused @ SandboxError::Unsupported { .. }) => refused.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn c17_91_no_container_setting_holds_a_secret() {
    engine_at(ENGINE);
    let canary = format!("canary-{}", std::process::id());
    let named = format!("named-{}", std::process::id());
    let spec = |work: &Path| Spec {
        name: named.clone(),
        home: vec![HomeFile {
            path: "key".into(),
            content: Secret::new(canary.clone()),
        }],
        ..spec(WRITE, work)
    };
    with_spec(spec, &settings(), async |running| {
        let (said, _) = sh(running, "cat ~/key; echo; echo $GIVEN", Some(&canary)).await;
        assert_eq!(said, format!("{canary}\n{canary}\n"), "it has them");
        let ours = std::collections::HashMap::from([("label", vec![format!("pond.sandbox={named}")])]);
        let filter = bollard::query_parameters::ListContainersOptionsBuilder::new()
            .filters(&ours)
            .build();
        let engine = engine().await;
        let found = engine.list_containers(Some(filter)).await.expect("listed");
        let [container] = &found[..] else { panic!("{found:?}") };
        let id = container.id.as_deref().expect("an id");
        let told = engine.inspect_container(id, None).await.expect("inspected");
        let told = serde_json::to_string(&told).expect("JSON");
        assert!(told.contains(&named) && !told.contains(&canary), "{told}");
        let top = engine.top_processes(id, None).await.expect("listed");
        assert!(!format!("{top:?}").contains(&canary));
    })
    .await;
}

#[tokio::test]
async fn c17_63_the_socket_of_the_init_leads_nowhere() {
    engine_at(ENGINE);
    with_spec(
        |work| spec(WRITE, work),
        &settings(),
        async |running| {
            let (said, _) = sh(
                running,
                "ls /run/pond; ./probe unix /run/pond/control; echo x > /run/pond/init; rm -f /run/pond/control",
                None,
            )
            .await;
            assert!(said.starts_with("control\ninit\nrefused 111\n"), "{said}");
            let (said, _) = sh(running, "ls /run/pond; echo on", None).await;
            assert_eq!(said, "control\ninit\non\n");
        },
    )
    .await;
}

#[tokio::test]
async fn c17_63_there_is_a_user_namespace_where_the_engine_has_them() {
    engine_at(ENGINE_WITH_USER_NAMESPACES);
    let settings = settings_with(ENGINE_WITH_USER_NAMESPACES);
    with_spec(
        |work| spec(WRITE, work),
        &settings,
        async |running| {
            let (said, _) = sh(running, "cat /proc/self/uid_map; id -u", None).await;
            let numbers: Vec<u32> = said
                .split_whitespace()
                .map(|word| word.parse().expect("a number"))
                .collect();
            let [inside, outside, _, uid] = numbers[..] else {
                panic!("{said}")
            };
            assert!(inside == 0 && outside >= 65_536 && uid > 0, "{said}");
        },
    )
    .await;
    // The engine's uids, and none of them in the worker's range.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let elsewhere = host(&folder.path().join("state"), Some(300_000..=300_010));
    let outcome = open(BackendKind::Docker, &elsewhere, &settings)
        .start(spec(WRITE, &folder.path().join("work")))
        .await;
    let told = outcome.err().expect("refused").to_string();
    assert!(told.contains("--uid-range 200001-265534"), "{told}");
}

/// What an image says of itself is taken as far as it harms nobody: where its programs are.
#[tokio::test]
async fn an_images_own_ideas_are_not_followed() {
    let engine = engine().await;
    let name = format!("pond-ideas-{}", std::process::id());
    let body = ContainerCreateBody {
        image: Some("pond-test".into()),
        cmd: Some(vec!["true".into()]),
        ..ContainerCreateBody::default()
    };
    let named = CreateContainerOptionsBuilder::new().name(&name).build();
    engine.create_container(Some(named), body).await.expect("made");
    for (tag, volume) in [("beside", "/data"), ("within", "/work/data")] {
        let changes = format!(
            "VOLUME {volume}\nENV PATH=/opt/bin:/bin OTHER=x\nENTRYPOINT [\"/bin/sleep\"]\nCMD [\"60\"]\nUSER root\n\
             WORKDIR /etc\nHEALTHCHECK --interval=1s CMD touch /work/checked"
        );
        let options = CommitContainerOptionsBuilder::new()
            .container(&name)
            .repo(&name)
            .tag(tag)
            .changes(&changes)
            .build();
        engine
            .commit_container(options, ContainerConfig::default())
            .await
            .expect("committed");
    }
    let image = |tag: &str| Some(format!("{name}:{tag}"));
    let beside = |work: &Path| Spec {
        image: image("beside"),
        ..spec(WRITE, work)
    };
    with_spec(beside, &settings(), async |running| {
        let script =
            "echo $PATH $OTHER; id -u; pwd; cat /proc/1/comm; (echo x > /data/x) 2>&- || echo held; sleep 1.5; ls";
        let (said, _) = sh(running, script, None).await;
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            (lines[0], lines[2], lines[3]),
            ("/opt/bin:/bin", "/work", "init"),
            "{said}"
        );
        assert_ne!(lines[1], "0", "{said}");
        assert!(
            said.contains("held\nprobe\n"),
            "no volume of the host, and no check of its health: {said}"
        );
    })
    .await;
    let told = refused(&settings(), |spec| spec.image = image("within")).await;
    assert!(told.contains("volume at /work/data"), "{told}");
    let force = || Some(RemoveContainerOptionsBuilder::new().force(true).build());
    engine.remove_container(&name, force()).await.expect("removed");
    for tag in ["beside", "within"] {
        engine
            .remove_image(
                &format!("{name}:{tag}"),
                None::<bollard::query_parameters::RemoveImageOptions>,
                None,
            )
            .await
            .expect("removed");
    }
}

#[tokio::test]
async fn an_image_that_is_not_there_is_no_start() {
    engine_at(ENGINE);
    let told = refused(&settings(), |spec| spec.image = Some("pond-no-such-image:1".into())).await;
    assert!(told.contains("not on this host") && told.contains("--pull"), "{told}");
    let told = refused(&settings(), |spec| spec.image = Some("../containers".into())).await;
    assert!(told.contains("not named as images are"), "{told}");
    let none = BackendSettings {
        docker: DockerSettings {
            image: None,
            ..settings().docker
        },
        ..settings()
    };
    let told = refused(&none, |_| {}).await;
    assert!(told.contains("POND_DOCKER_IMAGE"), "{told}");
}

#[tokio::test]
async fn without_an_engine_of_this_host_there_is_no_start_and_nothing_to_recover() {
    for at in ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:2375", ""] {
        let settings = BackendSettings {
            docker: DockerSettings {
                host: at.into(),
                ..settings().docker
            },
            ..BackendSettings::default()
        };
        let told = refused(&settings, |_| {}).await;
        assert!(told.contains("DOCKER_HOST"), "{at}: {told}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let host = host(&folder.path().join("state"), uid_range());
        let sandbox = open(BackendKind::Docker, &host, &settings);
        assert_eq!(sandbox.recover().await.expect("recovers"), 0);
    }
}

#[tokio::test]
async fn root_without_a_uid_range_confines_nothing_by_docker() {
    engine_at(ENGINE);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = host(&folder.path().join("state"), None);
    let outcome = open(BackendKind::Docker, &host, &settings())
        .start(spec(WRITE, &folder.path().join("work")))
        .await;
    let told = outcome.err().expect("refused").to_string();
    let reason = if nix::unistd::geteuid().is_root() {
        "--uid-range"
    } else {
        "not root"
    };
    assert!(told.contains(reason), "{told}");
    host.close().expect("nothing is left");
}

/// It may use the engine, but cannot give a job's folders to the uid of a container.
#[test]
fn a_worker_that_is_not_root_is_told_so() {
    engine_at(ENGINE);
    if nix::unistd::geteuid().is_root() {
        let suite = as_another_user(&["--exact", "docker::root_without_a_uid_range_confines_nothing_by_docker"]);
        let said = String::from_utf8_lossy(&suite.stdout);
        assert!(suite.status.success() && said.contains("1 passed"), "{said}");
    }
}

// On several threads: what goes on by itself needs one while closing the host holds another.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_nobody_waits_for_leaves_nothing_by_docker() {
    engine_at(ENGINE);
    left_alone(BackendKind::Docker, &[0, 1, 8, 40, 120, 240]).await;
}

/// The engine's own programs need more than such a limit while they start a container.
#[tokio::test]
async fn c17_64_a_limit_of_few_processes_is_held_too() {
    engine_at(ENGINE);
    let few = |work: &Path| {
        let mut spec = spec(WRITE, work);
        spec.limits.pids = 4;
        spec
    };
    with_spec(few, &settings(), async |running| {
        let (said, _) = sh(running, "exec ./probe forks 20", None).await;
        assert_eq!(said, "3\n", "with the probe itself that is four");
    })
    .await;
}

/// What a container used can be asked for after its last process, for as long as it is not ended.
#[tokio::test]
async fn a_container_that_ended_by_itself_still_tells() {
    engine_at(ENGINE);
    with_spec(
        |work| spec(WRITE, work),
        &settings(),
        async |running| {
            running.keep(Instant::now()).await.expect("it lives");
            let until = Instant::now() + Duration::from_secs(20);
            loop {
                let stats = running.stats().await.expect("it tells");
                assert!(stats.breached.is_empty(), "{stats:?}");
                if stats.pids.is_none() {
                    break;
                }
                assert!(Instant::now() < until, "it does not end");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        },
    )
    .await;
}
