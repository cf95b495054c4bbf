//! Tokens by which a bundle is had: each is good for one claim of one job, and nothing is kept of it.
//!
//! A token names its job and holds a MAC over the job and the hash of the claim. Whoever shows it shows a live claim too; it is
//! either of that claim, of another one of the same job, or of none.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::JobId;
use crate::secret::{Secret, SecretBytes};

const PREFIX: &str = "pond_bt_";

/// What a token is to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is the claim's.
    Good,
    /// It is of another claim on the same job.
    OfAnother,
    /// It is none of this job's.
    Unknown,
}

/// The token of a claim.
pub(super) fn make(key: &SecretBytes, job: JobId, claim: [u8; 32]) -> Secret {
    let mac = mac(key, job, claim).finalize().into_bytes();
    Secret::new(format!("{PREFIX}{}{}", hex::encode(job.as_bytes()), hex::encode(mac)))
}

/// The job that a token names; what it proves is another question.
pub fn job_of_bundle_token(token: &Secret) -> Option<JobId> {
    let text = token.expose().strip_prefix(PREFIX)?.get(..32)?;
    uuid::Uuid::try_parse(text).ok().map(JobId::from)
}

/// Judges a token shown with a live claim.
pub(super) fn judge(key: &SecretBytes, token: &Secret, job: JobId, claim: [u8; 32]) -> Judged {
    let parts = token
        .expose()
        .strip_prefix(PREFIX)
        .and_then(|text| text.split_at_checked(32));
    let Some((_, sent)) = parts.filter(|(named, _)| *named == hex::encode(job.as_bytes())) else {
        return Judged::Unknown;
    };
    let sent = hex::decode(sent).unwrap_or_default();
    match mac(key, job, claim).verify_slice(&sent) {
        Ok(()) => Judged::Good,
        Err(_) => Judged::OfAnother,
    }
}

fn mac(key: &SecretBytes, job: JobId, claim: [u8; 32]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.chain_update(job.as_bytes()).chain_update(claim)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn c17_108_a_token_is_good_for_one_claim() {
        let key = SecretBytes::new(vec![1; 32]);
        let (job, other): (JobId, JobId) = (Uuid::from_u128(1).into(), Uuid::from_u128(2).into());
        let token = make(&key, job, [1; 32]);
        assert_eq!(judge(&key, &token, job, [1; 32]), Judged::Good);
        assert_eq!(judge(&key, &token, job, [2; 32]), Judged::OfAnother);
        assert_eq!(judge(&key, &token, other, [1; 32]), Judged::Unknown);
        assert_eq!(
            judge(&SecretBytes::new(vec![2; 32]), &token, job, [1; 32]),
            Judged::OfAnother
        );
        for bad in ["", "pond_bt_", "pond_bt_é", "x"] {
            assert_eq!(judge(&key, &Secret::new(bad), job, [1; 32]), Judged::Unknown);
        }
    }
}
