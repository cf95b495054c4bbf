//! What a run's model calls used and cost: token counts, prices and exact sums.
//!
//! Money is integer pico-USD inside (10⁻¹² USD). A price is integer micro-USD per million tokens, so that one token costs
//! exactly that many pico-USD and sums never round.

mod money;
mod record;
mod slice;
mod store;

pub use money::{BadAmount, BadPrice, Pico, Price, Prices};
pub use record::{ModelCall, Tokens, UsageEntry, UsageReport, UsageTotals};
pub use slice::{Account, Amounts, Granted, Slice, draw, slice};
pub use store::{BudgetStore, Draw, Drawn};
