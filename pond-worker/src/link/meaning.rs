//! What a peer's refusal of a call about a job means to the worker.

use std::time::Duration;

use pond_core::{Conflict, Denial, Error};

use super::peer::{PeerError, Refusal};

/// How long to wait when a peer is busy and does not say.
const BUSY: Duration = Duration::from_secs(1);

/// The meaning of an error; `cap` is what the call was limited to, in bytes.
pub(super) fn meaning(error: PeerError, cap: u64) -> Error {
    match error {
        PeerError::Refused(refusal) => refused(refusal, cap),
        error @ PeerError::Unreachable(_) => Error::Unavailable("the orchestrator", Some(Box::new(error))),
        error @ PeerError::Malformed(_) => Error::Internal("the orchestrator".into(), Some(Box::new(error))),
    }
}

fn refused(refusal: Refusal, cap: u64) -> Error {
    let Refusal {
        status,
        code,
        detail,
        retry_after,
        expected,
    } = refusal;
    let conflict = |kind| Error::conflict(kind, detail.clone());
    match code.as_str() {
        "stale_claim" => return conflict(Conflict::StaleClaim),
        "already_terminal" => return conflict(Conflict::AlreadyTerminal),
        "not_terminal" => return conflict(Conflict::NotTerminal),
        "chunk_gap" => {
            return conflict(Conflict::ChunkGap {
                expected: expected.unwrap_or_default(),
            });
        }
        "resync" => return conflict(Conflict::Resync),
        "fingerprint_mismatch" => return conflict(Conflict::FingerprintMismatch),
        "worker_not_pinned" => return conflict(Conflict::WorkerNotPinned),
        "token_used" => return conflict(Conflict::TokenUsed),
        "code_invalid" => return Error::Forbidden(Denial::CodeInvalid),
        "proof_invalid" => return Error::Forbidden(Denial::ProofInvalid),
        "claim_required" => return Error::Forbidden(Denial::ClaimRequired),
        "foreign_worker" => return Error::Forbidden(Denial::ForeignWorker),
        "digest_mismatch" => return Error::DigestMismatch,
        "in_use" => return conflict(Conflict::InUse),
        "taken" => return conflict(Conflict::Taken),
        "not_found" => return Error::NotFound("job"),
        "body_too_large" => return Error::TooLarge(cap),
        "expired" => return Error::Expired("the job"),
        "invalid" => return Error::invalid("", detail),
        "internal" => return Error::internal(detail),
        _ => {}
    }
    match status {
        413 => Error::TooLarge(cap),
        429 => Error::Busy {
            message: detail,
            retry_after: retry_after.unwrap_or(BUSY),
        },
        // Whatever stands between may be on its way back.
        408 | 500..=599 => Error::Unavailable("the orchestrator", Some(detail.into())),
        _ => Error::internal(format!("refused with {status} {code}: {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str) -> Error {
        let refusal = Refusal {
            status,
            code: code.into(),
            detail: "told".into(),
            expected: Some(4),
            retry_after: Some(Duration::from_secs(7)),
        };
        meaning(PeerError::Refused(refusal), 9)
    }

    #[test]
    fn a_code_means_what_it_means_to_the_engine() {
        let conflicts = [
            ("stale_claim", Conflict::StaleClaim),
            ("already_terminal", Conflict::AlreadyTerminal),
            ("chunk_gap", Conflict::ChunkGap { expected: 4 }),
            ("worker_not_pinned", Conflict::WorkerNotPinned),
            ("token_used", Conflict::TokenUsed),
            ("in_use", Conflict::InUse),
        ];
        for (code, expected) in conflicts {
            assert!(
                matches!(of(409, code), Error::Conflict { kind, .. } if kind == expected),
                "{code}"
            );
        }
        assert!(matches!(of(404, "not_found"), Error::NotFound(_)));
        assert!(matches!(of(413, "body_too_large"), Error::TooLarge(9)));
        assert!(matches!(of(422, "digest_mismatch"), Error::DigestMismatch));
        assert!(matches!(of(429, "busy"), Error::Busy { retry_after, .. } if retry_after == Duration::from_secs(7)));
        for again in [502, 503, 504] {
            assert!(matches!(of(again, ""), Error::Unavailable(..)), "{again}");
        }
        for never in [(403, "other"), (409, "unheard_of"), (400, ""), (500, "internal")] {
            assert!(matches!(of(never.0, never.1), Error::Internal(..)), "{never:?}");
        }
    }
}
