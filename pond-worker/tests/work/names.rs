//! A name server that leads every name to one address, and notes which it was asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

pub(super) struct Names {
    pub(super) at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Names {
    pub(super) async fn leading_to(ip: Ipv4Addr) -> Self {
        let server = UdpSocket::bind((ip, 0)).await.expect("a port");
        let at = server.local_addr().expect("bound");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let questions = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = server.recv_from(&mut buffer).await {
                let (name, answer) = named(&buffer[..length], ip);
                questions.lock().expect("unpoisoned").push(name);
                let _ = server.send_to(&answer, peer).await;
            }
        });
        Self {
            at,
            asked,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What it was asked for so far, each name once.
    pub(super) fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().expect("unpoisoned").clone();
        asked.sort();
        asked.dedup();
        asked
    }
}

/// The name of a DNS question, and the answer that it has this IPv4 address and no other.
fn named(question: &[u8], ip: Ipv4Addr) -> (String, Vec<u8>) {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).into_owned());
        at += length + 1;
    }
    let asks_v4 = question[at + 1..at + 3] == [0, 1];
    let mut answer = question[..at + 5].to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(asks_v4), 0, 0, 0, 0]);
    if asks_v4 {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&ip.octets());
    }
    (labels.join("."), answer)
}
