//! The broker, judged from outside: what it lets through, what it counts, and what it never does.

#[path = "broker/budget.rs"]
mod budget;
#[path = "broker/judge.rs"]
mod judge;
#[path = "broker/meter.rs"]
mod meter;
#[path = "broker/sums.rs"]
mod sums;
#[path = "broker/way.rs"]
mod way;
#[path = "broker/world.rs"]
mod world;
