//! Orchestrator and worker as real processes, between a hand-played engine and the sandboxes of this host.

#[path = "pool/engine.rs"]
mod engine;
#[path = "pool/forged.rs"]
mod forged;
#[path = "pool/lists.rs"]
mod lists;
#[path = "pool/stories.rs"]
mod stories;
#[path = "pool/tap.rs"]
mod tap;
#[path = "pool/world.rs"]
mod world;
