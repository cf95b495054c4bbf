//! Asks for a secret at the terminal, with its echo off.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::io::SecretPrompt;
use crate::Secret;

/// The longest line that is taken.
const MAX_LINE: u64 = 16 << 10;

/// Asks at the process's controlling terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct TtyPrompt;

impl SecretPrompt for TtyPrompt {
    fn ask(&mut self, prompt: &str) -> io::Result<Secret> {
        let mut tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        write!(tty, "{prompt}: ")?;
        tty.flush()?;
        let mut line = String::new();
        {
            let hidden = Hidden::new(&tty)?;
            BufReader::new(hidden.tty.take(MAX_LINE)).read_line(&mut line)?;
        }
        writeln!(tty)?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(Secret::new(line))
    }
}

/// A terminal with its echo off, put back when dropped.
struct Hidden<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(tty: &'a File) -> io::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL);
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
