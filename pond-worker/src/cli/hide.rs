//! A secret that was given as an argument stands there for every user of the host to see. The process starts itself anew without
//! it: arguments cannot be changed in place without unsafe code, and a new start leaves nothing of them.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use pond_core::secret::Secret;
use rustix::io::{FdFlags, fcntl_setfd};

/// What a pipe holds without anybody reading.
const MAX: usize = 4096;
const FLAG: &str = "--token";
/// The program then finds the secret where it would look for it anyway.
const VARIABLE: &str = "POND_POOL_SECRET";

/// Starts this program again, with the same arguments but `--token` and its value; the secret goes by a pipe. To be called before
/// any thread is started; returns only when it fails.
///
/// # Errors
/// When it cannot be started again.
pub(super) fn hide_token(secret: &Secret) -> io::Result<Infallible> {
    let text = secret.expose().as_bytes();
    if text.is_empty() || text.len() > MAX {
        return Err(io::Error::other("--token: expected 1 to 4096 bytes"));
    }
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(text)?;
    drop(writer);
    fcntl_setfd(&reader, FdFlags::empty())?;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let error = Command::new(std::env::current_exe()?)
        .arg0(name)
        .args(without_token(arguments))
        .env_remove(VARIABLE)
        .env(
            format!("{VARIABLE}_FILE"),
            format!("/proc/self/fd/{}", reader.as_raw_fd()),
        )
        .exec();
    Err(error)
}

/// The arguments without the flag and its value, in both of its spellings.
fn without_token(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut is_value = false;
    for argument in arguments {
        if std::mem::take(&mut is_value) {
            continue;
        }
        let bytes = argument.as_encoded_bytes();
        is_value = argument == OsStr::new(FLAG);
        let joined = bytes
            .strip_prefix(FLAG.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&b'='));
        if !is_value && !joined {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_100_the_secret_is_in_no_argument_of_the_new_start() {
        let kept = |line: &str| without_token(line.split_whitespace().map(OsString::from));
        for line in [
            "orchestrator serve --token S --bind 127.0.0.1:1",
            "orchestrator serve --bind 127.0.0.1:1 --token=S",
        ] {
            assert_eq!(kept(line), ["orchestrator", "serve", "--bind", "127.0.0.1:1"], "{line}");
        }
        assert_eq!(kept("serve --token-file F"), ["serve", "--token-file", "F"]);
    }
}
