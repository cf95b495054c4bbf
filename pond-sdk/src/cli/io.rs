//! The outside world as the verbs see it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use tokio::io::AsyncBufRead;
use tokio::sync::mpsc;

use super::prompt::TtyPrompt;
use crate::Secret;

/// Which of the standard streams are terminals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terminals {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// Asks a person for a secret without showing it.
pub trait SecretPrompt: Send {
    /// Shows the prompt and reads one line.
    fn ask(&mut self, prompt: &str) -> io::Result<Secret>;
}

/// Looks a name up in the environment.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Everything that the verbs read, write and hear.
pub struct Io {
    /// Standard input.
    pub stdin: Box<dyn AsyncBufRead + Send + Unpin>,
    /// Standard output: results.
    pub stdout: Box<dyn Write + Send>,
    /// Standard error: everything else.
    pub stderr: Box<dyn Write + Send>,
    /// Which of them are terminals.
    pub terminals: Terminals,
    /// The environment.
    pub env: Environment,
    /// The folder that relative paths start from.
    pub cwd: PathBuf,
    /// Asks for secrets.
    pub prompt: Box<dyn SecretPrompt>,
    /// One message for each Ctrl-C. Where the sender is gone, none will come.
    pub interrupts: mpsc::Receiver<()>,
}

impl Io {
    /// The process's own streams. The program hands in its environment and its Ctrl-C, which a library leaves alone.
    ///
    /// Reading standard input may outlive the verb, so the program should end by `std::process::exit`.
    pub fn process(
        env: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        interrupts: mpsc::Receiver<()>,
    ) -> io::Result<Self> {
        Ok(Self {
            stdin: Box::new(tokio::io::BufReader::new(tokio::io::stdin())),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            terminals: Terminals {
                stdin: io::stdin().is_terminal(),
                stdout: io::stdout().is_terminal(),
                stderr: io::stderr().is_terminal(),
            },
            env: Box::new(env),
            cwd: std::env::current_dir()?,
            prompt: Box::new(TtyPrompt),
            interrupts,
        })
    }
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io")
            .field("terminals", &self.terminals)
            .finish_non_exhaustive()
    }
}
