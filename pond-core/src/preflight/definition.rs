//! `definition_invalid`: the workflow language's own faults.

use super::{Problem, Severity};
use crate::error::Fault;

/// A problem for each fault.
pub(crate) fn problems(faults: &[Fault]) -> Vec<Problem> {
    let problem = |fault: &Fault| Problem {
        stage: None,
        severity: Severity::Error,
        code: "definition_invalid",
        message: format!("{} {}", fault.pointer, fault.message),
        fix: format!("Change {} of the request.", fault.pointer),
        pointer: Some(fault.pointer.clone()),
        estimate: None,
    };
    faults.iter().map(problem).collect()
}
