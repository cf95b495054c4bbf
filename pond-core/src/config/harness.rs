//! Harnesses: how to launch an agent program.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::name::entry_name;
use super::{EntryKind, Record};
use crate::body::Object;

/// No harness has this key: its address is that of another endpoint, so it could be neither shown nor deleted.
pub(super) const TAKEN_KEY: &str = "from-preset";
pub(super) const TAKEN: &str = "`from-preset` is the address of another endpoint";
const MAX_ARGS: usize = 64;
const MAX_ARG_BYTES: usize = 4 << 10;
const MAX_FILES: usize = 16;
const MAX_FILE_BYTES: usize = 128 << 10;

/// A file laid into the job's home folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HarnessFile {
    /// Relative path below home.
    pub path: String,
    /// Its template.
    pub content: String,
}

/// A harness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Harness {
    /// Its key.
    pub key: String,
    /// Its name for people.
    pub label: Option<String>,
    /// The capability that its worker must have.
    pub capability: String,
    /// Program and arguments, with placeholders.
    pub command_template: Vec<String>,
    /// Files for its home folder, with placeholders.
    pub files: Vec<HarnessFile>,
    /// The wire it speaks to its model.
    pub wire: Option<String>,
}

/// A placeholder of a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    /// `{{MODEL}}`, `{model}`: the provider's name of the model.
    Model,
    /// `{{PROMPT}}`, `{prompt}`: the prompt.
    Prompt,
    /// `{{BROKER_URL}}`: origin of the broker.
    BrokerUrl,
    /// `{{SECRET:NAME}}`.
    Secret(String),
    /// Something else in that form.
    Unknown(String),
}

/// The placeholders of a template, each with its place in the text. Only `{{NAME}}` and `{{NAME:arg}}` in capitals count,
/// and the two short forms.
pub fn placeholders(template: &str) -> Vec<(std::ops::Range<usize>, Placeholder)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = template[at..].find('{').map(|offset| at + offset) {
        match placeholder_at(&template[open..]) {
            Some((length, placeholder)) => {
                found.push((open..open + length, placeholder));
                at = open + length;
            }
            None => at = open + 1,
        }
    }
    found
}

fn placeholder_at(text: &str) -> Option<(usize, Placeholder)> {
    for (short, placeholder) in [("{model}", Placeholder::Model), ("{prompt}", Placeholder::Prompt)] {
        if text.starts_with(short) {
            return Some((short.len(), placeholder));
        }
    }
    let inner = text.strip_prefix("{{")?;
    let end = inner.find("}}")?;
    let inner = &inner[..end];
    let (name, argument) = inner
        .split_once(':')
        .map_or((inner, None), |(name, argument)| (name, Some(argument)));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
        return None;
    }
    let placeholder = match (name, argument) {
        ("MODEL", None) => Placeholder::Model,
        ("PROMPT", None) => Placeholder::Prompt,
        ("BROKER_URL", None) => Placeholder::BrokerUrl,
        ("SECRET", Some(secret)) if !secret.is_empty() => Placeholder::Secret(secret.to_owned()),
        _ => Placeholder::Unknown(inner.to_owned()),
    };
    Some((end + 4, placeholder))
}

impl Harness {
    /// All placeholders of its templates.
    pub fn placeholders(&self) -> BTreeSet<Placeholder> {
        let templates = self
            .command_template
            .iter()
            .chain(self.files.iter().map(|file| &file.content));
        templates
            .flat_map(|template| placeholders(template))
            .map(|(_, placeholder)| placeholder)
            .collect()
    }

    /// Whether it can run without a model: one that names none in its templates and speaks no wire.
    pub fn needs_model(&self) -> bool {
        self.wire.is_some() || self.placeholders().contains(&Placeholder::Model)
    }
}

impl Record for Harness {
    const KIND: EntryKind = EntryKind::Harness;

    fn name(&self) -> &str {
        &self.key
    }

    fn read(object: &mut Object<'_>) -> Option<Self> {
        let key = entry_name(object, "key");
        if key.as_deref() == Some(TAKEN_KEY) {
            object.fault("key", TAKEN);
        }
        let label = object.text("label").map(ToOwned::to_owned);
        let capability = capability(object);
        let command_template = command(object);
        let files = files(object);
        let wire = object.text("wire").map(ToOwned::to_owned);
        if wire
            .as_deref()
            .is_some_and(|wire| !["anthropic", "responses", "chat", "gemini"].contains(&wire))
        {
            object.fault("wire", "expected one of anthropic, responses, chat, gemini");
        }
        let key = key?;
        let capability = capability.unwrap_or_else(|| format!("harness.{key}"));
        Some(Self {
            key,
            label,
            capability,
            command_template: command_template?,
            files: files?,
            wire,
        })
    }
}

/// An optional capability: `[a-z0-9][a-z0-9._-]{0,127}`.
pub(super) fn capability(object: &mut Object<'_>) -> Option<String> {
    let text = object.text("capability")?;
    let fits = (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'));
    if !fits {
        object.fault("capability", "expected 1 to 128 of A-Z a-z 0-9 . _ : -");
        return None;
    }
    Some(text.to_owned())
}

fn command(object: &mut Object<'_>) -> Option<Vec<String>> {
    object.required("command_template")?;
    let argv = object.text_list("command_template")?;
    if argv.is_empty() || argv.len() > MAX_ARGS {
        object.fault("command_template", format!("expected 1 to {MAX_ARGS} arguments"));
        return None;
    }
    for (index, argument) in argv.iter().enumerate() {
        let fault = if argument.len() > MAX_ARG_BYTES {
            Some(format!("longer than {MAX_ARG_BYTES} bytes"))
        } else if argument.contains('\0') {
            Some("holds a NUL character".into())
        } else {
            placeholders(argument)
                .into_iter()
                .find_map(|(_, placeholder)| match placeholder {
                    Placeholder::Secret(_) => Some(
                        "a secret in the arguments could be read by every user of the host; put it in a file".into(),
                    ),
                    Placeholder::Unknown(name) => Some(unknown(&name)),
                    _ => None,
                })
        };
        if let Some(fault) = fault {
            object
                .faults()
                .add(format!("{}/{index}", object.pointer("command_template")), fault);
        }
    }
    Some(argv.into_iter().map(ToOwned::to_owned).collect())
}

fn unknown(name: &str) -> String {
    format!("{{{{{name}}}}} is no placeholder; known are MODEL, PROMPT, BROKER_URL and, in files, SECRET:NAME")
}

fn files(object: &mut Object<'_>) -> Option<Vec<HarnessFile>> {
    let Some(items) = object.array("files") else {
        return Some(Vec::new());
    };
    if items.len() > MAX_FILES {
        object.fault("files", format!("more than {MAX_FILES} files"));
        return None;
    }
    let mut files: Vec<HarnessFile> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let mut item = Object::read(item, format!("{}/{index}", object.pointer("files")), object.faults())?;
        let path = item.required_text("path");
        let content = item.required_text("content");
        if let Some(fault) = path.and_then(|path| path_fault(path, &files)) {
            item.fault("path", fault);
        }
        if let Some(fault) = content.and_then(content_fault) {
            item.fault("content", fault);
        }
        item.close();
        files.push(HarnessFile {
            path: path?.to_owned(),
            content: content?.to_owned(),
        });
    }
    Some(files)
}

fn path_fault(path: &str, before: &[HarnessFile]) -> Option<&'static str> {
    let bad_part = |part: &str| part.is_empty() || part == "." || part == ".." || part.starts_with('~');
    if path.len() > 512 || path.contains(['\0', '\\']) || path.split('/').any(bad_part) {
        Some("expected a relative path without . .. ~ \\ or NUL")
    } else if before.iter().any(|file| file.path == path) {
        Some("this path is there twice")
    } else {
        None
    }
}

fn content_fault(content: &str) -> Option<String> {
    if content.len() > MAX_FILE_BYTES {
        return Some(format!("longer than {MAX_FILE_BYTES} bytes"));
    }
    placeholders(content)
        .into_iter()
        .find_map(|(_, placeholder)| match placeholder {
            Placeholder::Unknown(name) => Some(unknown(&name)),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::body::Faults;

    fn pointers(body: &serde_json::Value) -> Vec<String> {
        let faults = Faults::new();
        let mut object = Object::read(body, "", &faults).unwrap();
        Harness::read(&mut object);
        object.close();
        faults.take().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn c17_45_paths_that_leave_home_and_secrets_in_argv_are_faults() {
        for path in ["/x", "~/x", "a/../../x", "a\0", "a\\b", "", "a//b", ".."] {
            let body = json!({"key": "k", "command_template": ["x"], "files": [{"path": path, "content": ""}]});
            assert_eq!(pointers(&body), ["/files/0/path"], "{path:?}");
        }
        let twice = json!({"path": ".x/y", "content": "{{SECRET:A}}"});
        let body = json!({"key": "k", "command_template": ["x", "{{SECRET:X}}", "{{NOPE}}"], "files": [twice, twice]});
        assert_eq!(
            pointers(&body),
            ["/command_template/1", "/command_template/2", "/files/1/path"]
        );
    }

    #[test]
    fn only_capitals_in_double_braces_and_the_short_forms_count() {
        let found: Vec<Placeholder> =
            placeholders("{model} {{MODEL}} {{ x }} {{a}} ${HOME} {{SECRET:A_B}} {{{PROMPT}}} {{X:y}}")
                .into_iter()
                .map(|(_, placeholder)| placeholder)
                .collect();
        use Placeholder::{Model, Prompt, Secret, Unknown};
        assert_eq!(
            found,
            [Model, Model, Secret("A_B".into()), Prompt, Unknown("X:y".into())]
        );
    }
}
