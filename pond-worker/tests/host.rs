//! The engine's host tools: `shell` stages, and the merge of what areas changed.

#[path = "host/merging.rs"]
mod merging;
#[path = "host/shell.rs"]
mod shell;
