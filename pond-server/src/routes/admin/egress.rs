//! Egress rules, as the API shows them.

use pond_core::config::{EgressRule, Stored};
use pond_sdk::api;

use super::{Shown, scope};

impl Shown for api::EgressRule {
    type Record = EgressRule;
    type Put = api::PutEgressRule;
    type List = api::EgressRuleList;
    const ABOUT: [&'static str; 4] = [
        "Lists egress rules",
        "Shows an egress rule",
        "Deletes an egress rule",
        "Creates or replaces an egress rule",
    ];

    fn shown(stored: Stored<EgressRule>) -> Self {
        let (scope, project_id) = scope(stored.owner);
        let EgressRule { host, action, upgrade } = stored.record;
        Self {
            host: host.into(),
            action: action.as_str().into(),
            upgrade,
            scope,
            project_id,
            updated_at: stored.updated_at.to_string(),
        }
    }

    fn page(rules: Vec<Self>, next_cursor: Option<String>) -> api::EgressRuleList {
        api::EgressRuleList { rules, next_cursor }
    }
}
