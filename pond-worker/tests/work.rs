//! The worker loop, seen from the engine: real sandboxes, a real engine on a store in memory, a scripted model.

#[path = "work/budget.rs"]
mod budget;
#[path = "work/ends.rs"]
mod ends;
#[path = "sealed/far.rs"]
#[expect(dead_code, reason = "the tests of sealed tokens need more of it")]
mod far;
#[path = "work/leaves.rs"]
mod leaves;
#[path = "work/links.rs"]
mod links;
#[path = "work/lives.rs"]
mod lives;
#[path = "work/played.rs"]
mod played;
#[path = "work/reach.rs"]
mod reach;
#[path = "work/results.rs"]
mod results;
#[path = "work/sealed.rs"]
mod sealed;
#[path = "work/secrets.rs"]
mod secrets;
#[path = "work/stopped.rs"]
mod stopped;
#[path = "work/world.rs"]
mod world;
