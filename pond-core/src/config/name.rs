//! Rules for names and environment variables, shared by the kinds.

use crate::body::Object;

/// Longest value of a variable or secret.
pub(super) const MAX_VALUE_BYTES: usize = 8 << 10;
const RESERVED: [&str; 3] = ["HOME", "PATH", "BROKER_URL"];
const RESERVED_PREFIXES: [&str; 3] = ["LD_", "DYLD_", "POND_"];

/// A required name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
pub(super) fn entry_name(object: &mut Object<'_>, field: &'static str) -> Option<String> {
    let name = object.required_text(field)?;
    if !is_name(name) {
        object.fault(
            field,
            "expected 1 to 64 of A-Z a-z 0-9 . _ -, starting with a letter or digit",
        );
        return None;
    }
    Some(name.to_owned())
}

pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What is wrong with an environment name, if anything.
pub(crate) fn env_name_fault(name: &str) -> Option<&'static str> {
    let fits = name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !fits {
        return Some("expected an environment name: 1 to 128 of A-Z a-z 0-9 _, not starting with a digit");
    }
    let reserved = RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    reserved.then_some("HOME, PATH, BROKER_URL and names starting with LD_, DYLD_ or POND_ are Pond's own")
}

/// What is wrong with an environment value, if anything. Does not tell the value.
pub(crate) fn env_value_fault(value: &str) -> Option<&'static str> {
    if value.len() > MAX_VALUE_BYTES {
        Some("longer than 8192 bytes")
    } else if value.contains('\0') {
        Some("holds a NUL character")
    } else {
        None
    }
}
