//! The egress proxy on loopback, judged by what the listeners heard and the resolver was asked.
//!
//! The places listen on 443 and 80, since these ports have rules of their own: the tests run as root, or where
//! `net.ipv4.ip_unprivileged_port_start` lets them.

mod life;
mod plain;
mod rules;
mod tls;
mod world;
