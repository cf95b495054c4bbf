//! The dialer and the sources over it, on loopback: what is judged is what is dialled.

#[path = "net/dialing.rs"]
mod dialing;
