//! What a confining backend must withstand.

use super::*;

/// The one interface is loopback.
pub async fn c17_63_only_loopback_is_there(bench: Bench) {
    let room = bench.start().await;
    assert_eq!(room.probe(&["links"]).await.out, "lo\n");
    room.end().await;
}

/// Nothing that listens on the host is reached, by whatever kind of socket.
pub async fn c17_63_host_sockets_are_out_of_reach(bench: Bench) {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = tcp.local_addr().expect("listens").to_string();
    std::net::TcpStream::connect(&address).expect("the control without a sandbox succeeds");
    let name = format!("pond-conformance-{address}");
    let at = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let unix = std::os::unix::net::UnixListener::bind_addr(&at).expect("a socket");
    std::os::unix::net::UnixStream::connect_addr(&at).expect("the control without a sandbox succeeds");
    let room = bench.start().await;
    for args in [
        ["tcp", &address],
        ["abstract", &name],
        ["udp", "192.0.2.1:53"],
        ["udp", "[2001:db8::1]:53"],
    ] {
        let ended = room.probe(&args).await;
        assert!(ended.out.starts_with("refused"), "{args:?}: {ended:?}");
    }
    let ended = room.probe(&["sockets"]).await;
    assert_eq!(ended.out.lines().count(), 5, "{ended:?}");
    assert!(!ended.out.contains("done"), "{ended:?}");
    drop((tcp, unix));
    room.end().await;
}

/// No file of the host but those shown, and no process of the host.
pub async fn c17_63_the_host_is_out_of_sight(bench: Bench) {
    let room = bench.start().await;
    let secret = bench.folder.join("host-secret");
    fs::write(&secret, "x").expect("own folder");
    for path in [
        secret.as_path(),
        &bench.folder,
        Path::new("/root/."),
        Path::new("/sys/kernel"),
        Path::new("/var/lib"),
    ] {
        let ended = room.run(&["ls", &path.to_string_lossy()]).await;
        assert_ne!(ended.exit, Exit::Code(0), "{}: {}", path.display(), ended.out);
    }
    let passwd = room.sh("cat /etc/passwd; cat /etc/shadow").await;
    assert!(
        !passwd.out.contains("daemon") && passwd.exit != Exit::Code(0),
        "{passwd:?}"
    );
    let seen = room.sh("cd /proc; for p in [0-9]*; do cat $p/comm; done").await;
    for name in seen.out.lines() {
        assert!(["init", "sh", "cat", "pond-init"].contains(&name), "{name} is seen");
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("readable");
    assert_ne!(room.run(&["cat", "/proc/sys/kernel/hostname"]).await.out, host);
    room.end().await;
}

/// What is shown read-only cannot be written, nor can anything around it.
pub async fn read_only_places_hold(bench: Bench) {
    let shown = bench.folder.join("shown");
    fs::create_dir(&shown).expect("own folder");
    fs::set_permissions(&shown, fs::Permissions::from_mode(0o755)).expect("own folder");
    fs::write(shown.join("file"), "as it was").expect("own folder");
    let mount = Mount {
        host: shown.clone(),
        inside: "/shown".into(),
        access: Access::Read,
    };
    let room = bench.start_as(|spec| spec.mounts.push(mount)).await;
    assert_eq!(room.sh("cat /shown/file").await.out, "as it was");
    for place in [
        "/shown/file",
        "/shown/new",
        "/usr/new",
        "/etc/new",
        "/new",
        "/dev/new",
        "/run/new",
        "/proc/sys/kernel/hostname",
    ] {
        let ended = room.sh(&format!("echo x > {place}")).await;
        assert_ne!(ended.exit, Exit::Code(0), "{place}");
    }
    assert_eq!(
        fs::read_to_string(shown.join("file")).expect("still there"),
        "as it was"
    );
    room.end().await;
}

/// What a job writes belongs, on the host, to a uid that no other job has.
pub async fn files_belong_to_the_jobs_own_uid(bench: Bench) {
    let (one, two) = (bench.start().await, bench.start().await);
    let mut owners = BTreeSet::new();
    for room in [&one, &two] {
        assert_eq!(
            room.sh("echo x > new && echo y >> probe && mkdir folder && id -u")
                .await
                .exit,
            Exit::Code(0)
        );
        let found = fs::metadata(room.work.join("new")).expect("written through");
        match &bench.uids {
            Some(range) => {
                assert!(
                    range.contains(&found.uid()) && range.contains(&found.gid()),
                    "{}",
                    found.uid()
                );
                assert!(owners.insert(found.uid()), "two jobs have one uid");
            }
            None => assert_eq!(found.uid(), fs::metadata("/proc/self").expect("there").uid()),
        }
        assert_ne!(room.sh("id -u").await.out, "0\n");
    }
    one.end().await;
    two.end().await;
}

/// No capability, no way to a new one, and the filter in force.
pub async fn c17_63_no_privileges_are_left(bench: Bench) {
    let room = bench.start().await;
    let status = room.run(&["cat", "/proc/self/status"]).await.out;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!((value("NoNewPrivs:").as_str(), value("Seccomp:").as_str()), ("1", "2"));
    assert!(!value("Uid:").split_whitespace().any(|uid| uid == "0"));
    room.end().await;
}

/// The calls that make namespaces, mounts, or look into other processes are refused.
pub async fn c17_63_dangerous_calls_are_refused(bench: Bench) {
    let room = bench.start().await;
    let ended = room.probe(&["calls"]).await;
    assert_eq!(ended.exit, Exit::Code(0), "{ended:?}");
    assert_eq!(ended.out.lines().count(), 15, "{ended:?}");
    assert!(!ended.out.contains("done"), "{}", ended.out);
    room.end().await;
}

/// Programs cannot end, stop, or look into the init that holds them.
pub async fn the_init_is_out_of_reach(bench: Bench) {
    let room = bench.start().await;
    let ended = room
        .sh("kill -9 1; kill -STOP 1; cat /proc/1/environ; ls /proc/1/fd; ls /proc/1/root/; cat /proc/1/mem")
        .await;
    assert_eq!(ended.out, "", "{ended:?}");
    assert_eq!(room.sh("echo on").await.out, "on\n");
    let mark = hide(&room).await;
    room.running
        .keep(Instant::now() + Duration::from_secs(2))
        .await
        .expect("it lives");
    let ended = room
        .sh("while :; do for s in STOP TSTP ALRM CHLD USR1 IO KILL; do kill -$s 1; done 2>/dev/null; done")
        .await;
    assert_eq!(ended.exit, Exit::Signal(9), "no signal from inside puts the end off");
    until("the hidden process is gone", || still(&mark)).await;
    room.end().await;
}
