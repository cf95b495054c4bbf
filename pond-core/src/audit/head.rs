//! Signed heads: how far the chain reached at a time, told so that nobody without the key could have said it.

use std::fmt;

use super::AuditHead;
use super::chain::{is_mac, mac};
use crate::clock::Timestamp;
use crate::secret::SecretBytes;

const PURPOSE: &[u8] = b"pond/v1/audit/head";

/// A head of the chain, signed.
///
/// Printed as `<id>.<microseconds>.<hash>.<mac>`, in decimal and lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedHead {
    /// The head.
    pub head: AuditHead,
    /// When it was the head.
    pub at: Timestamp,
    /// HMAC-SHA256 of both.
    pub mac: [u8; 32],
}

impl SignedHead {
    pub(super) fn sign(key: &SecretBytes, head: AuditHead, at: Timestamp) -> Self {
        let mac = mac(key, PURPOSE, &said(head, at));
        Self { head, at, mac }
    }

    pub(super) fn is_by(&self, key: &SecretBytes) -> bool {
        is_mac(key, PURPOSE, &said(self.head, self.at), &self.mac)
    }

    /// Reads one as it is printed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let number = |part: &str| part.parse::<i64>().ok().filter(|number| *number >= 0);
        let id = number(parts.next()?)?;
        let at = Timestamp::from_micros(number(parts.next()?)?);
        let mut bytes = [[0; 32]; 2];
        for bytes in &mut bytes {
            hex::decode_to_slice(parts.next()?, bytes).ok()?;
        }
        let [hash, mac] = bytes;
        let head = AuditHead { id, hash };
        parts.next().is_none().then_some(Self { head, at, mac })
    }
}

impl fmt::Display for SignedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hash, mac) = (hex::encode(self.head.hash), hex::encode(self.mac));
        write!(f, "{}.{}.{hash}.{mac}", self.head.id, self.at.micros())
    }
}

fn said(head: AuditHead, at: Timestamp) -> Vec<u8> {
    let numbers = [head.id.to_be_bytes(), at.micros().to_be_bytes()].concat();
    [numbers.as_slice(), &head.hash].concat()
}
