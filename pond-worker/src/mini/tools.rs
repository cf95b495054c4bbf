//! The tools: each is a program run inside the sandbox, with bounded time and output.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use pond_core::clock::Clock;
use pond_core::sandbox::{Exec, Exit, Output, Process, Running, SandboxError, Signal};
use pond_core::secret::Secret;
use serde_json::{Value, json};

use super::wire::ToolResult;

/// Bytes kept of the beginning of a program's output, and of its end.
const HEAD: usize = 24 << 10;
const TAIL: usize = 8 << 10;
/// Bytes of a file that one read gives.
const MAX_READ: usize = 64 << 10;
/// Lines of a file that one read gives, where the model names no number.
const DEFAULT_LINES: u64 = 2000;
/// Bytes of a command: the kernel takes no argument above 128 KiB.
const MAX_COMMAND: usize = 100 << 10;
/// Bytes of a file written in one go.
const MAX_WRITE: usize = 4 << 20;
/// Bytes of a path.
const MAX_PATH: usize = 4096;
/// How long a command may run, where the model names no time, and at most.
const DEFAULT_TIMEOUT: u64 = 120;
const MAX_TIMEOUT: u64 = 600;
/// How long a program has to end after it was asked to, before it is killed, and after that before it is given up.
const GRACE: Duration = Duration::from_secs(3);

/// Reads lines `$2` … of file `$1`, `$3` of them, `$4` bytes at most. The path is an argument, never part of the script.
const READ: &str = r#"[ -e "$1" ] || { echo "no such file: $1" >&2; exit 1; }
[ -f "$1" ] || { echo "not a file: $1" >&2; exit 1; }
[ -r "$1" ] || { echo "not readable: $1" >&2; exit 1; }
tail -n "+$2" < "$1" | head -n "$3" | head -c "$4""#;

/// Writes standard input to file `$1`, making its folder.
const WRITE: &str = r#"case $1 in */*) mkdir -p -- "${1%/*}/" || exit 1;; esac
cat > "$1""#;

/// A tool of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    /// Runs a command.
    Shell,
    /// Reads a file.
    ReadFile,
    /// Writes a file.
    WriteFile,
}

/// A name that is no tool's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no tool `{0}`: there are shell, read_file and write_file")]
pub struct UnknownTool(pub String);

impl Tool {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shell, Self::ReadFile, Self::WriteFile];

    /// Reads a name as agents are configured with it: in any case, with the names that other agents give these tools.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(name: &str) -> Result<Self, UnknownTool> {
        match name.to_ascii_lowercase().as_str() {
            "shell" | "bash" => Ok(Self::Shell),
            "read_file" | "read" => Ok(Self::ReadFile),
            "write_file" | "write" | "edit" => Ok(Self::WriteFile),
            _ => Err(UnknownTool(name.to_owned())),
        }
    }

    /// The name that the model is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::ReadFile => "read_file",
            Self::WriteFile => "write_file",
        }
    }

    /// The tool that a model calls by this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// What the model is told of it.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Shell => {
                "Runs a command with /bin/sh in the working folder and returns its exit code and output. Each call is a \
                 fresh shell; long output is cut in the middle."
            }
            Self::ReadFile => "Returns the text of a file, from line `offset` (1) on, `limit` (2000) lines at most.",
            Self::WriteFile => "Writes a whole file, making its folder and replacing what it held.",
        }
    }

    /// Its arguments, as a JSON schema.
    pub(super) fn schema(self) -> Value {
        let (properties, required) = match self {
            Self::Shell => (
                json!({
                    "command": {"type": "string", "description": "The command."},
                    "timeout_sec": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT, "description": "Default 120."},
                }),
                json!(["command"]),
            ),
            Self::ReadFile => (
                json!({
                    "path": {"type": "string", "description": "Relative to the working folder, or absolute."},
                    "offset": {"type": "integer", "minimum": 1},
                    "limit": {"type": "integer", "minimum": 1},
                }),
                json!(["path"]),
            ),
            Self::WriteFile => (
                json!({
                    "path": {"type": "string", "description": "Relative to the working folder, or absolute."},
                    "content": {"type": "string", "description": "The whole new content."},
                }),
                json!(["path", "content"]),
            ),
        };
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }
}

/// Carries tools out in one sandbox.
pub(super) struct Toolbox<'a> {
    pub(super) sandbox: &'a dyn Running,
    pub(super) env: &'a BTreeMap<String, Secret>,
    pub(super) clock: &'a dyn Clock,
}

/// A fault in the model's arguments, told back to it.
type Fault = String;

impl Toolbox<'_> {
    /// Carries out one call. What goes wrong inside the sandbox is a result; only losing the sandbox is an error.
    pub(super) async fn run(&self, tool: Tool, arguments: &Value) -> Result<ToolResult, SandboxError> {
        let done = match tool {
            Tool::Shell => self.shell(arguments).await,
            Tool::ReadFile => self.read(arguments).await,
            Tool::WriteFile => self.write(arguments).await,
        };
        done.or_else(|error| match error {
            Undone::Fault(fault) => Ok(ToolResult::error(format!("not done: {fault}"))),
            Undone::Sandbox(error) => Err(error),
        })
    }

    async fn shell(&self, arguments: &Value) -> Result<ToolResult, Undone> {
        let command = text(arguments, "command", MAX_COMMAND)?;
        let seconds = number(arguments, "timeout_sec", DEFAULT_TIMEOUT)?.min(MAX_TIMEOUT);
        let argv = vec!["/bin/sh".into(), "-c".into(), command.to_owned()];
        let ended = self
            .exec(argv, Bytes::new(), Duration::from_secs(seconds), Kept::new(HEAD, TAIL))
            .await?;
        let output = ended.kept.text();
        let end = match ended.exit {
            Some(Exit::Code(code)) => format!("exit code {code}"),
            Some(Exit::Signal(signal)) => format!("killed by signal {signal}"),
            None => format!("stopped after {seconds} s"),
        };
        Ok(ToolResult {
            text: format!("{end}\n{output}"),
            is_error: ended.exit != Some(Exit::Code(0)),
        })
    }

    async fn read(&self, arguments: &Value) -> Result<ToolResult, Undone> {
        let path = path(arguments)?;
        let offset = number(arguments, "offset", 1)?;
        let limit = number(arguments, "limit", DEFAULT_LINES)?;
        // One byte more than is shown, to tell whether there is more.
        let numbers = [offset, limit, MAX_READ as u64 + 1].map(|number| number.to_string());
        let argv = script(READ, [path.to_owned()].into_iter().chain(numbers));
        let kept = Kept::new(MAX_READ, 0);
        let ended = self
            .exec(argv, Bytes::new(), Duration::from_secs(DEFAULT_TIMEOUT), kept)
            .await?;
        Ok(ToolResult {
            is_error: ended.exit != Some(Exit::Code(0)),
            text: ended.kept.text(),
        })
    }

    async fn write(&self, arguments: &Value) -> Result<ToolResult, Undone> {
        let path = path(arguments)?;
        let content = text(arguments, "content", MAX_WRITE)?;
        let argv = script(WRITE, [path.to_owned()]);
        let stdin = Bytes::copy_from_slice(content.as_bytes());
        let ended = self
            .exec(argv, stdin, Duration::from_secs(DEFAULT_TIMEOUT), Kept::new(HEAD, TAIL))
            .await?;
        Ok(match ended.exit {
            Some(Exit::Code(0)) => ToolResult::ok(format!("wrote {} bytes", content.len())),
            _ => ToolResult::error(format!("not written: {}", ended.kept.text())),
        })
    }

    async fn exec(&self, argv: Vec<String>, stdin: Bytes, limit: Duration, mut kept: Kept) -> Result<Ended, Undone> {
        let exec = Exec {
            argv,
            env: self.env.clone(),
            stdin,
            cwd: None,
        };
        let mut process = self.sandbox.exec(exec).await?;
        let exit = match self.follow(&mut process, &mut kept, limit).await? {
            Some(exit) => Some(exit),
            None => {
                self.stop(&mut process, &mut kept).await?;
                None
            }
        };
        Ok(Ended { exit, kept })
    }

    /// Reads output until the program has ended or the time is up.
    async fn follow(&self, process: &mut Process, kept: &mut Kept, limit: Duration) -> Result<Option<Exit>, Undone> {
        let up = self.clock.sleep(limit);
        tokio::pin!(up);
        loop {
            tokio::select! {
                biased;
                output = process.output.recv() => match output {
                    Some(Output::Bytes(_, bytes)) => kept.add(&bytes),
                    Some(Output::Exited(exit)) => return Ok(Some(exit)),
                    None => return Err(SandboxError::failed("the sandbox ended under a program").into()),
                },
                () = &mut up => return Ok(None),
            }
        }
    }

    async fn stop(&self, process: &mut Process, kept: &mut Kept) -> Result<(), Undone> {
        for signal in [Signal::Term, Signal::Kill] {
            // A full queue of signals means that one is under way already.
            let _ = process.signals.try_send(signal);
            if self.follow(process, kept, GRACE).await?.is_some() {
                break;
            }
        }
        Ok(())
    }
}

struct Ended {
    /// None when it was stopped.
    exit: Option<Exit>,
    kept: Kept,
}

enum Undone {
    Fault(Fault),
    Sandbox(SandboxError),
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<SandboxError> for Undone {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(error)
    }
}

fn script(text: &str, arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    ["/bin/sh", "-c", text, "sh"]
        .map(str::to_owned)
        .into_iter()
        .chain(arguments)
        .collect()
}

fn text<'a>(arguments: &'a Value, name: &str, bound: usize) -> Result<&'a str, Fault> {
    let text = arguments
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("`{name}` must be a string"))?;
    match text.len() <= bound {
        true => Ok(text),
        false => Err(format!("`{name}` may have {bound} bytes")),
    }
}

fn path(arguments: &Value) -> Result<&str, Fault> {
    let path = text(arguments, "path", MAX_PATH)?;
    match path.is_empty() || path.contains('\0') {
        true => Err("`path` is no path".into()),
        false => Ok(path),
    }
}

fn number(arguments: &Value, name: &str, default: u64) -> Result<u64, Fault> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let number = value.as_u64().filter(|number| *number >= 1);
            number.ok_or_else(|| format!("`{name}` must be a whole number from 1"))
        }
    }
}

/// The beginning and the end of a program's output.
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_bound: usize,
    tail_bound: usize,
    left_out: u64,
}

impl Kept {
    fn new(head_bound: usize, tail_bound: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            head_bound,
            tail_bound,
            left_out: 0,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(self.head_bound - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.tail_bound);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    fn text(self) -> String {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let tail: Vec<u8> = self.tail.into();
        let tail = String::from_utf8_lossy(&tail);
        match (self.left_out, self.tail_bound) {
            (0, _) => head + &tail,
            (_, 0) => format!("{head}\n[cut here: there is more]"),
            (left_out, _) => format!("{head}\n[{left_out} bytes left out]\n{tail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_keeps_its_beginning_and_its_end() {
        let mut kept = Kept::new(4, 3);
        for part in ["ab", "cdef", "ghi", "jk"] {
            kept.add(part.as_bytes());
        }
        assert_eq!(kept.text(), "abcd\n[4 bytes left out]\nijk");
        let mut short = Kept::new(4, 3);
        short.add(b"abcdefg");
        assert_eq!(short.text(), "abcdefg");
    }

    #[test]
    fn tools_are_known_by_the_names_of_other_agents_too() {
        for (name, tool) in [
            ("Bash", Tool::Shell),
            ("READ", Tool::ReadFile),
            ("edit", Tool::WriteFile),
        ] {
            assert_eq!(Tool::parse(name), Ok(tool));
        }
        assert_eq!(Tool::parse("browser"), Err(UnknownTool("browser".into())));
    }

    #[test]
    fn arguments_are_checked() {
        let arguments = json!({"path": "a\u{0}b", "limit": 0, "content": 1});
        assert!(path(&arguments).is_err());
        assert!(number(&arguments, "limit", 1).is_err());
        assert_eq!(number(&arguments, "offset", 7), Ok(7));
        assert!(text(&arguments, "content", 10).is_err());
        assert!(text(&json!({"command": "x".repeat(11)}), "command", 10).is_err());
    }
}
