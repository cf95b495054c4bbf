//! A secret that is made once and kept in a file for its owner alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::secret::Secret;

/// The longest file that is read.
const MAX: u64 = 64 << 10;

/// The secret in the file at `path`; where there is no file, what `make` gives is written there with mode 0600, whole or not at
/// all. Says whether it was made now.
///
/// # Errors
/// When the file can be neither read nor written.
pub fn keep(path: &Path, make: impl FnOnce() -> Secret) -> io::Result<(Secret, bool)> {
    match read(path) {
        Ok(text) => Ok((Secret::new(text.trim()), false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = make();
            write(path, made.expose())?;
            Ok((made, true))
        }
        Err(error) => Err(error),
    }
}

/// The text of such a file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes such a file: a key that was cut off by a crash would lock everything out.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let (first, made) = keep(&path, || Secret::new("one")).unwrap();
        let (second, again) = keep(&path, || Secret::new("two")).unwrap();
        assert_eq!(
            (first.expose(), second.expose(), made, again),
            ("one", "one", true, false)
        );
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
