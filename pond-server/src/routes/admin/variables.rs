//! Variables, as the API shows them.

use pond_core::config::{Stored, Variable};
use pond_sdk::api;

use super::{Shown, scope};

impl Shown for api::Variable {
    type Record = Variable;
    type Put = api::PutVariable;
    type List = api::VariableList;
    const ABOUT: [&'static str; 4] = [
        "Lists variables",
        "Shows a variable",
        "Deletes a variable",
        "Creates or replaces a variable",
    ];

    fn shown(stored: Stored<Variable>) -> Self {
        let (scope, project_id) = scope(stored.owner);
        let Variable { name, value } = stored.record;
        Self {
            name,
            value,
            scope,
            project_id,
            updated_at: stored.updated_at.to_string(),
        }
    }

    fn page(variables: Vec<Self>, next_cursor: Option<String>) -> api::VariableList {
        api::VariableList { variables, next_cursor }
    }
}
