//! What tests of the outside are made of, all on loopback: a resolver by hand, a listener that counts, a git server.

mod git;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{LookupError, Resolve};

pub use git::{GitBehaviour, GitRepo, GitServer};

/// A resolver that answers what it was told, in turn; the last answer for a name stays.
#[derive(Debug, Default)]
pub struct ScriptedResolver {
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl ScriptedResolver {
    /// Knows no name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next answer for `name`.
    ///
    /// # Panics
    /// If an address is not one.
    #[must_use]
    pub fn answer(self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        self.answers
            .lock()
            .expect("no panic holds it")
            .entry(name.to_owned())
            .or_default()
            .push_back(addresses);
        self
    }

    /// How many questions it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for ScriptedResolver {
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().expect("no panic holds it");
        let list = answers.get_mut(name).ok_or(LookupError::NotFound)?;
        let answer = if list.len() > 1 {
            list.pop_front()
        } else {
            list.front().cloned()
        };
        answer.ok_or(LookupError::NotFound)
    }
}

/// A loopback listener that counts who connects, and says nothing.
#[derive(Debug)]
pub struct CountingListener {
    address: SocketAddr,
    peers: watch::Receiver<Vec<SocketAddr>>,
    /// Its own connections, which do not count.
    probes: Mutex<Vec<SocketAddr>>,
    task: JoinHandle<()>,
}

impl CountingListener {
    /// Listens on a free port of `ip`.
    ///
    /// # Panics
    /// If it cannot listen there.
    pub async fn on(ip: &str) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound listener");
        let (seen, peers) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((tcp, peer)) = listener.accept().await {
                open.push(tcp);
                seen.send_modify(|peers| peers.push(peer));
            }
        });
        Self {
            address,
            peers,
            probes: Mutex::default(),
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connected so far. Connections are accepted in order, so this connects itself and waits until that one was
    /// seen: nothing earlier is missed.
    ///
    /// # Panics
    /// If the listener does not answer.
    pub async fn count(&self) -> usize {
        let own = tokio::net::TcpStream::connect(self.address)
            .await
            .expect("the listener is there");
        let own = own.local_addr().expect("a connected socket");
        let mut peers = self.peers.clone();
        let seen = tokio::time::timeout(Duration::from_secs(10), peers.wait_for(|peers| peers.contains(&own)));
        let before = seen
            .await
            .expect("in time")
            .expect("it runs")
            .iter()
            .take_while(|peer| **peer != own)
            .count();
        let mut probes = self.probes.lock().expect("no panic holds it");
        probes.push(own);
        before + 1 - probes.len()
    }
}

impl Drop for CountingListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}
