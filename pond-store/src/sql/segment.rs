//! Event batches as stored: one segment each, JSON, compressed where that pays.
//!
//! The first byte says how, in its lowest bit: 0 plain, 1 zstd; and which kinds of events are within, in those above, so that
//! a reader of one kind need not unpack the others. Numbers are not within: the first event has the segment's first number.

use pond_core::event::{Event, EventKind};

/// Smaller ones stay plain: they fit a page as they are, and compressing costs more than it saves.
const COMPRESS_FROM: usize = 1024;
const LEVEL: i32 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// What a segment may unpack to; far above what any batch of events holds, so only nonsense is beyond.
const UNPACKED: usize = 256 << 20;

/// The bit that says how.
const HOW: u8 = 1;

/// All bits that mean something.
const MAX_HEAD: u8 = 63;

/// The bit of a kind in a segment's first byte.
fn head_of(kind: EventKind) -> u8 {
    match kind {
        EventKind::Log => 2,
        EventKind::Status => 4,
        EventKind::Usage => 8,
        EventKind::Egress => 16,
        EventKind::Reach => 32,
    }
}

/// All first bytes of segments that hold events of this kind.
pub(crate) fn heads_with(kind: EventKind) -> Vec<u8> {
    (0..=MAX_HEAD).filter(|head| head & head_of(kind) != 0).collect()
}

/// Packs events; none for none.
pub(crate) fn pack(events: &[Event]) -> Option<Vec<u8>> {
    if events.is_empty() {
        return None;
    }
    let kinds = events.iter().fold(0, |kinds, event| kinds | head_of(event.body.kind()));
    let mut body = Vec::with_capacity(events.len() * 128 + 1);
    body.push(kinds | PLAIN);
    serde_json::to_writer(&mut body, events).expect("events are plain fields and a vector takes all bytes");
    if body.len() < COMPRESS_FROM {
        return Some(body);
    }
    match zstd::bulk::compress(&body[1..], LEVEL) {
        Ok(small) if small.len() < body.len() => {
            let mut packed = Vec::with_capacity(small.len() + 1);
            packed.push(kinds | ZSTD);
            packed.extend(small);
            Some(packed)
        }
        _ => Some(body),
    }
}

/// Unpacks a segment; none when it makes no sense.
pub(crate) fn unpack(body: &[u8]) -> Option<Vec<Event>> {
    let (how, rest) = body.split_first()?;
    if *how > MAX_HEAD {
        return None;
    }
    match *how & HOW {
        PLAIN => serde_json::from_slice(rest).ok(),
        ZSTD => {
            let size = zstd::zstd_safe::get_frame_content_size(rest).ok().flatten()?;
            let size = usize::try_from(size).ok().filter(|size| *size <= UNPACKED)?;
            serde_json::from_slice(&zstd::bulk::decompress(rest, size).ok()?).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pond_core::clock::Timestamp;
    use pond_core::event::EventBody;
    use pond_core::logs::{LogLine, LogSource};

    use super::*;

    fn lines(count: usize) -> Vec<Event> {
        let line = |number| Event {
            at: Timestamp::from_micros(number),
            body: EventBody::Log(LogLine::system(
                LogSource::Agent,
                Some("build"),
                format!("ä\0 line {number}"),
            )),
        };
        (0..count as i64).map(line).collect()
    }

    #[test]
    fn what_is_packed_unpacks_and_large_batches_shrink() {
        assert_eq!(pack(&[]), None);
        for count in [1, 3, 5000] {
            let events = lines(count);
            let body = pack(&events).unwrap();
            assert_eq!(unpack(&body), Some(events));
            assert_eq!(body[0], head_of(EventKind::Log) | u8::from(count > 3), "{count}");
            assert!(heads_with(EventKind::Log).contains(&body[0]) && !heads_with(EventKind::Status).contains(&body[0]));
        }
        let large = lines(5000);
        assert!(pack(&large).unwrap().len() * 5 < serde_json::to_vec(&large).unwrap().len());
    }

    #[test]
    fn nonsense_does_not_unpack() {
        for body in [&b""[..], b"\0", b"\0{}", b"\x01", b"\x01abc", b"\x40[]"] {
            assert_eq!(unpack(body), None, "{body:?}");
        }
        let mut cut = pack(&lines(5000)).unwrap();
        cut.truncate(cut.len() / 2);
        assert_eq!(unpack(&cut), None);
    }
}
