//! A job's purse: pays for model calls out of slices that it draws from the budgets of its run and stage.
//!
//! A call starts when something is left in every kind that is bounded, and is cut off in mid-stream once what it is known to
//! have used is beyond what was drawn and no more is to be had. So what is spent beyond the limit is at most the calls under
//! way, one call's cost each: of a whole answer the usage is known at its end alone, and of a stream whatever its provider
//! tells only then. In between the output is taken by its bytes, and input that was not told is not held against the call.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use pond_core::usage::{Amounts, Granted, Slice, UsageTotals};
use tokio::sync::watch;
use uuid::Uuid;

use super::call::{Exceeded, ModelCall, Spend};

/// Where a purse is filled.
#[async_trait]
pub trait Draws: Send + Sync + 'static {
    /// Draws at least `want`, as far as it is there.
    ///
    /// # Errors
    /// Why there is no answer; no call is paid for without one.
    async fn draw(&self, want: Amounts) -> Result<Granted, String>;
}

/// Pays for the calls of one job.
pub struct Purse {
    /// The bounds, for the text of a refusal; what they do not bound is not drawn.
    limits: Slice,
    draws: Box<dyn Draws>,
    book: Mutex<Book>,
    /// Held while a draw is under way: the others wait for what it brings.
    drawing: tokio::sync::Mutex<()>,
    spent: watch::Sender<Option<Exceeded>>,
}

/// What was drawn, and where it went.
#[derive(Debug, Default)]
struct Book {
    drawn: Slice,
    /// By calls that have ended.
    spent: Amounts,
    /// By calls under way, as far as it is known.
    flying: BTreeMap<Uuid, Amounts>,
    /// The most that one call has used so far.
    largest: Amounts,
}

impl Book {
    fn used(&self) -> Amounts {
        self.flying.values().fold(self.spent, |sum, used| sum + *used)
    }

    /// Whether `more` is covered, beyond what is used.
    fn covers(&self, more: Amounts) -> bool {
        self.drawn.covers(self.used() + more)
    }

    /// What has to be drawn for that.
    fn missing(&self, more: Amounts) -> Amounts {
        (self.used() + more).beyond(self.drawn.amounts())
    }

    fn add(&mut self, granted: Slice) {
        let sum = |own: Option<u64>, more: Option<u64>| own.map(|own| own.saturating_add(more.unwrap_or(0)));
        self.drawn = Slice {
            usd: self.drawn.usd.map(|usd| usd + granted.usd.unwrap_or_default()),
            tokens: sum(self.drawn.tokens, granted.tokens),
            calls: sum(self.drawn.calls, granted.calls),
        };
    }
}

impl Purse {
    /// An empty purse. `limits` says which kinds are bounded.
    pub fn new(limits: Slice, draws: Box<dyn Draws>) -> Self {
        let empty = limits.less(limits.amounts());
        Self {
            limits,
            draws,
            book: Mutex::new(Book {
                drawn: empty,
                ..Book::default()
            }),
            drawing: tokio::sync::Mutex::default(),
            spent: watch::Sender::new(None),
        }
    }

    /// Waits until a call was refused or cut off, and says why.
    pub async fn exceeded(&self) -> Exceeded {
        let mut spent = self.spent.subscribe();
        let told = spent.wait_for(Option::is_some).await;
        let message = || "the budget is spent".to_owned();
        told.ok()
            .and_then(|told| told.clone())
            .unwrap_or_else(|| Exceeded { message: message() })
    }

    /// Why a call was refused or cut off, if one was.
    pub fn exceeded_already(&self) -> Option<Exceeded> {
        self.spent.borrow().clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no holder of this lock panics")
    }

    /// Draws until `least` is covered beyond what is used, wanting `want` of it in one go. `covered` is carried out under the
    /// lock that found it so.
    async fn fill(&self, want: Amounts, least: Amounts, covered: impl Fn(&mut Book)) -> Result<(), Exceeded> {
        let _drawing = self.drawing.lock().await;
        if let Some(exceeded) = self.exceeded_already() {
            return Err(exceeded);
        }
        let missing = {
            let mut book = self.book();
            if book.covers(want.or_more(least)) {
                covered(&mut book);
                return Ok(());
            }
            book.missing(want.or_more(least))
        };
        let granted = match self.draws.draw(missing).await {
            Ok(granted) => granted,
            Err(why) => return Err(self.close(format!("no budget can be drawn: {why}"))),
        };
        let mut book = self.book();
        book.add(granted.granted);
        if book.covers(least) {
            covered(&mut book);
            return Ok(());
        }
        let used = book.used();
        drop(book);
        Err(self.close(self.told(used)))
    }

    /// No further call is paid for.
    fn close(&self, message: String) -> Exceeded {
        let exceeded = Exceeded { message };
        self.spent.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert_with(|| exceeded.clone());
            first
        });
        exceeded
    }

    /// Limit and spend, as far as they are known here.
    fn told(&self, used: Amounts) -> String {
        let usd = self.limits.usd.map(|limit| format!("{} of {limit} USD", used.usd));
        let tokens = self
            .limits
            .tokens
            .map(|limit| format!("{} of {limit} tokens", used.tokens));
        let calls = self
            .limits
            .calls
            .map(|limit| format!("{} of {limit} calls", used.calls));
        let own: Vec<String> = [usd, tokens, calls].into_iter().flatten().collect();
        format!("the budget is spent; this job used {}", own.join(", "))
    }
}

#[async_trait]
impl Spend for Purse {
    async fn begin(&self, call: Uuid, expected: Amounts) -> Result<(), Exceeded> {
        let begun = |book: &mut Book| {
            let known = Amounts {
                calls: 1,
                ..Amounts::default()
            };
            book.flying.insert(call, known);
        };
        let want = {
            let mut book = self.book();
            let want = expected.or_more(book.largest).or_more(Amounts::ONE);
            if self.exceeded_already().is_none() && book.covers(want) {
                begun(&mut book);
                return Ok(());
            }
            want
        };
        self.fill(want, Amounts::ONE, begun).await
    }

    fn covers(&self, call: Uuid, used: Amounts) -> bool {
        let mut book = self.book();
        if let Some(known) = book.flying.get_mut(&call) {
            *known = known.or_more(used);
        }
        book.covers(Amounts::default())
    }

    async fn more(&self, call: Uuid) -> Result<(), Exceeded> {
        // Half as much again, so that a long answer asks a few times and not with each of its words.
        let ahead = self
            .book()
            .flying
            .get(&call)
            .map_or(Amounts::default(), |used| used.half());
        let ahead = Amounts { calls: 0, ..ahead };
        self.fill(ahead, Amounts::default(), |_| {}).await
    }

    fn end(&self, call: &ModelCall) {
        let used = Amounts::from(&call.totals());
        let mut book = self.book();
        book.flying.remove(&call.id);
        book.spent += used;
        book.largest = book.largest.or_more(used);
    }
}

/// What the calls of a job come to.
#[derive(Debug, Default)]
pub struct Tally(Mutex<UsageTotals>);

impl Tally {
    /// Adds a call.
    pub fn add(&self, call: &ModelCall) {
        *self.0.lock().expect("no holder of this lock panics") += call.totals();
    }

    /// The sum so far; none without a call.
    pub fn total(&self) -> Option<UsageTotals> {
        let totals = *self.0.lock().expect("no holder of this lock panics");
        (totals.calls > 0).then_some(totals)
    }
}
