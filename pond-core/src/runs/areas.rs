//! The list of areas that a fan-out reads: a JSON array of `{title, globs, why}`, or an object that holds it as `areas`.

use serde::Deserialize;

/// Bytes that the list may have.
pub(crate) const MAX_MAP_BYTES: u64 = 1 << 20;

/// One area.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Area {
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) globs: Vec<String>,
    #[serde(default)]
    pub(crate) why: String,
}

/// The areas that are taken, and how many there were more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AreaMap {
    pub(crate) areas: Vec<Area>,
    pub(crate) dropped: usize,
}

#[derive(Deserialize)]
struct Wrapped {
    areas: Vec<Area>,
}

/// Reads a list and takes at most `max` of it. Fields that an area has beside its own are the author's business.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_areas(bytes: &[u8], max: usize) -> Result<AreaMap, String> {
    let wrapped = bytes.trim_ascii_start().first() == Some(&b'{');
    let read = if wrapped {
        serde_json::from_slice::<Wrapped>(bytes).map(|wrapped| wrapped.areas)
    } else {
        serde_json::from_slice(bytes)
    };
    let mut areas: Vec<Area> = read.map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        format!("expected a JSON array of {{title, globs, why}}, or {{\"areas\": […]}}; not so at {place}")
    })?;
    if let Some(index) = areas.iter().position(|area| area.title.trim().is_empty()) {
        return Err(format!("area {} has no title", index + 1));
    }
    let dropped = areas.len().saturating_sub(max);
    areas.truncate(max);
    Ok(AreaMap { areas, dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_27_both_forms_read_and_extra_areas_are_dropped() {
        let map = read_areas(
            br#"[{"title": "a", "globs": ["x/**"], "why": "w", "size": 3}, {"title": "b"}]"#,
            20,
        )
        .unwrap();
        assert_eq!((map.areas.len(), map.dropped, map.areas[0].globs.len()), (2, 0, 1));
        let wrapped = read_areas(br#" {"areas": [{"title": "a"}, {"title": "b"}, {"title": "c"}]}"#, 2).unwrap();
        assert_eq!((wrapped.areas.len(), wrapped.dropped), (2, 1));
        assert_eq!(read_areas(b"[]", 20).unwrap().areas.len(), 0);
    }

    #[test]
    fn c17_27_a_malformed_list_is_told() {
        for bad in [
            &b""[..],
            b"no",
            b"{}",
            b"5",
            b"{\"areas\": 5}",
            b"[1]",
            b"[{}]",
            b"[{\"title\": 1}]",
            b"[{\"title\": \" \"}]",
            b"[{\"title\": \"a\", \"globs\": \"x\"}]",
            b"[{\"title\": \"a\"}",
            b"\xff",
        ] {
            assert!(read_areas(bad, 20).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
