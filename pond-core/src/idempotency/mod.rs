//! Creating once: a request that carries a key is carried out once in a day, and a repeat gets the first answer.

mod record;
mod service;
mod store;

pub use record::{Attempt, Begun, Content, Kept, Repeatable};
pub use service::{Entered, Idempotency, Keeping, MAX_KEPT, OnceKey};
pub use store::OnceStore;
