//! Budgets: what a run, or one of its stages, may spend.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::body::Object;
use crate::usage::{Pico, Price, Slice, UsageTotals};

/// The most that may be spent; a limit that is absent does not bind. Attempts add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Money.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usd: Option<Pico>,
    /// Tokens of all four kinds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tokens: Option<u64>,
    /// Model calls.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls: Option<u64>,
    /// Time from the first start to the end, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wall_sec: Option<u64>,
}

/// The largest amount of each kind; far above any use, far below where sums would saturate.
const MAX_COUNT: u64 = 1_000_000_000_000;
const MAX_WALL_SEC: u64 = 366 * 86_400;

impl Budget {
    /// Whether nothing binds.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Whether model calls are bounded in any way.
    pub fn bounds_models(&self) -> bool {
        self.usd.is_some() || self.tokens.is_some() || self.calls.is_some()
    }

    /// The bounds on model calls.
    pub fn slice(&self) -> Slice {
        Slice {
            usd: self.usd,
            tokens: self.tokens,
            calls: self.calls,
        }
    }

    /// How long it may take.
    pub fn wall(&self) -> Option<Duration> {
        self.wall_sec.map(Duration::from_secs)
    }

    /// Of each limit the lower one.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        Self {
            usd: lower(self.usd, other.usd),
            tokens: lower(self.tokens, other.tokens),
            calls: lower(self.calls, other.calls),
            wall_sec: lower(self.wall_sec, other.wall_sec),
        }
    }

    /// What `spent` has crossed, as a failure's message tells it: the limit and the spend.
    pub fn crossed(&self, spent: &UsageTotals) -> Option<String> {
        if let Some(usd) = self.usd.filter(|usd| spent.cost > *usd) {
            return Some(format!("{} USD were spent of {usd} USD", spent.cost));
        }
        let tokens = spent.tokens.total();
        if let Some(limit) = self.tokens.filter(|limit| tokens > *limit) {
            return Some(format!("{tokens} tokens were used of {limit}"));
        }
        let calls = self.calls.filter(|limit| spent.calls > *limit)?;
        Some(format!("{} calls were made of {calls}", spent.calls))
    }

    /// What was spent of each limit, as a failure's message tells it where none was crossed; none when nothing binds.
    pub fn spent(&self, spent: &UsageTotals) -> Option<String> {
        let usd = self.usd.map(|usd| format!("{} of {usd} USD", spent.cost));
        let tokens = self
            .tokens
            .map(|limit| format!("{} tokens of {limit}", spent.tokens.total()));
        let calls = self.calls.map(|limit| format!("{} calls of {limit}", spent.calls));
        let told: Vec<String> = [usd, tokens, calls].into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// Reads the object `{usd?, tokens?, calls?, wall_sec?}`, each above 0.
    pub(crate) fn read(mut object: Object<'_>) -> Self {
        let budget = Self {
            usd: usd(&mut object),
            tokens: object.integer("tokens", 1..=MAX_COUNT),
            calls: object.integer("calls", 1..=MAX_COUNT),
            wall_sec: object.integer("wall_sec", 1..=MAX_WALL_SEC),
        };
        object.close();
        budget
    }
}

/// Dollars as a JSON number with at most six places, or as the decimal string that reads show.
fn usd(object: &mut Object<'_>) -> Option<Pico> {
    let value = object.optional("usd")?;
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    // A price in USD per million tokens is kept as micro-USD: the same decimal rules, another scale.
    let amount = Price::parse(&text).ok().filter(|price| price.0 > 0);
    if amount.is_none() {
        object.fault(
            "usd",
            "expected dollars above 0 and up to 100000, with at most 6 decimal places",
        );
    }
    amount.map(|price| Pico(price.0.saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::body::Faults;

    fn read(value: &Value) -> (Budget, Vec<String>) {
        let faults = Faults::new();
        let budget = Object::read(value, "/budget", &faults)
            .map(Budget::read)
            .unwrap_or_default();
        (budget, faults.take().into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn limits_are_read_exactly_and_above_zero() {
        let (budget, faults) = read(&json!({"usd": 0.25, "tokens": 10, "calls": 3, "wall_sec": 60}));
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(budget.usd.map(|usd| usd.to_string()).as_deref(), Some("0.25"));
        assert_eq!((budget.tokens, budget.calls), (Some(10), Some(3)));
        assert_eq!(budget.wall(), Some(Duration::from_secs(60)));
        assert_eq!(read(&json!({"usd": "1.5"})).0.usd, Some(Pico(1_500_000_000_000)));
        let zeros = json!({"usd": 0, "tokens": 0, "calls": -1, "wall_sec": 0.5, "eur": 1});
        let mut faults = read(&zeros).1;
        faults.sort();
        assert_eq!(
            faults,
            [
                "/budget/calls",
                "/budget/eur",
                "/budget/tokens",
                "/budget/usd",
                "/budget/wall_sec"
            ]
        );
    }

    #[test]
    fn the_tighter_of_two_budgets_has_the_lower_of_each_limit() {
        let budget = |tokens, calls| Budget {
            tokens,
            calls,
            ..Budget::default()
        };
        let both = budget(Some(5), None).tighter(budget(Some(3), Some(1)));
        assert_eq!(both, budget(Some(3), Some(1)));
        assert_eq!(both.tighter(Budget::default()), both);
    }

    #[test]
    fn a_limit_is_crossed_above_it_and_not_at_it() {
        let budget = Budget {
            calls: Some(2),
            usd: Some(Pico(5)),
            ..Budget::default()
        };
        let spent = |calls, cost| UsageTotals {
            calls,
            cost: Pico(cost),
            ..UsageTotals::default()
        };
        assert_eq!(budget.crossed(&spent(2, 5)), None);
        assert_eq!(budget.crossed(&spent(3, 5)).as_deref(), Some("3 calls were made of 2"));
        assert!(budget.crossed(&spent(1, 6)).is_some_and(|text| text.contains("USD")));
    }
}
