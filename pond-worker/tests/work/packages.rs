//! One package in four forms, made by hand, and a server that hands three of them out as their registries do.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use sha2::{Digest, Sha256, Sha512};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::far::{Authority, BOTH};

/// What is handed out, by `host/path`.
pub(super) type Shelf = HashMap<String, Bytes>;

/// HTTPS on loopback for registries, each known by its name.
pub(super) struct Registries {
    pub(super) address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Registries {
    pub(super) async fn start(authority: &Authority, names: &[&str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (shelf, asked) = (Arc::<Mutex<Shelf>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let acceptor = TlsAcceptor::from(Arc::new(authority.config(names, &BOTH)));
        let (shown, noted) = (Arc::clone(&shelf), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, shown, noted) = (acceptor.clone(), Arc::clone(&shown), Arc::clone(&noted));
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| {
                        let key = key(&request);
                        let found = shown.lock().expect("unpoisoned").get(&key).cloned();
                        noted.lock().expect("unpoisoned").push(key);
                        async move { Ok::<_, Infallible>(answer(found)) }
                    });
                    let http = auto::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Self {
            address,
            shelf,
            asked,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(super) fn hands_out(&self, shelf: Shelf) {
        self.shelf.lock().expect("unpoisoned").extend(shelf);
    }

    /// What was asked for, as `host/path`, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("unpoisoned").clone()
    }
}

/// Both versions of HTTP say the host, in a place of their own.
fn key(request: &Request<Incoming>) -> String {
    let header = || request.headers().get("host")?.to_str().ok();
    let authority = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    let host = authority.or_else(header).unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    format!("{host}{}", request.uri().path())
}

fn answer(found: Option<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    match found {
        None => *answer.status_mut() = StatusCode::NOT_FOUND,
        Some(bytes) => {
            // Programs that want something else go by what a file is called.
            let kind = if bytes.starts_with(b"<") {
                "text/html"
            } else {
                "application/json"
            };
            let kind = hyper::header::HeaderValue::from_static(kind);
            answer.headers_mut().insert("content-type", kind);
            *answer.body_mut() = Full::new(bytes);
        }
    }
    answer
}

/// A simple index with one wheel; the module `thing` says `value`.
pub(super) fn for_pip(host: &str, value: &str) -> Shelf {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    let about = "thing-1.0.0.dist-info";
    let files = [
        ("thing/__init__.py".to_owned(), format!("VALUE = \"{value}\"\n")),
        (
            format!("{about}/METADATA"),
            "Metadata-Version: 2.1\nName: thing\nVersion: 1.0.0\n".into(),
        ),
        (
            format!("{about}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n".into(),
        ),
    ];
    let mut record = format!("{about}/RECORD,,\n");
    for (path, text) in &files {
        write(path, text);
        record += &format!("{path},,\n");
    }
    write(&format!("{about}/RECORD"), &record);
    let wheel = "thing-1.0.0-py3-none-any.whl";
    let zipped = Command::new("python3")
        .args(["-m", "zipfile", "-c", wheel, "thing", about])
        .current_dir(folder.path())
        .status();
    assert!(zipped.expect("the tests need python3").success());
    let bytes = std::fs::read(folder.path().join(wheel)).expect("a wheel");
    let digest = hex::encode(Sha256::digest(&bytes));
    let page =
        format!("<!DOCTYPE html><html><body><a href=\"/files/{wheel}#sha256={digest}\">{wheel}</a></body></html>");
    Shelf::from([
        (format!("{host}/simple/thing/"), page.into()),
        (format!("{host}/files/{wheel}"), bytes.into()),
    ])
}

/// The document of one package, whose module is `value` and which runs a script when it is installed, and its archive.
pub(super) fn for_npm(host: &str, port: u16, value: &str, postinstall: &str) -> Shelf {
    let manifest =
        json!({"name": "thing", "version": "1.0.0", "main": "index.js", "scripts": {"postinstall": postinstall}});
    let bytes = archive(&[
        ("package/package.json", &manifest.to_string()),
        ("package/index.js", &format!("module.exports = \"{value}\";\n")),
    ]);
    let mut version = manifest;
    version["hasInstallScript"] = json!(true);
    version["dist"] = json!({
        "tarball": format!("https://{host}:{port}/thing/-/thing-1.0.0.tgz"),
        "integrity": format!("sha512-{}", STANDARD.encode(Sha512::digest(&bytes))),
    });
    let document = json!({"name": "thing", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}});
    Shelf::from([
        (format!("{host}/thing"), document.to_string().into()),
        (format!("{host}/thing/-/thing-1.0.0.tgz"), bytes.into()),
    ])
}

/// A sparse index with one crate, whose library is `value`.
pub(super) fn for_cargo(host: &str, port: u16, value: &str) -> Shelf {
    let bytes = archive(&[
        (
            "thing-1.0.0/Cargo.toml",
            "[package]\nname = \"thing\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
        ),
        (
            "thing-1.0.0/src/lib.rs",
            &format!("pub const VALUE: &str = \"{value}\";\n"),
        ),
    ]);
    let config = json!({"dl": format!("https://{host}:{port}/crates")});
    let line = json!({"name": "thing", "vers": "1.0.0", "deps": [], "features": {}, "yanked": false,
        "cksum": hex::encode(Sha256::digest(&bytes))});
    Shelf::from([
        (format!("{host}/index/config.json"), config.to_string().into()),
        (format!("{host}/index/th/in/thing"), format!("{line}\n").into()),
        (format!("{host}/crates/thing/1.0.0/download"), bytes.into()),
    ])
}

/// A tar.gz of these files.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, text.as_bytes()).expect("in memory");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("in memory")
}

/// Writes a stand-in for `rustc` into a folder. `cargo fetch` asks the compiler what it is and how its target is called, and
/// nothing else: the stand-in repeats what the real one says to that, so that no whole toolchain need go into a sandbox.
/// Gives the bytes of the real `cargo`.
pub(super) fn toolchain(folder: &Path) -> Vec<u8> {
    std::fs::create_dir(folder).expect("a folder");
    let said = Command::new("rustc").args(["--print", "sysroot"]).output();
    let said = said.expect("the tests are built with rustc").stdout;
    let real = Path::new(String::from_utf8_lossy(&said).trim()).join("bin");
    let script = |text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("rustc");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        path
    };
    let answer = "#!/bin/sh\nhere=$(dirname \"$0\")\ncase \"$1\" in -vV) to=version;; *) to=target;; esac\n";
    let recorder = script(&format!(
        "{answer}\"{}\" \"$@\" >\"$here/$to\" && cat \"$here/$to\"\n",
        real.join("rustc").display()
    ));
    let empty = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(empty.path().join("src")).expect("a folder");
    std::fs::write(empty.path().join("src/lib.rs"), "").expect("a file");
    let manifest = "[package]\nname = \"empty\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    std::fs::write(empty.path().join("Cargo.toml"), manifest).expect("a file");
    let fetched = Command::new(real.join("cargo"))
        .args(["fetch", "--quiet", "--offline"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", empty.path())
        .env("RUSTC", recorder)
        .current_dir(empty.path())
        .status();
    assert!(fetched.expect("cargo runs").success());
    script(&format!("{answer}exec cat \"$here/$to\"\n"));
    std::fs::read(real.join("cargo")).expect("cargo")
}
