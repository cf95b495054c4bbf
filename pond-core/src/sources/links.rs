//! Whether a symbolic link in a tree leads out of it, followed the way the kernel does, but without touching the outside.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::tree::TreeError;

/// As many hops as the kernel follows: a longer chain opens nothing.
const MAX_HOPS: usize = 40;
/// Steps that all links of one tree together may take. Far more than any real tree needs; without it, links that lead
/// through links cost the product of their number, their hops and their length.
const MAX_STEPS: u64 = 5_000_000;

/// The symbolic links of one tree, and how much following them may still cost.
#[derive(Debug)]
pub(super) struct Links {
    steps: u64,
}

impl Links {
    pub(super) fn new() -> Self {
        Self { steps: MAX_STEPS }
    }

    /// Whether following the link at `link` (relative to `root`) would ever leave `root`. Only path components inside the
    /// root are looked at. A dangling link stays when its missing part would.
    ///
    /// # Errors
    /// [`TreeError::Unsafe`] when the links of the tree take too many steps together.
    pub(super) fn escapes(&mut self, root: &Path, link: &Path) -> Result<bool, TreeError> {
        let mut ahead: Vec<Step> = steps(link).ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut here = PathBuf::new();
        let mut depth = 0usize;
        let mut hops = 0;
        while let Some(step) = ahead.pop() {
            self.spend(1)?;
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
            // Also text that makes no step, such as `./.`, is read.
            self.spend(target.as_os_str().len() as u64 / 64)?;
            let Some(more) = steps(&target) else {
                return Ok(true);
            };
            here.pop();
            depth -= 1;
            ahead.extend(more);
        }
        Ok(false)
    }

    fn spend(&mut self, steps: u64) -> Result<(), TreeError> {
        const TOO_MANY: TreeError = TreeError::Unsafe("links that lead through too many others");
        self.steps = self.steps.checked_sub(steps).ok_or(TOO_MANY)?;
        Ok(())
    }
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
            assert_eq!(
                Links::new().escapes(root, Path::new(link)).unwrap(),
                out,
                "{link} -> {target}"
            );
        }
    }

    #[test]
    fn a_chain_as_long_as_the_kernel_follows_is_followed_and_no_longer_one() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        symlink("..", root.join("l0")).unwrap();
        for number in 1..=MAX_HOPS {
            symlink(format!("l{}", number - 1), root.join(format!("l{number}"))).unwrap();
        }
        let out = |number: usize| Links::new().escapes(root, Path::new(&format!("l{number}"))).unwrap();
        assert!(out(MAX_HOPS - 1) && !out(MAX_HOPS));
    }

    #[test]
    fn links_that_lead_through_links_cost_no_more_than_their_tree_may() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        // Each goes down and up before it leads to the one before it: as many steps as a target has room for.
        std::fs::create_dir(root.join("d")).unwrap();
        let around = "d/../".repeat(400);
        symlink("d", root.join("l0")).unwrap();
        for number in 1..=30 {
            symlink(format!("{around}l{}", number - 1), root.join(format!("l{number}"))).unwrap();
        }
        let mut links = Links { steps: 100_000 };
        let spent = (0..100)
            .map(|_| links.escapes(root, Path::new("l30")))
            .find(Result::is_err);
        assert!(matches!(spent, Some(Err(TreeError::Unsafe(_)))), "{spent:?}");
        assert!(
            !Links::new().escapes(root, Path::new("l30")).unwrap(),
            "one alone is within bounds"
        );
    }
}
