//! Models, as the API shows them. Prices are numbers again, made from their exact decimals.

use pond_core::config::{Model, Stored};
use pond_core::usage::Price;
use pond_sdk::api;
use serde_json::Number;

use super::{Shown, scope};

impl Shown for api::Model {
    type Record = Model;
    type Put = api::PutModel;
    type List = api::ModelList;
    const ABOUT: [&'static str; 4] = [
        "Lists models",
        "Shows a model",
        "Deletes a model",
        "Creates or replaces a model",
    ];

    fn shown(stored: Stored<Model>) -> Self {
        let (scope, project_id) = scope(stored.owner);
        let Model {
            key,
            label,
            provider,
            model_id,
            credential_name,
            capability,
            prices,
        } = stored.record;
        Self {
            key,
            label,
            provider,
            model_id,
            credential_name,
            capability,
            input_cost_per_mtok: prices.input.and_then(number),
            output_cost_per_mtok: prices.output.and_then(number),
            cache_read_cost_per_mtok: prices.cache_read.and_then(number),
            cache_write_cost_per_mtok: prices.cache_write.and_then(number),
            scope,
            project_id,
            updated_at: stored.updated_at.to_string(),
        }
    }

    fn page(models: Vec<Self>, next_cursor: Option<String>) -> api::ModelList {
        api::ModelList { models, next_cursor }
    }
}

fn number(price: Price) -> Option<Number> {
    serde_json::from_str(&price.to_decimal()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_price_comes_back_as_the_number_that_was_sent(micro in 0i64..=100_000_000_000) {
            let shown = number(Price(micro)).unwrap();
            prop_assert_eq!(Price::parse(&shown.to_string()), Ok(Price(micro)));
        }
    }
}
