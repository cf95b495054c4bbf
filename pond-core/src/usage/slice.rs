//! Slices of a budget: how jobs that run side by side share one, and none is spent twice.
//!
//! A job draws before it spends. What it was granted and has not spent is held for it until its claim ends; so of a limit
//! there is always left what was neither spent nor is held. How much one draw gives is [`slice`]'s to say.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use super::{Pico, UsageTotals};

/// What was used, or is wanted, of the kinds that a budget bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Money.
    pub usd: Pico,
    /// Tokens of all four kinds.
    pub tokens: u64,
    /// Model calls.
    pub calls: u64,
}

/// A bound, or a part of one, in each kind; an absent kind is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Money.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usd: Option<Pico>,
    /// Tokens of all four kinds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tokens: Option<u64>,
    /// Model calls.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls: Option<u64>,
}

/// The answer to a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// What may be spent beyond all that was granted before; nothing of any kind once one kind is used up.
    pub granted: Slice,
    /// What is left for later draws, of this job and of others.
    pub remaining: Slice,
}

/// What one job has of a budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// What was granted to it.
    pub granted: Amounts,
    /// What it has spent, as far as it was told.
    pub spent: Amounts,
}

/// The part of what is left that one draw gives, where no more is wanted: jobs that draw in turn get ever smaller slices, so
/// that there is something left for whoever comes late, and a job that draws again and again does so ever more often only as
/// the end comes near.
const SHARE: u64 = 8;

impl Amounts {
    /// The least that a call can use.
    pub const ONE: Self = Self {
        usd: Pico(1),
        tokens: 1,
        calls: 1,
    };

    fn kinds(self) -> [u64; 3] {
        [u64::try_from(self.usd.0).unwrap_or(0), self.tokens, self.calls]
    }

    fn of_kinds([usd, tokens, calls]: [u64; 3]) -> Self {
        Self {
            usd: pico(usd),
            tokens,
            calls,
        }
    }

    fn with(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let (own, other) = (self.kinds(), other.kinds());
        Self::of_kinds(std::array::from_fn(|kind| join(own[kind], other[kind])))
    }

    /// What is more than `other`, in each kind.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    /// The larger of each kind.
    #[must_use]
    pub fn or_more(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    /// Half of each kind.
    #[must_use]
    pub fn half(self) -> Self {
        self.with(self, |amount, _| amount / 2)
    }
}

impl From<&UsageTotals> for Amounts {
    fn from(totals: &UsageTotals) -> Self {
        Self {
            usd: totals.cost,
            tokens: totals.tokens.total(),
            calls: totals.calls,
        }
    }
}

/// Sums saturate.
impl Add for Amounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

fn pico(amount: u64) -> Pico {
    Pico(i64::try_from(amount).unwrap_or(i64::MAX))
}

impl Slice {
    fn kinds(self) -> [Option<u64>; 3] {
        [
            self.usd.map(|usd| u64::try_from(usd.0).unwrap_or(0)),
            self.tokens,
            self.calls,
        ]
    }

    fn of_kinds([usd, tokens, calls]: [Option<u64>; 3]) -> Self {
        Self {
            usd: usd.map(pico),
            tokens,
            calls,
        }
    }

    fn map(self, with: Amounts, each: impl Fn(u64, u64) -> u64) -> Self {
        let (own, with) = (self.kinds(), with.kinds());
        Self::of_kinds(std::array::from_fn(|kind| own[kind].map(|own| each(own, with[kind]))))
    }

    /// Whether nothing is bounded.
    pub fn is_unbounded(self) -> bool {
        self == Self::default()
    }

    /// The tighter bound of each kind.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        let (own, other) = (self.kinds(), other.kinds());
        Self::of_kinds(std::array::from_fn(|kind| match (own[kind], other[kind]) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        }))
    }

    /// What `used` leaves of it.
    #[must_use]
    pub fn less(self, used: Amounts) -> Self {
        self.map(used, u64::saturating_sub)
    }

    /// Its amounts, nothing where it does not bound.
    pub fn amounts(self) -> Amounts {
        Amounts::of_kinds(self.kinds().map(Option::unwrap_or_default))
    }

    /// Whether `used` is within it, in every kind that it bounds.
    pub fn covers(self, used: Amounts) -> bool {
        let used = used.kinds();
        self.kinds()
            .iter()
            .zip(used)
            .all(|(own, used)| own.is_none_or(|own| used <= own))
    }

    /// Whether a kind of which something is wanted is down to nothing.
    fn lacks(self, want: Amounts) -> bool {
        let want = want.kinds();
        self.kinds()
            .iter()
            .zip(want)
            .any(|(own, want)| *own == Some(0) && want > 0)
    }
}

/// How much of what is `left` one draw gives: of each kind that is wanted what is wanted, or an eighth of what is left where
/// that is more, and no more than there is. None when a kind that is wanted is used up: the others would be held for calls that
/// cannot be made.
pub fn slice(left: Slice, want: Amounts) -> Option<Slice> {
    let give = |left: u64, want: u64| match want {
        0 => 0,
        want => want.max(left / SHARE).min(left),
    };
    (!left.lacks(want)).then(|| left.map(want, give))
}

/// Draws for a job. `others` is what is spent or held by the rest of the run and of the stage, each beside its limit.
///
/// A job may have spent more than it was granted, by calls whose cost is known at their end alone. It wants that back first, so
/// that what it was granted in all covers what it has spent.
pub fn draw(account: &mut Account, limits: [(Slice, Amounts); 2], want: Amounts) -> Granted {
    let own = account.granted.or_more(account.spent);
    let left = limits
        .into_iter()
        .map(|(limit, others)| limit.less(others + own))
        .fold(Slice::default(), Slice::tighter);
    let owed = account.spent.beyond(account.granted);
    let Some(fresh) = slice(left, want.beyond(owed)) else {
        return Granted {
            granted: left.map(Amounts::default(), |_, _| 0),
            remaining: left,
        };
    };
    let granted = fresh.map(owed, u64::saturating_add);
    account.granted += granted.amounts();
    Granted {
        granted,
        remaining: left.less(fresh.amounts()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(count: u64) -> Amounts {
        Amounts {
            tokens: count,
            ..Amounts::default()
        }
    }

    fn of_tokens(count: u64) -> Slice {
        Slice {
            tokens: Some(count),
            ..Slice::default()
        }
    }

    #[test]
    fn a_slice_is_what_is_wanted_or_an_eighth_as_far_as_it_is_there() {
        for (left, want, given) in [
            (800, 10, 100),
            (800, 300, 300),
            (800, 900, 800),
            (7, 0, 0),
            (0, 0, 0),
            (1, 5, 1),
        ] {
            assert_eq!(
                slice(of_tokens(left), tokens(want)),
                Some(of_tokens(given)),
                "{want} of {left}"
            );
        }
        assert_eq!(slice(of_tokens(0), tokens(5)), None);
        assert_eq!(slice(Slice::default(), Amounts::ONE), Some(Slice::default()));
        let no_call_left = Slice {
            calls: Some(0),
            ..of_tokens(80)
        };
        assert_eq!(slice(no_call_left, Amounts::ONE), None);
        let for_a_call_under_way = Slice {
            calls: Some(0),
            ..of_tokens(10)
        };
        assert_eq!(slice(no_call_left, tokens(1)), Some(for_a_call_under_way));
    }

    #[test]
    fn ten_jobs_that_draw_in_turn_all_get_a_slice() {
        let mut left = 1000;
        for job in 0..10 {
            let given = slice(of_tokens(left), tokens(5))
                .and_then(|given| given.tokens)
                .unwrap_or(0);
            assert!(given >= 30, "job {job} gets {given}");
            left -= given;
        }
        assert!(left > 200, "{left} are left for those who draw again");
    }

    #[test]
    fn the_tighter_of_run_and_stage_binds() {
        let mut account = Account::default();
        let limits = [(of_tokens(100), tokens(90)), (of_tokens(50), tokens(0))];
        let granted = draw(&mut account, limits, tokens(30));
        assert_eq!(granted.granted, of_tokens(10));
        assert_eq!(granted.remaining, of_tokens(0));
        assert_eq!(account.granted, tokens(10));
        let again = draw(&mut account, limits, tokens(30));
        assert_eq!((again.granted, account.granted), (of_tokens(0), tokens(10)));
    }

    #[test]
    fn what_was_spent_beyond_the_grant_is_wanted_back_first() {
        let mut account = Account {
            granted: tokens(10),
            spent: tokens(30),
        };
        let limits = [(of_tokens(100), tokens(0)), (Slice::default(), tokens(0))];
        let granted = draw(&mut account, limits, tokens(25));
        assert_eq!(
            granted.granted,
            of_tokens(28),
            "20 that it owes, and an eighth of the 70 left"
        );
        assert_eq!(account.granted, tokens(38));
        assert_eq!(granted.remaining, of_tokens(62));
    }

    proptest! {
        #[test]
        fn however_jobs_draw_and_spend_within_their_grants_the_limit_holds(
            limit in 1u64..5000,
            steps in proptest::collection::vec((0usize..10, 0u64..400, any::<bool>(), any::<bool>()), 1..200),
        ) {
            let mut accounts = [Account::default(); 10];
            for (job, want, spends, ends) in steps {
                let others = |own: usize| {
                    let held = accounts.iter().enumerate().filter(|(at, _)| *at != own);
                    held.fold(Amounts::default(), |sum, (_, account)| sum + account.granted.or_more(account.spent))
                };
                let others = others(job);
                let account = &mut accounts[job];
                let before = account.granted;
                let granted = draw(account, [(of_tokens(limit), others), (Slice::default(), others)], tokens(want));
                prop_assert_eq!(account.granted, before + granted.granted.amounts());
                if spends {
                    account.spent = account.granted;
                }
                if ends {
                    account.granted = account.spent;
                }
                let held: u64 = accounts.iter().map(|account| account.granted.tokens).sum();
                prop_assert!(held <= limit);
            }
        }
    }
}
