//! Prompts with placeholders: `{{NAME}}` and `{{NAME:argument}}` in capitals, nothing else. One pass: inserted text is never
//! looked at again. A backslash before a placeholder makes it plain text, and goes.

use serde_json::Value;

use crate::artifacts::ArtifactName;

/// Longest argument; what is longer is no placeholder.
const MAX_ARGUMENT: usize = 256;

/// What a template asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insert {
    /// `{{AREA_TITLE}}`: the title of the job's area.
    AreaTitle,
    /// `{{GLOBS}}`: the globs of the area, a space between them.
    Globs,
    /// `{{WHY}}`: why the area is one.
    Why,
    /// `{{ARTIFACT:name}}`: the text of an artifact.
    Artifact(ArtifactName),
    /// `{{INPUT:a.b.0}}`: a value of the run's context.
    Input(Vec<String>),
    /// No placeholder of the language: its inner text.
    Unknown(String),
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'t> {
    /// Text as it stands.
    Text(&'t str),
    /// What is to be inserted.
    Insert(Insert),
}

/// The parts of a template, in order.
pub fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = template[at..].find("{{").map(|offset| at + offset) {
        let Some((length, insert)) = insert_at(&template[open..]) else {
            at = open + 1;
            continue;
        };
        let literal = template[from..open].ends_with('\\');
        let end = if literal { open - 1 } else { open };
        if end > from {
            parts.push(Part::Text(&template[from..end]));
        }
        if !literal {
            parts.push(Part::Insert(insert));
        }
        at = open + length;
        from = if literal { open } else { at };
    }
    if from < template.len() {
        parts.push(Part::Text(&template[from..]));
    }
    parts
}

/// What a template asks for, in order.
pub fn inserts(template: &str) -> Vec<Insert> {
    let asked = parts(template).into_iter().filter_map(|part| match part {
        Part::Insert(insert) => Some(insert),
        Part::Text(_) => None,
    });
    asked.collect()
}

/// Fills a template; `fill` gives each text.
///
/// # Errors
/// The first that `fill` gives.
pub fn render<E>(template: &str, mut fill: impl FnMut(&Insert) -> Result<String, E>) -> Result<String, E> {
    let mut text = String::with_capacity(template.len());
    for part in parts(template) {
        match part {
            Part::Text(plain) => text.push_str(plain),
            Part::Insert(insert) => text.push_str(&fill(&insert)?),
        }
    }
    Ok(text)
}

/// The placeholder that a text starts with, and its length.
fn insert_at(text: &str) -> Option<(usize, Insert)> {
    let inner = text.strip_prefix("{{")?;
    let name_end = inner.find(|c: char| !(c.is_ascii_uppercase() || c == '_'))?;
    let (name, rest) = inner.split_at(name_end);
    if name.is_empty() {
        return None;
    }
    let (argument, rest) = match rest.strip_prefix(':') {
        None => (None, rest),
        Some(rest) => {
            let end = rest.find(['{', '}', '\n']).filter(|end| *end <= MAX_ARGUMENT)?;
            (Some(&rest[..end]), &rest[end..])
        }
    };
    let after = rest.strip_prefix("}}")?;
    let insert = match (name, argument) {
        ("AREA_TITLE", None) => Some(Insert::AreaTitle),
        ("GLOBS", None) => Some(Insert::Globs),
        ("WHY", None) => Some(Insert::Why),
        ("ARTIFACT", Some(name)) => ArtifactName::new(name).ok().map(Insert::Artifact),
        ("INPUT", Some(path)) => input(path),
        _ => None,
    };
    let unknown = || Insert::Unknown(inner[..inner.len() - rest.len()].to_owned());
    Some((text.len() - after.len(), insert.unwrap_or_else(unknown)))
}

fn input(path: &str) -> Option<Insert> {
    let parts: Vec<String> = path.split('.').map(ToOwned::to_owned).collect();
    let fits = parts.iter().all(|part| !part.is_empty());
    fits.then_some(Insert::Input(parts))
}

/// The value at a path: names of fields, and numbers of items.
pub fn at_path<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Object(fields) => fields.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A value as a prompt shows it: a text as it is, anything else as compact JSON.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        let context = json!({"secret": "s", "a": {"b": ["x", {"n": 1}]}});
        render(template, |insert| match insert {
            Insert::AreaTitle => Ok("title".into()),
            Insert::Globs => Ok("*.rs *.md".into()),
            Insert::Why => Ok("{{WHY}}".into()),
            Insert::Artifact(name) => Ok(format!("<{name}: {{{{INPUT:secret}}}}>")),
            Insert::Input(path) => at_path(&context, path).map(shown).ok_or_else(|| path.join(".")),
            Insert::Unknown(name) => Err(name.clone()),
        })
    }

    #[test]
    fn c17_28_inserted_text_stays_as_it_is_and_a_backslash_keeps_a_placeholder() {
        let table = [
            ("see {{ARTIFACT:notes.md}}!", Ok("see <notes.md: {{INPUT:secret}}>!")),
            ("{{NOPE}}", Err("NOPE")),
            ("{{NOPE:x y}}", Err("NOPE:x y")),
            ("{{ARTIFACT:../x}}", Err("ARTIFACT:../x")),
            ("{{INPUT}}", Err("INPUT")),
            ("{{INPUT:a..b}}", Err("INPUT:a..b")),
            ("{{WHY:x}}", Err("WHY:x")),
            (r"\{{NOPE}} \{{WHY}}", Ok("{{NOPE}} {{WHY}}")),
            (r"\\{{WHY}}", Ok(r"\{{WHY}}")),
            (r"\{{not one}}", Ok(r"\{{not one}}")),
            ("{{WHY}}{{AREA_TITLE}} {{GLOBS}}", Ok("{{WHY}}title *.rs *.md")),
            (
                "{{INPUT:a.b.0}} {{INPUT:a.b.1}} {{INPUT:a.b}}",
                Ok(r#"x {"n":1} ["x",{"n":1}]"#),
            ),
            ("{{INPUT:a.c}}", Err("a.c")),
            (
                "{{why}} {{ WHY }} {{{WHY}}} {{}} {WHY} ${{x",
                Ok("{{why}} {{ WHY }} {{{WHY}}} {{}} {WHY} ${{x"),
            ),
            ("{{INPUT:a\n}}", Ok("{{INPUT:a\n}}")),
        ];
        for (template, expected) in table {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(rendered(template), expected, "{template}");
        }
    }

    proptest! {
        /// Any text has parts, which are the text but for the backslashes.
        #[test]
        fn any_text_has_parts(text in r"[{}\\A-Z:a. ]{0,60}") {
            let plain: usize = parts(&text).iter().map(|part| match part {
                Part::Text(text) => text.len(),
                Part::Insert(_) => 0,
            }).sum();
            prop_assert!(plain <= text.len());
            prop_assert_eq!(inserts(&text).is_empty(), !parts(&text).iter().any(|part| matches!(part, Part::Insert(_))));
        }
    }
}
