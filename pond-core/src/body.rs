//! Reads JSON bodies field by field: every fault is kept with its pointer, so that a caller learns of all of them at once.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::Fault;

/// Collects faults.
#[derive(Debug, Default)]
pub struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    /// No faults yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&self, pointer: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Fault::new(pointer, message));
    }

    /// Adds many.
    pub fn extend(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.borrow_mut().extend(faults);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// All of them, in the order they were found.
    pub fn take(self) -> Vec<Fault> {
        self.0.into_inner()
    }
}

/// A closed JSON object: fields are asked for by name, and [`Object::close`] faults those that nobody asked for.
#[derive(Debug)]
pub struct Object<'v> {
    fields: &'v Map<String, Value>,
    pointer: String,
    faults: &'v Faults,
    asked: BTreeSet<&'static str>,
}

impl<'v> Object<'v> {
    /// The object at `pointer`; anything else is a fault.
    pub fn read(value: &'v Value, pointer: impl Into<String>, faults: &'v Faults) -> Option<Self> {
        let pointer = pointer.into();
        match value {
            Value::Object(fields) => Some(Self {
                fields,
                pointer,
                faults,
                asked: BTreeSet::new(),
            }),
            _ => {
                faults.add(pointer, "expected an object");
                None
            }
        }
    }

    /// Pointer to a field of it.
    pub fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escape(name))
    }

    /// Pointer to the object itself.
    pub fn own_pointer(&self) -> &str {
        &self.pointer
    }

    /// Where faults go.
    pub fn faults(&self) -> &'v Faults {
        self.faults
    }

    /// Adds a fault at a field.
    pub fn fault(&self, name: &str, message: impl Into<String>) {
        self.faults.add(self.pointer(name), message);
    }

    /// A field, if it is there and not null.
    pub fn optional(&mut self, name: &'static str) -> Option<&'v Value> {
        self.asked.insert(name);
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub fn required(&mut self, name: &'static str) -> Option<&'v Value> {
        let value = self.optional(name);
        if value.is_none() {
            self.fault(name, "is required");
        }
        value
    }

    /// An optional text.
    pub fn text(&mut self, name: &'static str) -> Option<&'v str> {
        let value = self.optional(name)?;
        let text = value.as_str();
        if text.is_none() {
            self.fault(name, "expected a string");
        }
        text
    }

    /// A text that must be there.
    pub fn required_text(&mut self, name: &'static str) -> Option<&'v str> {
        self.required(name)?;
        self.text(name)
    }

    /// An optional whole number within bounds.
    pub fn integer(&mut self, name: &'static str, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.optional(name)?;
        let number = value.as_u64().filter(|number| bounds.contains(number));
        if number.is_none() {
            self.fault(
                name,
                format!("expected a whole number from {} to {}", bounds.start(), bounds.end()),
            );
        }
        number
    }

    /// An optional truth value.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.optional(name)?;
        let truth = value.as_bool();
        if truth.is_none() {
            self.fault(name, "expected true or false");
        }
        truth
    }

    /// An optional array.
    pub fn array(&mut self, name: &'static str) -> Option<&'v [Value]> {
        let value = self.optional(name)?;
        let array = value.as_array().map(Vec::as_slice);
        if array.is_none() {
            self.fault(name, "expected an array");
        }
        array
    }

    /// An optional object within, closed too.
    pub fn object(&mut self, name: &'static str) -> Option<Self> {
        let value = self.optional(name)?;
        Self::read(value, self.pointer(name), self.faults)
    }

    /// An optional map from names to texts.
    pub fn texts(&mut self, name: &'static str) -> Option<Vec<(&'v str, &'v str)>> {
        let value = self.optional(name)?;
        let Some(map) = value.as_object() else {
            self.fault(name, "expected an object of strings");
            return None;
        };
        let mut texts = Vec::with_capacity(map.len());
        for (key, value) in map {
            match value.as_str() {
                Some(text) => texts.push((key.as_str(), text)),
                None => self
                    .faults
                    .add(format!("{}/{}", self.pointer(name), escape(key)), "expected a string"),
            }
        }
        Some(texts)
    }

    /// An optional array of texts.
    pub fn text_list(&mut self, name: &'static str) -> Option<Vec<&'v str>> {
        let items = self.array(name)?;
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.as_str() {
                Some(text) => texts.push(text),
                None => self
                    .faults
                    .add(format!("{}/{index}", self.pointer(name)), "expected a string"),
            }
        }
        Some(texts)
    }

    /// Faults every field that was not asked for.
    pub fn close(self) {
        for name in self.fields.keys().filter(|name| !self.asked.contains(name.as_str())) {
            let known: Vec<&str> = self.asked.iter().copied().collect();
            self.faults.add(
                self.pointer(name),
                format!("is not a known field; known are {}", known.join(", ")),
            );
        }
    }
}

/// One reference token of a JSON pointer (RFC 6901 §3).
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_faults_are_told_with_their_place() {
        let faults = Faults::new();
        let value = json!({"name": 1, "size": 99, "odd/field": true, "tags": ["a", 2]});
        let mut object = Object::read(&value, "/x", &faults).unwrap();
        assert_eq!(object.required_text("name"), None);
        assert_eq!(object.required_text("gone"), None);
        assert_eq!(object.integer("size", 1..=10), None);
        assert_eq!(object.text_list("tags"), Some(vec!["a"]));
        object.close();
        let pointers: Vec<String> = faults.take().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(
            pointers,
            ["/x/name", "/x/gone", "/x/size", "/x/tags/1", "/x/odd~1field"]
        );
    }
}
