//! Whether a symbolic link in a tree leads out of it, followed the way the kernel does, but without touching the outside.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// More hops than the kernel follows (40): a chain this long opens nothing.
const MAX_HOPS: usize = 64;

/// Whether following the link at `link` (relative to `root`) would ever leave `root`. Only path components inside the root
/// are looked at. A dangling link stays when its missing part would.
pub fn escapes(root: &Path, link: &Path) -> io::Result<bool> {
    let mut ahead: Vec<Step> = steps(link).ok_or(io::ErrorKind::InvalidInput)?;
    let mut here = PathBuf::new();
    let mut depth = 0usize;
    let mut hops = 0;
    while let Some(step) = ahead.pop() {
        let name = match step {
            Step::Up if depth == 0 => return Ok(true),
            Step::Up => {
                here.pop();
                depth -= 1;
                continue;
            }
            Step::Down(name) => name,
        };
        here.push(name);
        depth += 1;
        let Some(target) = target(&root.join(&here))? else {
            continue;
        };
        hops += 1;
        if hops > MAX_HOPS {
            return Ok(false);
        }
        let Some(more) = steps(&target) else {
            return Ok(true);
        };
        here.pop();
        depth -= 1;
        ahead.extend(more);
    }
    Ok(false)
}

enum Step {
    Up,
    Down(OsString),
}

/// The steps of a path, the last one first; none for an absolute path.
fn steps(path: &Path) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => steps.push(Step::Down(name.to_owned())),
            Component::ParentDir => steps.push(Step::Up),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    steps.reverse();
    Some(steps)
}

/// Where a link points; none for what is no link or not there.
fn target(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_symlink() => path.read_link().map(Some),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        // A target too long for the system opens nothing.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("x/deep")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        for (link, target, out) in [
            ("plain", "file", false),
            ("x/up", "../file", false),
            ("x/root", "..", false),
            ("x/there_and_back", "../x/deep/../deep", false),
            ("dangling", "nowhere/../nothing", false),
            ("self", "self", false),
            ("through_file", "file/../file", false),
            ("absolute", "/etc/passwd", true),
            ("parent", "..", true),
            ("x/parents", "../..", true),
            ("x/deep/far", "../../../etc", true),
            // As text `x/root/..` is `x`, but `x/root` is the root itself.
            ("chained", "x/root/..", true),
            ("second", "absolute", true),
            ("dangling_out", "nowhere/../../etc", true),
        ] {
            symlink(target, root.join(link)).unwrap();
            assert_eq!(escapes(root, Path::new(link)).unwrap(), out, "{link} -> {target}");
        }
    }
}
