//! Variables: environment that is no secret.

use serde::{Deserialize, Serialize};

use super::name::{env_name_fault, env_value_fault};
use super::{EntryKind, Record};
use crate::body::Object;

/// A variable that stages see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its environment name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Record for Variable {
    const KIND: EntryKind = EntryKind::Variable;

    fn name(&self) -> &str {
        &self.name
    }

    fn read(object: &mut Object<'_>) -> Option<Self> {
        let name = object.required_text("name").filter(|name| {
            let fault = env_name_fault(name);
            if let Some(fault) = fault {
                object.fault("name", fault);
            }
            fault.is_none()
        });
        let value = object.required_text("value").filter(|value| {
            let fault = env_value_fault(value);
            if let Some(fault) = fault {
                object.fault("value", fault);
            }
            fault.is_none()
        });
        Some(Self {
            name: name?.to_owned(),
            value: value?.to_owned(),
        })
    }
}
