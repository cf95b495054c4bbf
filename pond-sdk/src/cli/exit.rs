//! How a verb ends: the exit codes, and what is said of an error.

use std::io;
use std::process::ExitCode;

use serde_json::json;

use super::console::Console;
use crate::Error;
use crate::api::{PreflightProblem, Problem};

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Well.
    Ok = 0,
    /// The run failed, or the check found something.
    Failed = 1,
    /// The command line, a file or a setting is wrong.
    Usage = 2,
    /// The token is missing, unknown, or not allowed to do this.
    Auth = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The server refused what was sent.
    Refused = 5,
    /// The server does not answer, or not now.
    Unreachable = 6,
    /// The run was cancelled.
    Cancelled = 7,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a verb could not do its work.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The command line, a file or a setting is wrong.
    Usage(String),
    /// There is no token.
    NoToken,
    /// There is no such thing.
    NotFound(String),
    /// A call failed.
    Call(Box<Error>),
    /// The output cannot be written.
    Output(io::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Setup(text) => Self::Usage(text),
            error => Self::Call(Box::new(error)),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Fault {
    /// Something wrong on the command line or in a file.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Says what is wrong and what would be right.
    pub(crate) fn report(self, console: &mut Console) -> Exit {
        let exit = self.exit();
        // Where standard error is gone too there is nobody left to tell.
        let _ = match &self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Ok,
            Self::Call(error) => match error.refusal() {
                Some(refusal) => refused(&refusal.problem, console),
                None => plain(console, &chain(error), call_fix(error)),
            },
            Self::Usage(text) | Self::NotFound(text) => plain(console, text, None),
            Self::NoToken => plain(
                console,
                "no token to call with",
                Some("set POND_TOKEN or POND_TOKEN_FILE, or give --token"),
            ),
            Self::Output(error) => plain(console, &format!("cannot write the output: {error}"), None),
        };
        exit
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NoToken => Exit::Auth,
            Self::NotFound(_) => Exit::NotFound,
            Self::Output(_) => Exit::Failed,
            Self::Call(error) => match error.status() {
                Some(status) => of_status(status),
                None => Exit::Unreachable,
            },
        }
    }
}

/// What an error answer means for the exit code.
fn of_status(status: u16) -> Exit {
    match status {
        401 | 403 => Exit::Auth,
        404 | 410 => Exit::NotFound,
        // Another server than was meant, or none that knows this name.
        421 => Exit::Usage,
        429 | 500.. => Exit::Unreachable,
        _ => Exit::Refused,
    }
}

fn call_fix(error: &Error) -> Option<&'static str> {
    match error {
        Error::Unreachable { .. } => Some("start it with `pond up`, or give its address by --url or POND_URL"),
        Error::Decode { .. } => Some("check that the address is that of a Pond server of this version or a newer one"),
        _ => None,
    }
}

/// An error with its causes, each told once.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

fn plain(console: &mut Console, text: &str, fix: Option<&str>) -> io::Result<()> {
    if console.json() {
        return console.note_json(&json!({ "error": { "detail": text, "fix": fix } }));
    }
    console.note(&format!("error: {text}"))?;
    fix.map_or(Ok(()), |fix| console.note(&format!("  fix: {fix}")))
}

fn refused(problem: &Problem, console: &mut Console) -> io::Result<()> {
    if console.json() {
        return console.note_json(&json!({ "error": problem }));
    }
    let text = if problem.detail.is_empty() {
        &problem.title
    } else {
        &problem.detail
    };
    console.note(&format!("error: {text} ({})", problem.code))?;
    for error in &problem.errors {
        console.note(&format!("  {}: {}", error.pointer, error.message))?;
    }
    for user in &problem.users {
        let place = user
            .project_id
            .as_ref()
            .map_or_else(|| "org".to_owned(), |id| format!("project {id}"));
        console.note(&format!("  used by {} {} ({place})", user.kind, user.key))?;
    }
    if !problem.required_scopes.is_empty() {
        console.note(&format!(
            "  fix: use a token with the scope {}",
            problem.required_scopes.join(", ")
        ))?;
    }
    if let Some(id) = &problem.id {
        console.note(&format!("  it is {id}"))?;
    }
    problems(&problem.problems, console)?;
    if !problem.request_id.is_empty() && problem.status >= 500 {
        console.note(&format!("  the server's log tells more under {}", problem.request_id))?;
    }
    Ok(())
}

/// Prints what preflight found, each with its fix, to standard error.
pub(crate) fn problems(problems: &[PreflightProblem], console: &mut Console) -> io::Result<()> {
    for problem in problems {
        console.note(&format!(
            "{:<7} {}: {}",
            problem.severity, problem.code, problem.message
        ))?;
        if !problem.fix.is_empty() {
            console.note(&format!("        fix: {}", problem.fix))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_contracts() {
        for (status, exit) in [
            (400, 5),
            (401, 3),
            (403, 3),
            (404, 4),
            (409, 5),
            (410, 4),
            (413, 5),
            (421, 2),
            (422, 5),
            (429, 6),
            (500, 6),
            (503, 6),
        ] {
            assert_eq!(of_status(status).code(), exit, "{status}");
        }
    }
}
