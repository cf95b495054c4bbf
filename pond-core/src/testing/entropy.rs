//! Entropy that repeats itself from a seed.

use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::entropy::Entropy;

/// A deterministic byte stream: SHA-256 over seed and counter. For tests only.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    counter: Mutex<u64>,
}

impl SeededEntropy {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: Mutex::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut counter = self.counter.lock().expect("no holder of this lock panics");
        for chunk in bytes.chunks_mut(32) {
            *counter += 1;
            let block = Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(counter.to_be_bytes()).finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}
