//! Hostile archives, each refused whole with nothing written outside; and bundles there and back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;
use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;
use crate::sources::{digest, write_bundle};

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    files: 100,
};

/// A folder with a neighbour that must stay as it is.
struct World {
    temp: TempDir,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("neighbour"), "untouched").unwrap();
        Self { temp }
    }

    fn target(&self) -> PathBuf {
        self.temp.path().join("into")
    }

    /// Extracts, and checks that nothing else changed and that a failure leaves nothing.
    fn extract(&self, archive: &[u8]) -> Result<Stats, TreeError> {
        let result = extract(archive, &self.target(), LIMITS);
        assert_eq!(
            fs::read_to_string(self.temp.path().join("neighbour")).unwrap(),
            "untouched"
        );
        let mut names: Vec<_> = fs::read_dir(self.temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.retain(|name| name != "neighbour");
        match result.is_ok() {
            true => assert_eq!(names, ["into"]),
            false => assert!(names.is_empty(), "left behind: {names:?}"),
        }
        result
    }
}

/// One entry whose name is written as it is, unchecked.
fn entry(kind: EntryType, name: &str, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(EntryType::Regular, name, "", content)
}

fn link(name: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Symlink, name, target, b"")
}

#[test]
fn c17_37_hostile_archives_are_refused_whole() {
    let good = file("good", b"x");
    let pax = |key: &str, value: &str| {
        let mut line = format!(" {key}={value}\n");
        line = format!("{}{line}", line.len() + 2);
        entry(EntryType::XHeader, "pax", "", line.as_bytes())
    };
    for (what, bad) in [
        ("dot dot", file("../neighbour", b"evil")),
        ("dot dot inside", file("a/../../neighbour", b"evil")),
        ("dot dot folder", entry(EntryType::Directory, "../x", "", b"")),
        ("absolute", file("/tmp/pond-evil", b"evil")),
        ("absolute link", link("a", "/etc/passwd")),
        ("parent link", link("a", "..")),
        ("deep link", link("a/b", "../../neighbour")),
        (
            "link chain",
            [link("x/root", ".."), link("z", "x/root/../neighbour")].concat(),
        ),
        ("write through a link", [link("d", "."), file("d/x", b"evil")].concat()),
        (
            "write through an outward link",
            [link("d", ".."), file("d/neighbour", b"evil")].concat(),
        ),
        ("hard link", entry(EntryType::Link, "h", "good", b"")),
        ("outward hard link", entry(EntryType::Link, "h", "../neighbour", b"")),
        ("char device", entry(EntryType::Char, "null", "", b"")),
        ("block device", entry(EntryType::Block, "disk", "", b"")),
        ("fifo", entry(EntryType::Fifo, "pipe", "", b"")),
        ("sparse", entry(EntryType::GNUSparse, "sparse", "", b"")),
        ("unknown", entry(EntryType::new(b'Z'), "x", "", b"")),
        (
            "long name",
            [
                entry(EntryType::GNULongName, "l", "", b"../neighbour\0"),
                file("x", b"evil"),
            ]
            .concat(),
        ),
        (
            "long link",
            [
                entry(EntryType::GNULongLink, "l", "", b"/etc/passwd\0"),
                link("x", "good"),
            ]
            .concat(),
        ),
        ("pax path", [pax("path", "../n"), file("x", b"evil")].concat()),
        ("pax link", [pax("linkpath", "/etc"), link("x", "good")].concat()),
        ("pax size", [pax("size", "3"), file("x", b"evil")].concat()),
        (
            "pax nonsense",
            [entry(EntryType::XHeader, "p", "", b"nonsense"), file("x", b"")].concat(),
        ),
        (
            "name bomb",
            entry(EntryType::GNULongName, "l", "", &vec![b'a'; 128 << 10]),
        ),
        (
            "zero byte",
            [entry(EntryType::GNULongName, "l", "", b"a\0b\0"), file("x", b"")].concat(),
        ),
        ("file over folder", [file("d/x", b""), file("d", b"")].concat()),
        ("folder over file", [file("d", b""), file("d/x", b"")].concat()),
        ("root as a file", file(".", b"evil")),
        ("root as a link", link("./", "..")),
        ("no target", link("a", "")),
        (
            "too deep",
            [
                entry(EntryType::GNULongName, "l", "", "a/".repeat(200).as_bytes()),
                file("x", b""),
            ]
            .concat(),
        ),
    ] {
        let result = World::new().extract(&archive(&[good.clone(), bad]));
        assert!(!Path::new("/tmp/pond-evil").exists(), "{what}");
        assert!(
            matches!(result, Err(TreeError::Unsafe(_) | TreeError::Malformed(_))),
            "{what}: {result:?}"
        );
    }
}

#[test]
fn bombs_are_stopped_at_the_limits() {
    let large = file("large", &vec![0; LIMITS.bytes as usize + 1]);
    let halves = [file("a", &vec![0; 600 << 10]), file("b", &vec![0; 600 << 10])].concat();
    for bomb in [large, halves] {
        let result = World::new().extract(&archive(&[bomb]));
        assert!(
            matches!(result, Err(TreeError::TooLarge(Excess::Bytes(1_048_576)))),
            "{result:?}"
        );
    }
    // The header tells 8 GiB: refused before a byte is written, not after as many as come.
    let mut told = Header::new_gnu();
    told.set_path("told").unwrap();
    told.set_entry_type(EntryType::Regular);
    told.set_mode(0o644);
    told.set_size(8 << 30);
    told.set_cksum();
    let result = World::new().extract(told.as_bytes());
    assert!(matches!(result, Err(TreeError::TooLarge(_))), "{result:?}");

    let many: Vec<_> = (0..=LIMITS.files).map(|n| file(&format!("f{n}"), b"")).collect();
    let result = World::new().extract(&archive(&many));
    assert!(
        matches!(result, Err(TreeError::TooLarge(Excess::Files(100)))),
        "{result:?}"
    );
    let folders: Vec<_> = (0..=LIMITS.files)
        .map(|n| entry(EntryType::Directory, &format!("d{n}"), "", b""))
        .collect();
    let result = World::new().extract(&archive(&folders));
    assert!(matches!(result, Err(TreeError::TooLarge(_))), "{result:?}");
    let globals: Vec<_> = (0..1000)
        .map(|_| entry(EntryType::XGlobalHeader, "g", "", b""))
        .collect();
    let result = World::new().extract(&archive(&globals));
    assert!(matches!(result, Err(TreeError::TooLarge(_))), "{result:?}");
}

#[test]
fn a_cut_archive_is_refused() {
    let whole = archive(&[file("a", &[1; 2000])]);
    let result = World::new().extract(&whole[..1500]);
    assert!(result.is_err(), "{result:?}");
    assert!(World::new().extract(b"this is no archive").is_err());
}

#[test]
fn a_full_folder_is_not_written_into() {
    let world = World::new();
    fs::create_dir(world.target()).unwrap();
    fs::write(world.target().join("kept"), "").unwrap();
    assert!(extract(&archive(&[file("a", b"")])[..], &world.target(), LIMITS).is_err());
    assert!(world.target().join("kept").exists());
}

#[test]
fn git_folders_and_set_id_bits_do_not_arrive() {
    let world = World::new();
    let mut set_id = file("tool", b"#!");
    // Mode 04755, checksum anew.
    let mut header = Header::from_byte_slice(&set_id[..512]).clone();
    header.set_mode(0o4755);
    header.set_cksum();
    set_id[..512].copy_from_slice(header.as_bytes());
    let hooks = [
        file(".git/config", b"[core]"),
        file("sub/.git/hooks/x", b""),
        file("sub/.git", b"gitdir: /x"),
    ]
    .concat();

    world.extract(&archive(&[set_id, hooks])).unwrap();

    assert_eq!(
        fs::metadata(world.target().join("tool")).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    assert!(!world.target().join(".git").exists() && !world.target().join("sub/.git").exists());
}

#[test]
fn a_bundle_brings_the_tree_back_and_is_always_the_same() {
    let world = World::new();
    let root = world.temp.path().join("tree");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    for (path, content) in [
        ("a.txt", "a"),
        ("b/c/run.sh", "#!"),
        (".git/config", "[core]"),
        ("b/.git/HEAD", "x"),
        (&long, "long"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::create_dir(root.join("empty")).unwrap();
    fs::set_permissions(root.join("b/c/run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("../a.txt", root.join("b/link")).unwrap();
    symlink("/etc/passwd", root.join("b/out")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

    let mut first = Vec::new();
    let stats = write_bundle(&root, &mut first, LIMITS).unwrap();
    assert_eq!((stats.bytes, stats.left_out), (7, 1));
    fs::write(root.join("a.txt"), "a").unwrap();
    let mut second = Vec::new();
    write_bundle(&root, &mut second, LIMITS).unwrap();
    assert_eq!(first, second, "times do not count");
    assert_eq!(world.extract_beside(&first), stats.files);

    let back = world.target();
    assert_eq!(fs::read_to_string(back.join(&long)).unwrap(), "long");
    assert_eq!(fs::read_link(back.join("b/link")).unwrap(), PathBuf::from("../a.txt"));
    assert_eq!(
        fs::metadata(back.join("b/c/run.sh")).unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert!(back.join("empty").is_dir());
    for gone in [".git", "b/.git", "b/out", "socket"] {
        assert!(back.join(gone).symlink_metadata().is_err(), "{gone}");
    }
    assert_eq!(digest(&root, LIMITS).unwrap(), digest(&back, LIMITS).unwrap());

    let mut seen = Vec::new();
    for_each_file(&first[..], LIMITS, &mut |file| {
        let mut text = String::new();
        file.content.read_to_string(&mut text)?;
        seen.push((file.path, text));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0], ("a.txt".into(), "a".into()));

    let small = Limits { bytes: 6, files: 100 };
    assert!(matches!(
        write_bundle(&root, Vec::new(), small),
        Err(TreeError::TooLarge(Excess::Bytes(6)))
    ));
    let few = Limits { bytes: 100, files: 3 };
    assert!(matches!(
        write_bundle(&root, Vec::new(), few),
        Err(TreeError::TooLarge(Excess::Files(3)))
    ));
}

impl World {
    fn extract_beside(&self, bundle: &[u8]) -> u64 {
        extract(bundle, &self.target(), LIMITS).unwrap().files
    }
}

#[test]
fn global_headers_and_repeated_files_are_fine() {
    let world = World::new();
    let global = entry(EntryType::XGlobalHeader, "g", "", b"20 comment=deadbeef\n");
    let stats = world.extract(&archive(&[
        global,
        file("a", b"1"),
        file("a", b"22"),
        entry(EntryType::Directory, "./", "", b""),
    ]));
    assert!(stats.is_ok(), "{stats:?}");
    assert_eq!(fs::read_to_string(world.target().join("a")).unwrap(), "22");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_entries_never_write_outside(
        entries in prop::collection::vec(("[a-c./]{1,8}", "[a-c./]{1,8}", 0u8..3), 0..8)
    ) {
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, target, kind)| match kind {
                0 => file(name, b"x"),
                1 => link(name, target),
                _ => entry(EntryType::Directory, name, "", b""),
            })
            .collect();
        let mut made = Builder::new(Vec::new());
        made.finish().unwrap();
        let world = World::new();
        if world.extract(&archive(&entries)).is_ok() {
            let mut out = Vec::new();
            let stats = write_bundle(&world.target(), &mut out, LIMITS).unwrap();
            prop_assert_eq!(stats.left_out, 0, "an escaping link was extracted");
        }
    }
}
