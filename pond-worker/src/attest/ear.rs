//! What was heard on the wire of the closed world.

use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the ear may be behind.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads what the listener of the closed world writes down.
pub(super) struct Ear {
    log: PathBuf,
    prefix: String,
    next: AtomicU32,
}

impl Ear {
    pub(super) fn new(folder: &Path, prefix: &str) -> Self {
        Self {
            log: folder.join("heard"),
            prefix: prefix.to_owned(),
            next: AtomicU32::new(0),
        }
    }

    /// Everything up to now: mark, name's number, and where it went. A packet of our own goes after all others, and is waited
    /// for; an ear that does not hear it, or has lost any, is an error.
    pub(super) fn all(&self) -> io::Result<Vec<(String, String, String)>> {
        let own = format!("b{:03}", self.next.fetch_add(1, Ordering::Relaxed) % 1000);
        let packet = format!("{}{own}", self.prefix);
        UdpSocket::bind("127.0.0.1:0")?.send_to(packet.as_bytes(), "127.0.0.1:9")?;
        let until = Instant::now() + PATIENCE;
        loop {
            let log = std::fs::read_to_string(&self.log)?;
            if log.lines().any(|line| line.starts_with(&own)) {
                return read(&log);
            }
            if Instant::now() > until {
                return Err(io::Error::other("the listener of the closed network does not hear"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read(log: &str) -> io::Result<Vec<(String, String, String)>> {
    let mut heard = Vec::new();
    for line in log.lines() {
        let (mark, place) = line.split_once(' ').unwrap_or((line, ""));
        if mark == "lost" {
            match place {
                "0 -" => continue,
                lost => return Err(io::Error::other(format!("the listener lost packets: {lost}"))),
            }
        }
        let (mark, name) = mark.split_once('-').unwrap_or((mark, ""));
        heard.push((mark.to_owned(), name.to_owned(), place.to_owned()));
    }
    Ok(heard)
}
