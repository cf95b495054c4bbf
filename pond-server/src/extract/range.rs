//! The `Range` header: one range of bytes (RFC 9110 §14.2).

use std::ops::Range;

use crate::error::Refusal;

/// The one range that is asked for. What is no single range of bytes is passed over, as RFC 9110 §14.2 allows: then the whole
/// file is answered.
pub(crate) fn byte_range(range: &str, size: u64) -> Result<Option<Range<u64>>, Refusal> {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|one| one.split_once('-')) else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let found = match (from.trim(), to.trim()) {
        ("", last) => match number(last) {
            Some(last) => size.saturating_sub(last)..size,
            None => return Ok(None),
        },
        (from, "") => match number(from) {
            Some(from) => from..size,
            None => return Ok(None),
        },
        (from, to) => match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => from..size.min(to.saturating_add(1)),
            _ => return Ok(None),
        },
    };
    if found.is_empty() {
        Err(Refusal::Range(size))
    } else {
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_24_single_ranges_are_honoured_and_others_passed_over() {
        type Asked = Result<Option<Range<u64>>, u16>;
        let table: &[(&str, Asked)] = &[
            ("bytes=0-3", Ok(Some(0..4))),
            ("bytes=4-", Ok(Some(4..10))),
            ("bytes=-3", Ok(Some(7..10))),
            ("bytes=-30", Ok(Some(0..10))),
            ("bytes=8-99", Ok(Some(8..10))),
            ("bytes=8-18446744073709551615", Ok(Some(8..10))),
            ("bytes=10-", Err(416)),
            ("bytes=-0", Err(416)),
            ("bytes=4-3", Ok(None)),
            ("bytes=0-1,4-5", Ok(None)),
            ("lines=1-2", Ok(None)),
            ("bytes=x-", Ok(None)),
        ];
        for (range, expected) in table {
            let found = byte_range(range, 10).map_err(|refusal| refusal.row().0.as_u16());
            assert_eq!(found, *expected, "{range}");
        }
    }
}
