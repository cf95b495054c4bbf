//! The chain: how a row is hashed, and how a whole chain is checked.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{AuditHead, AuditRow, Entry};
use crate::clock::Timestamp;
use crate::secret::SecretBytes;

/// What the first row follows.
pub(super) const START: AuditHead = AuditHead { id: 0, hash: [0; 32] };

/// Why a chain is not the one that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The row does not have its own hash: it was edited.
    Edited,
    /// The row does not follow the one before it: one was taken out, put in, or moved.
    Broken,
    /// The row's MAC was not made with this server's key: the chain was built anew.
    Forged,
    /// The signed head was not made with this server's key.
    HeadForged,
    /// The chain ends before the signed head, or has another row in its place.
    Cut,
}

impl Flaw {
    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Broken => "broken",
            Self::Forged => "forged",
            Self::HeadForged => "head_forged",
            Self::Cut => "cut",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The last good row.
    pub head: AuditHead,
    /// The first flaw, with the number of its row.
    pub flaw: Option<(i64, Flaw)>,
}

/// The rows that follow `head` in this order.
pub(super) fn link(key: &SecretBytes, head: AuditHead, at: Timestamp, entries: Vec<Entry>) -> Vec<AuditRow> {
    let mut head = head;
    let row = |entry| {
        let id = head.id + 1;
        let hash = hash(id, at, &entry, &head.hash);
        let row = AuditRow {
            id,
            at,
            entry,
            prev_hash: head.hash,
            hash,
            mac: mac(key, b"pond/v1/audit/row", &hash),
        };
        head = AuditHead { id, hash };
        row
    };
    entries.into_iter().map(row).collect()
}

/// A walk along a chain, piece by piece.
#[derive(Debug, Clone)]
pub struct Walk<'k> {
    key: &'k SecretBytes,
    checked: Checked,
    wanted: Option<AuditHead>,
    met: bool,
}

impl<'k> Walk<'k> {
    /// From the start. Past `wanted` the chain must lead.
    pub fn new(key: &'k SecretBytes, wanted: Option<AuditHead>) -> Self {
        Self {
            key,
            checked: Checked {
                head: START,
                flaw: None,
            },
            met: wanted.is_none_or(|wanted| wanted == START),
            wanted,
        }
    }

    /// The last good row.
    pub fn head(&self) -> AuditHead {
        self.checked.head
    }

    /// Goes on over the next rows; whether all of them are good.
    pub fn over(&mut self, rows: &[AuditRow]) -> bool {
        for row in rows {
            if let Some(flaw) = self.flaw(row) {
                self.checked.flaw = Some((row.id, flaw));
                return false;
            }
            self.checked.head = AuditHead {
                id: row.id,
                hash: row.hash,
            };
            self.met |= self.wanted == Some(self.checked.head);
        }
        true
    }

    fn flaw(&self, row: &AuditRow) -> Option<Flaw> {
        let head = self.checked.head;
        if row.id != head.id + 1 || row.prev_hash != head.hash {
            return Some(Flaw::Broken);
        }
        if row.hash != hash(row.id, row.at, &row.entry, &row.prev_hash) {
            return Some(Flaw::Edited);
        }
        (!is_mac(self.key, b"pond/v1/audit/row", &row.hash, &row.mac)).then_some(Flaw::Forged)
    }

    /// What was found, at the chain's end.
    pub fn end(self) -> Checked {
        let cut = self.wanted.filter(|_| !self.met).map(|wanted| (wanted.id, Flaw::Cut));
        Checked {
            flaw: self.checked.flaw.or(cut),
            ..self.checked
        }
    }
}

/// Each part with its length, so that no two rows read alike.
fn hash(id: i64, at: Timestamp, entry: &Entry, prev_hash: &[u8; 32]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"pond/v1/audit");
    digest.update(id.to_be_bytes());
    digest.update(at.micros().to_be_bytes());
    digest.update(prev_hash);
    let mut part = |bytes: &[u8]| {
        digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(bytes);
    };
    for text in [&entry.actor, &entry.action, &entry.target] {
        part(text.as_bytes());
    }
    part(entry.project.as_ref().map_or(&[][..], |project| project.as_bytes()));
    part(entry.request_id.as_deref().unwrap_or_default().as_bytes());
    for name in &entry.changed {
        part(name.as_bytes());
    }
    digest.finalize().into()
}

fn keyed(key: &SecretBytes, purpose: &[u8], parts: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    mac.update(purpose);
    mac.update(parts);
    mac
}

pub(super) fn mac(key: &SecretBytes, purpose: &[u8], parts: &[u8]) -> [u8; 32] {
    keyed(key, purpose, parts).finalize().into_bytes().into()
}

/// Compared in constant time.
pub(super) fn is_mac(key: &SecretBytes, purpose: &[u8], parts: &[u8], told: &[u8; 32]) -> bool {
    keyed(key, purpose, parts).verify_slice(told).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::SignedHead;

    fn key(byte: u8) -> SecretBytes {
        SecretBytes::new(vec![byte; 32])
    }

    fn entry(number: usize) -> Entry {
        Entry {
            actor: "service".into(),
            action: "variable.put".into(),
            target: format!("V{number}"),
            project: None,
            changed: vec!["name".into(), "value".into()],
            request_id: Some("r".into()),
        }
    }

    fn chain() -> Vec<AuditRow> {
        link(&key(1), START, Timestamp::from_micros(7), (0..5).map(entry).collect())
    }

    fn flaw(rows: &[AuditRow], wanted: Option<AuditHead>) -> Option<(i64, Flaw)> {
        let key = key(1);
        let mut walk = Walk::new(&key, wanted);
        walk.over(rows);
        walk.end().flaw
    }

    #[test]
    fn c17_49_any_edit_of_any_row_is_found() {
        assert_eq!(flaw(&chain(), None), None);
        type Edit = fn(&mut AuditRow);
        let edits: [Edit; 10] = [
            |row| row.at = Timestamp::from_micros(8),
            |row| row.entry.actor.push('x'),
            |row| row.entry.action = "variable.delete".into(),
            |row| row.entry.target = "V9".into(),
            |row| row.entry.project = Some(uuid::Uuid::nil().into()),
            |row| row.entry.changed = vec!["namevalue".into()],
            |row| row.entry.request_id = None,
            |row| row.hash[0] ^= 1,
            |row| row.prev_hash[31] ^= 1,
            |row| row.mac[3] ^= 1,
        ];
        for edit in edits {
            for place in 0..5 {
                let mut rows = chain();
                edit(&mut rows[place]);
                assert!(flaw(&rows, None).is_some(), "row {place}");
            }
        }
        for place in 0..4 {
            let mut rows = chain();
            rows.remove(place);
            assert_eq!(flaw(&rows, None).map(|found| found.1), Some(Flaw::Broken));
        }
        let mut rows = chain();
        rows.swap(1, 2);
        assert_eq!(flaw(&rows, None), Some((3, Flaw::Broken)));
    }

    #[test]
    fn c17_93_a_chain_built_anew_and_a_cut_tail_are_found() {
        let mut entries: Vec<Entry> = (0..5).map(entry).collect();
        entries[2].target = "other".into();
        let anew = link(&key(2), START, Timestamp::from_micros(7), entries);
        assert_eq!(flaw(&anew, None), Some((1, Flaw::Forged)));
        let rows = chain();
        let head = |row: &AuditRow| AuditHead {
            id: row.id,
            hash: row.hash,
        };
        for row in &rows {
            assert_eq!(flaw(&rows, Some(head(row))), None);
        }
        assert_eq!(flaw(&rows[..3], Some(head(&rows[4]))), Some((5, Flaw::Cut)));
        assert_eq!(flaw(&rows[..3], None), None, "what a signed head is for");
        assert_eq!(flaw(&[], Some(head(&rows[0]))), Some((1, Flaw::Cut)));
    }

    #[test]
    fn a_signed_head_is_of_its_key_and_reads_back() {
        let head = AuditHead { id: 3, hash: [9; 32] };
        let signed = SignedHead::sign(&key(1), head, Timestamp::from_micros(5));
        assert!(signed.is_by(&key(1)) && !signed.is_by(&key(2)));
        assert_eq!(SignedHead::parse(&signed.to_string()), Some(signed));
        let other = SignedHead {
            head: AuditHead { id: 2, ..head },
            ..signed
        };
        assert!(!other.is_by(&key(1)));
        for bad in ["", "3.5", "3.5.zz.00", "-1.5.00.00", &format!("{signed}.0")] {
            assert_eq!(SignedHead::parse(bad), None, "{bad}");
        }
    }
}
