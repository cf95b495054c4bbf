//! Why a stage or run failed.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)+) => {
        /// The stable failure codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum FailureCode {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl FailureCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As the API spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

codes! {
    /// The program ended with another code than 0.
    ExitNonzero = "exit_nonzero";
    /// It ran longer than its `timeout_sec`.
    Timeout = "timeout";
    /// A budget was spent.
    BudgetExceeded = "budget_exceeded";
    /// No worker that fits was online for the grace.
    NoCapableWorker = "no_capable_worker";
    /// The worker went away more often than attempts allow.
    WorkerLost = "worker_lost";
    /// The job's signature or address did not fit.
    JobInvalid = "job_invalid";
    /// The harness is not in scope.
    HarnessUnregistered = "harness_unregistered";
    /// The model is not in scope.
    ModelUnregistered = "model_unregistered";
    /// The credential is not in scope, or lacks the provider's key.
    CredentialMissing = "credential_missing";
    /// The sandbox block cannot be enforced.
    SandboxInvalid = "sandbox_invalid";
    /// Profile `none` is not allowed here.
    UnconfinedSandbox = "unconfined_sandbox";
    /// A limit of the sandbox was hit.
    SandboxLimit = "sandbox_limit";
    /// A source could not be fetched.
    SourceFailed = "source_failed";
    /// A source is over its cap.
    SourceTooLarge = "source_too_large";
    /// The fan-out map is missing or malformed.
    FanoutInvalid = "fanout_invalid";
    /// The artifact that was to be written is not there.
    ArtifactMissing = "artifact_missing";
    /// The artifact does not parse.
    ArtifactInvalid = "artifact_invalid";
    /// The artifacts are over their cap.
    ArtifactTooLarge = "artifact_too_large";
    /// No valid record in the output.
    ParseFailed = "parse_failed";
    /// The agent itself failed.
    AgentFailed = "agent_failed";
    /// The receipt is forged or absent.
    ReceiptInvalid = "receipt_invalid";
    /// Pond's own fault.
    Internal = "internal";
}

/// A failure: code and a message that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code.
    pub code: FailureCode,
    /// What happened.
    pub message: String,
    /// Key of the stage, on a run's failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

impl Failure {
    /// A failure without a stage.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            stage: None,
        }
    }
}
