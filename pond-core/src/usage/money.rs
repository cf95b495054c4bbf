//! Money: exact amounts and prices.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Tokens;

/// An amount in pico-USD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pico(pub i64);

const PICO_PER_USD: u64 = 1_000_000_000_000;

/// Decimal USD with up to 12 places, trailing zeros cut.
impl fmt::Display for Pico {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, value) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, part) = (value / PICO_PER_USD, value % PICO_PER_USD);
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:012}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// An amount that is no plain decimal of USD with at most twelve places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a decimal amount of USD with at most 12 places")]
pub struct BadAmount;

/// Reads what is printed: not below zero, exact.
impl FromStr for Pico {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || part.len() > 12 || !digits(whole) || !digits(part) || text.ends_with('.') {
            return Err(BadAmount);
        }
        let part: u64 = format!("{part:0<12}").parse().map_err(|_| BadAmount)?;
        let whole: u64 = whole.parse().map_err(|_| BadAmount)?;
        let pico = whole.checked_mul(PICO_PER_USD).and_then(|pico| pico.checked_add(part));
        pico.and_then(|pico| i64::try_from(pico).ok())
            .map(Self)
            .ok_or(BadAmount)
    }
}

/// Sums saturate: nine million USD in one run is a bound, not a case to wrap around at.
impl Add for Pico {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Pico {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Pico {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

/// A price: micro-USD per million tokens, which is pico-USD per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(pub i64);

/// A price that is no decimal from 0 to 100000 with at most six places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a number from 0 to 100000 with at most 6 decimal places")]
pub struct BadPrice;

impl Price {
    const MAX: i64 = 100_000 * 1_000_000;

    /// Reads a decimal number of USD per million tokens from its JSON text, without a detour over floats.
    ///
    /// # Errors
    /// When it is negative, above 100000, finer than six places, or no plain or scientific decimal.
    pub fn parse(text: &str) -> Result<Self, BadPrice> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| BadPrice)?),
            None => (text, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() || !(whole.bytes().chain(part.bytes())).all(|b| b.is_ascii_digit()) {
            return Err(BadPrice);
        }
        let part = part.trim_end_matches('0');
        let digits = format!("{whole}{part}");
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Ok(Self(0));
        }
        let scale = 6 + exponent - i32::try_from(part.len()).map_err(|_| BadPrice)?;
        let value: i64 = digits.parse().map_err(|_| BadPrice)?;
        let value = match u32::try_from(scale) {
            Ok(scale) => 10i64
                .checked_pow(scale)
                .and_then(|by| value.checked_mul(by))
                .ok_or(BadPrice)?,
            Err(_) => shrink(value, scale.unsigned_abs())?,
        };
        if value > Self::MAX {
            Err(BadPrice)
        } else {
            Ok(Self(value))
        }
    }

    /// The price as decimal text, as reads show it.
    pub fn to_decimal(self) -> String {
        Pico(self.0.saturating_mul(1_000_000)).to_string()
    }

    fn of(self, tokens: u64) -> Pico {
        Pico(self.0.saturating_mul(i64::try_from(tokens).unwrap_or(i64::MAX)))
    }
}

/// Divides by a power of ten where that loses no digit.
fn shrink(value: i64, places: u32) -> Result<i64, BadPrice> {
    let by = 10i64.checked_pow(places).ok_or(BadPrice)?;
    if value % by == 0 { Ok(value / by) } else { Err(BadPrice) }
}

/// The four prices of a model; an absent one makes calls that use it unpriced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// Of uncached input tokens.
    pub input: Option<Price>,
    /// Of output tokens.
    pub output: Option<Price>,
    /// Of input tokens read from the provider's cache; the input price where absent.
    pub cache_read: Option<Price>,
    /// Of input tokens written to the provider's cache; the input price where absent.
    pub cache_write: Option<Price>,
}

impl Prices {
    /// What a call with these counts costs, or `None` when a kind it used has no price.
    pub fn cost(&self, tokens: &Tokens) -> Option<Pico> {
        let kinds = [
            (tokens.input, self.input),
            (tokens.output, self.output),
            (tokens.cache_read, self.cache_read.or(self.input)),
            (tokens.cache_write, self.cache_write.or(self.input)),
        ];
        let mut cost = Pico::default();
        for (count, price) in kinds {
            match price {
                _ if count == 0 => {}
                Some(price) => cost += price.of(count),
                None => return None,
            }
        }
        (self.input.is_some() || self.output.is_some()).then_some(cost)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_print_without_trailing_zeros() {
        for (pico, text) in [
            (0, "0"),
            (1, "0.000000000001"),
            (1_500_000_000_000, "1.5"),
            (-20, "-0.00000000002"),
        ] {
            assert_eq!(Pico(pico).to_string(), text);
        }
    }

    #[test]
    fn amounts_read_back_and_nothing_else_does() {
        for pico in [0, 1, 1_500_000_000_000, i64::MAX] {
            assert_eq!(Pico(pico).to_string().parse(), Ok(Pico(pico)));
        }
        for bad in ["", "-1", ".5", "1.", "1e3", "0.0000000000001", "99999999999"] {
            assert_eq!(bad.parse::<Pico>(), Err(BadAmount), "{bad}");
        }
    }

    #[test]
    fn prices_are_read_as_decimals() {
        for (text, price) in [
            ("3", 3_000_000),
            ("3.0", 3_000_000),
            ("0.000001", 1),
            ("15e-1", 1_500_000),
            ("1e5", 100_000_000_000),
        ] {
            assert_eq!(Price::parse(text), Ok(Price(price)), "{text}");
        }
        for bad in ["-1", "100000.000001", "0.0000001", "", ".5", "1e99", "NaN", "1e-7"] {
            assert_eq!(Price::parse(bad), Err(BadPrice), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_price_reads_back_from_its_own_text(micro in 0i64..=Price::MAX) {
            prop_assert_eq!(Price::parse(&Price(micro).to_decimal()), Ok(Price(micro)));
        }
    }
}
