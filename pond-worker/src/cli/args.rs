//! Flags of orchestrator and worker.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use pond_core::sandbox::BackendKind;
use pond_core::secret::Secret;

/// `pond orchestrator …`
#[derive(Debug, Subcommand)]
pub enum OrchestratorVerb {
    /// Pair with a server, by a pairing code
    Pair(PairArgs),
    /// Relay between the paired server and workers
    Serve(ServeArgs),
}

/// `pond swarm …`: orchestrator and worker under one name.
#[derive(Debug, Subcommand)]
pub enum SwarmVerb {
    /// Pair with a server, by a pairing code
    Pair(PairArgs),
    /// Relay between the paired server and workers
    Serve(ServeArgs),
    /// Run jobs on this host
    Worker(Box<WorkerArgs>),
    /// Try on this host whether its sandboxes hold
    #[command(hide = true)]
    Attest(AttestArgs),
}

/// `pond worker …`
#[derive(Debug, Subcommand)]
pub enum WorkerVerb {
    /// Try on this host whether its sandboxes hold
    Attest(AttestArgs),
}

/// Flags of `worker attest`.
#[derive(Debug, Args)]
pub struct AttestArgs {
    /// Answer in JSON, signed with this worker's key where it has one
    #[arg(long)]
    pub json: bool,
    /// The backend to try; without it every one that confines and works here
    #[arg(long, value_name = "BACKEND", value_parser = backend)]
    pub backend: Option<BackendKind>,
    /// Groups of cases, with commas; all of them
    #[arg(long, value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Where the worker's identity is kept; POND_STATE_DIR, or .pond-state
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// How this program calls itself in the closed network
    #[arg(long, hide = true)]
    pub within: Option<PathBuf>,
}

fn backend(text: &str) -> Result<BackendKind, String> {
    let found = BackendKind::ALL.into_iter().find(|(name, _)| *name == text);
    found
        .map(|(_, kind)| kind)
        .ok_or_else(|| "expected bubblewrap, docker or none".into())
}

impl From<OrchestratorVerb> for SwarmVerb {
    fn from(verb: OrchestratorVerb) -> Self {
        match verb {
            OrchestratorVerb::Pair(args) => Self::Pair(args),
            OrchestratorVerb::Serve(args) => Self::Serve(args),
        }
    }
}

/// Flags of `pair`.
#[derive(Debug, Args)]
pub struct PairArgs {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8001")]
    pub pond: String,
    /// The pairing code
    #[arg(long, value_parser = secret, conflicts_with = "code_file")]
    pub code: Option<Secret>,
    /// A file with the pairing code; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub code_file: Option<PathBuf>,
    /// Name of the orchestrator, for people
    #[arg(long)]
    pub name: Option<String>,
    /// Where the pairing is kept; POND_STATE_DIR, or .pond-orchestrator
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Go on though the token travels in clear
    #[arg(long)]
    pub insecure_no_tls: bool,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where workers reach it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// The pool secret, which its status page asks for; POND_POOL_SECRET and its _FILE are better places
    #[arg(long, value_parser = secret, conflicts_with = "token_file")]
    pub token: Option<Secret>,
    /// A file with the pool secret
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the pairing is kept; POND_STATE_DIR, or .pond-orchestrator
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Listen off loopback, and dial the server, without TLS
    #[arg(long)]
    pub insecure_no_tls: bool,
}

/// Flags of `worker`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct WorkerArgs {
    #[expect(missing_docs, reason = "clap would show it as the text of the verb")]
    #[command(subcommand)]
    pub verb: Option<WorkerVerb>,
    /// The orchestrator
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub orchestrator: String,
    /// An enrolment code; needed the first time alone
    #[arg(long, value_parser = secret, conflicts_with = "enroll_code_file")]
    pub enroll_code: Option<Secret>,
    /// A file with the enrolment code; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub enroll_code_file: Option<PathBuf>,
    /// Name of the worker, for people; the one that its code suggests
    #[arg(long)]
    pub name: Option<String>,
    /// Its tags, with commas; those of the code
    #[arg(long, value_delimiter = ',')]
    pub tags: Option<Vec<String>>,
    /// What it can do, with commas; what the code says
    #[arg(long, value_delimiter = ',')]
    pub capabilities: Option<Vec<String>>,
    /// Jobs at once; the number of cores
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: Option<u32>,
    /// Where its identity is kept; POND_STATE_DIR, or .pond-state
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Where checkouts and outputs of jobs are made, such as a large disk; the state folder
    #[arg(long, value_name = "FOLDER")]
    pub repo_root: Option<PathBuf>,
    /// Host uids for jobs, where it runs as root
    #[arg(long, value_name = "FIRST-LAST", value_parser = uid_range, default_value = "200000-265535")]
    pub uid_range: RangeInclusive<u32>,
    /// Take jobs of profile `none`, which are not confined
    #[arg(long)]
    pub allow_unconfined: bool,
    /// Let the docker backend pull images
    #[arg(long)]
    pub pull: bool,
    /// Dial the orchestrator without TLS, also on another host
    #[arg(long)]
    pub insecure_no_tls: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that clap asks for")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

fn uid_range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first >= 1000 && first <= last && last < u32::MAX).then_some(first..=last)
    });
    range.ok_or_else(|| "expected two uids from 1000 on, such as 200000-265535".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Swarm {
        #[command(subcommand)]
        verb: SwarmVerb,
    }

    #[test]
    fn the_flags_of_the_guide_are_taken_and_secrets_are_not_shown() {
        let line = "swarm worker --orchestrator http://orch:8080 --enroll-code pond_ec_1.ab --tags pool:trusted \
                    --capabilities harness.codex,sandbox.docker --uid-range 300000-300010";
        let parsed = Swarm::try_parse_from(line.split_whitespace()).unwrap();
        assert!(!format!("{parsed:?}").contains("pond_ec_1"));
        let SwarmVerb::Worker(args) = parsed.verb else {
            panic!("a worker")
        };
        assert_eq!(args.capabilities.unwrap(), ["harness.codex", "sandbox.docker"]);
        assert_eq!(args.uid_range, 300_000..=300_010);
        let serve = "swarm serve --bind 127.0.0.1:8080 --token POOL_SECRET";
        assert!(Swarm::try_parse_from(serve.split_whitespace()).is_ok());
        for bad in [
            "swarm worker --uid-range 0-5",
            "swarm worker --concurrency 0",
            "swarm serve --bind x",
        ] {
            assert!(Swarm::try_parse_from(bad.split_whitespace()).is_err(), "{bad}");
        }
    }
}
