//! Money adds up exactly.

use pond_core::clock::Timestamp;
use pond_core::usage::{Price, Prices, Tokens, UsageEntry, UsageReport, UsageTotals};
use pond_worker::broker::ModelCall;

#[test]
fn c17_110_a_million_calls_at_odd_prices_sum_to_the_last_place() {
    let price = |price| Price::parse(price).ok();
    let models = [
        (
            "a",
            Prices {
                input: price("0.000001"),
                output: price("99999.999999"),
                cache_read: None,
                cache_write: None,
            },
        ),
        (
            "b",
            Prices {
                input: price("0.333333"),
                output: price("7.000007"),
                cache_read: price("0.1"),
                cache_write: None,
            },
        ),
        (
            "c",
            Prices {
                input: price("3.1"),
                output: price("15"),
                cache_read: price("0.31"),
                cache_write: price("3.875001"),
            },
        ),
    ];
    let mut entries = models.map(|(model, _)| UsageEntry {
        stage: "s".into(),
        substage: None,
        model: model.into(),
        totals: UsageTotals::default(),
    });
    // In micro-USD per million tokens, so that a token costs this many pico-USD: read by hand, not by the parser.
    let by_hand: [[i128; 4]; 3] = [
        [1, 99_999_999_999, 1, 1],
        [333_333, 7_000_007, 100_000, 333_333],
        [3_100_000, 15_000_000, 310_000, 3_875_001],
    ];
    let mut expected = 0i128;
    for number in 0..1_000_000u64 {
        let at = (number % 3) as usize;
        // One token in all, of a kind in turn.
        let kind = (number / 3 % 4) as usize;
        let mut counts = [0u64; 4];
        counts[kind] = 1;
        let tokens = Tokens {
            input: counts[0],
            output: counts[1],
            cache_read: counts[2],
            cache_write: counts[3],
        };
        let call = ModelCall {
            id: uuid::Uuid::nil(),
            ts: Timestamp::from_millis(0),
            provider: "anthropic",
            model: models[at].0.into(),
            status: 200,
            latency_ms: 1,
            tokens,
            estimated: false,
            cost: models[at].1.cost(&tokens),
        };
        expected += by_hand[at][kind];
        entries[at].totals += call.totals();
    }
    let report = UsageReport {
        entries: entries.to_vec(),
    };
    let totals = report.totals();
    assert_eq!(i128::from(totals.cost.0), expected);
    assert_eq!(
        (totals.calls, totals.tokens.total(), totals.unpriced_calls),
        (1_000_000, 1_000_000, 0)
    );
    let parts = report.by(|entry| Some(entry.model.clone()));
    assert_eq!(
        parts.iter().map(|(_, part)| part.cost).sum::<pond_core::usage::Pico>(),
        totals.cost
    );
    let text = totals.cost.to_string();
    let (whole, places) = text.split_once('.').expect("places");
    assert_eq!(
        format!("{whole}{places:0<12}").parse::<i128>().expect("a number"),
        expected,
        "{text}"
    );
}
