//! The wire types, the client and the verbs against servers that play a script.

mod cli;
mod client;
mod samples;
mod scripted;
mod streams;
mod wire;
