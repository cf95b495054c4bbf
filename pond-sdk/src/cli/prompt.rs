//! Asks for a secret at the terminal, with its echo off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::io::SecretPrompt;
use crate::Secret;

/// The longest line that is taken.
const MAX_LINE: usize = 16 << 10;

/// Asks at the process's controlling terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct TtyPrompt;

impl SecretPrompt for TtyPrompt {
    fn ask(&mut self, prompt: &str) -> io::Result<Secret> {
        let mut tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        write!(tty, "{prompt}: ")?;
        tty.flush()?;
        let read = Hidden::new(&tty).and_then(|hidden| read_line(hidden.tty));
        writeln!(tty)?;
        read.map(Secret::new)
    }
}

/// Reads keys until Enter. Keys are read one by one, so that Ctrl-C works even where the program has taken the signal over.
fn read_line(mut keys: impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut key = [0];
    loop {
        match keys.read(&mut key) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // A signal that was none of ours.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        match key[0] {
            b'\n' | b'\r' => break,
            0x03 => return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
            0x04 if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0x08 | 0x7f => erase(&mut line),
            _ if line.len() >= MAX_LINE => return Err(io::Error::other("the line is too long")),
            byte => line.push(byte),
        }
    }
    // The error would hold the bytes.
    String::from_utf8(line).map_err(|_| io::Error::other("the line is not UTF-8"))
}

/// Removes the last character, which may be several bytes.
fn erase(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
}

/// A terminal that shows nothing and hands keys on at once; put back when dropped.
struct Hidden<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(tty: &'a File) -> io::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut silent = before.clone();
        silent
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(tty, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // If this fails the terminal is gone.
        let _ = tcsetattr(self.tty, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        for (keys, line) in [
            ("abc\n", "abc"),
            ("\n", ""),
            ("aé\u{7f}b\r", "ab"),
            ("\u{7f}\u{8}x\n", "x"),
            ("a\u{4}\n", "a\u{4}"),
        ] {
            assert_eq!(read_line(keys.as_bytes()).expect(keys), line);
        }
        for (keys, kind) in [
            ("abc", io::ErrorKind::UnexpectedEof),
            ("\u{4}", io::ErrorKind::UnexpectedEof),
            ("ab\u{3}", io::ErrorKind::Interrupted),
        ] {
            assert_eq!(read_line(keys.as_bytes()).expect_err(keys).kind(), kind, "{keys:?}");
        }
        let error = read_line(&b"sk-\xff\n"[..]).expect_err("not UTF-8");
        assert!(!format!("{error:?}").contains("sk-"));
        assert!(read_line(&vec![b'x'; MAX_LINE + 1][..]).is_err());
    }
}
