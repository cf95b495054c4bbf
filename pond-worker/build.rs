//! Compiles the in-sandbox init, the probe of the sandbox tests and the guest of the attack battery to static programs that run in any root file system.
//!
//! Cargo cannot build a binary of another linkage for use by the same package, so rustc is called directly. Flags for the
//! worker itself (`RUSTFLAGS`) do not apply to them.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=init");
    let out = PathBuf::from(required("OUT_DIR"));
    let init = out.join("pond-init");
    compile(Path::new("init/main.rs"), "pond_init", &init);
    println!("cargo:rustc-env=POND_INIT={}", init.display());
    let probe = out.join("pond-probe");
    compile(Path::new("init/probe.rs"), "pond_probe", &probe);
    println!("cargo:rustc-env=POND_PROBE={}", probe.display());
    println!("cargo:rerun-if-changed=intruder");
    let intruder = out.join("pond-intruder");
    compile(Path::new("intruder/main.rs"), "pond_intruder", &intruder);
    println!("cargo:rustc-env=POND_INTRUDER={}", intruder.display());
}

fn compile(source: &Path, name: &str, program: &Path) {
    let mut rustc = Command::new(required("RUSTC"));
    rustc
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            name,
            "--target",
        ])
        .arg(required("TARGET"))
        .args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .arg("-o")
        .arg(program)
        .arg(source);
    if let Some(linker) = variable("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let status = rustc.status().expect("cargo names a compiler that can be started");
    assert!(status.success(), "{} does not compile", source.display());
}

fn required(name: &str) -> String {
    variable(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts by environment alone"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
