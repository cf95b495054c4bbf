//! Sealed tokens, through the proxy that opens TLS for them: real servers with TLS on loopback, over both versions of HTTP,
//! and the programs that people use, in a real sandbox.

#[path = "sealed/far.rs"]
mod far;
#[path = "sealed/refused.rs"]
mod refused;
#[path = "sealed/streams.rs"]
mod streams;
#[path = "sealed/swapped.rs"]
mod swapped;
#[path = "sealed/tools.rs"]
mod tools;
#[path = "sealed/world.rs"]
mod world;
