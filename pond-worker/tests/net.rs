//! The dialer and the sources over it, on loopback: what is judged is what is dialled.

#[path = "net/dialing.rs"]
mod dialing;
#[path = "net/dns.rs"]
mod dns;
#[path = "net/egress/mod.rs"]
mod egress;
#[path = "net/remote.rs"]
mod remote;
#[path = "net/sources.rs"]
mod sources;
#[path = "net/trust.rs"]
mod trust;
