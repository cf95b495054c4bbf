//! What a sandbox is started with: a home of its own, ways out, and specs that are no start.

use super::*;

/// A backend says of itself what can be advertised.
pub async fn probe_finds_the_backend_whole(bench: Bench) {
    bench.sandbox.probe().await.expect("the backend works on this host");
}

/// Home files are there with their content and mode, and the home folder goes with the sandbox.
pub async fn c17_63_the_home_folder_is_fresh_and_goes(bench: Bench) {
    let file = HomeFile {
        path: ".config/agent/key.json".into(),
        content: Secret::new("{\"a\": 1}"),
    };
    let room = bench.start_as(|spec| spec.home.push(file)).await;
    let ended = room
        .sh("cd && find . -type f && cat .config/agent/key.json && stat -c %a .config/agent/key.json . && pwd")
        .await;
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(
        lines[..3],
        ["./.config/agent/key.json", "{\"a\": 1}600", "700"],
        "{ended:?}"
    );
    let home = PathBuf::from(lines[3]);
    room.end().await;
    assert!(!home.exists(), "{} is still there", home.display());
}

/// A home file that would lie elsewhere is no start, and leaves nothing behind.
pub async fn home_files_stay_in_the_home_folder(bench: Bench) {
    for path in ["../escaped", "/tmp/escaped", "a/../../escaped", ""] {
        let mut spec = bench.spec();
        spec.home.push(HomeFile {
            path: path.into(),
            content: Secret::new("x"),
        });
        assert!(bench.sandbox.start(spec).await.is_err(), "{path:?}");
    }
    assert_eq!(
        bench.sandbox.recover().await.expect("recovers"),
        0,
        "nothing was left behind"
    );
}

/// A port inside leads to the worker's socket, many times at once, each half closed by itself.
pub async fn a_bridge_leads_to_its_socket(bench: Bench) {
    let socket = bench.folder.join("bridge");
    let listener = tokio::net::UnixListener::bind(&socket).expect("own folder");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.expect("text");
                stream
                    .write_all(format!("heard {text}").as_bytes())
                    .await
                    .expect("written");
            });
        }
    });
    let port = free_port();
    let room = bench.start_as(|spec| spec.bridges.push(Bridge { port, socket })).await;
    let address = format!("127.0.0.1:{port}");
    assert_eq!(room.probe(&["talk", &address, "one"]).await.out, "heard one\n");
    let texts: Vec<String> = (0..20).map(|number| format!("text {number}")).collect();
    let told = futures::future::join_all(
        texts
            .iter()
            .map(|text| async { room.probe(&["talk", &address, text]).await }),
    );
    for (text, ended) in texts.iter().zip(told.await) {
        assert_eq!(ended.out, format!("heard {text}\n"));
    }
    serving.abort();
    room.end().await;
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("it listens").port()
}

/// A bridge whose socket is not there refuses its connections and nothing else.
pub async fn a_bridge_to_nowhere_is_closed(bench: Bench) {
    let port = free_port();
    let socket = bench.folder.join("not-there");
    let room = bench.start_as(|spec| spec.bridges.push(Bridge { port, socket })).await;
    let ended = room.probe(&["talk", &format!("127.0.0.1:{port}"), "x"]).await;
    assert!(ended.out == "\n" || ended.out.starts_with("refused"), "{ended:?}");
    assert_eq!(room.sh("echo on").await.out, "on\n");
    room.end().await;
}

/// Names that could lead out of the backend's own folders are no start.
pub async fn odd_specs_are_refused(bench: Bench) {
    let changes: [fn(&mut Spec); 5] = [
        |spec| spec.name = "../x".into(),
        |spec| spec.name = String::new(),
        |spec| spec.mounts[0].inside = "work".into(),
        |spec| spec.mounts[0].inside = "/work/../usr".into(),
        |spec| spec.limits.memory = 0,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut spec = bench.spec();
        change(&mut spec);
        assert!(bench.sandbox.start(spec).await.is_err(), "change {number}");
    }
}
