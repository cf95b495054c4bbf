//! Reading a closed JSON object: every fault is gathered with its pointer, none stops the reading.

use serde_json::{Map, Value};

use crate::error::Fault;

/// One closed object under reading.
pub(super) struct Fields<'a> {
    pointer: String,
    object: &'a Map<String, Value>,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Opens an object; its fields must be among `known`.
    pub(super) fn open(value: &'a Value, pointer: String, known: &[&str], faults: &'a mut Vec<Fault>) -> Option<Self> {
        let Some(object) = value.as_object() else {
            faults.push(Fault::new(pointer, "must be an object"));
            return None;
        };
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            let field = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
            faults.push(Fault::new(
                field,
                format!("unknown field; known are {}", known.join(", ")),
            ));
        }
        Some(Self {
            pointer,
            object,
            faults,
        })
    }

    /// A fault at one of the fields.
    pub(super) fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.faults
            .push(Fault::new(format!("{}/{name}", self.pointer), message));
    }

    /// A text that may be left out or null.
    pub(super) fn optional(&mut self, name: &str) -> Option<&'a str> {
        match self.object.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.fault(name, "must be a string");
                None
            }
        }
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, name: &str) -> Option<&'a str> {
        if matches!(self.object.get(name), None | Some(Value::Null)) {
            self.fault(name, "is required");
            return None;
        }
        self.optional(name)
    }

    /// A text that must be there and be understood.
    pub(super) fn read<T, E: ToString>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text(name)?;
        read(text).map_err(|error| self.fault(name, error.to_string())).ok()
    }

    /// A text that may be left out, but must be understood when it is there.
    pub(super) fn read_optional<T, E: ToString>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.optional(name)?;
        read(text).map_err(|error| self.fault(name, error.to_string())).ok()
    }

    /// Any value that must be there.
    pub(super) fn value(&mut self, name: &str) -> Option<&'a Value> {
        let value = self.object.get(name);
        if value.is_none() {
            self.fault(name, "is required");
        }
        value
    }

    /// The list of faults, for a nested object.
    pub(super) fn faults(&mut self) -> &mut Vec<Fault> {
        self.faults
    }
}
