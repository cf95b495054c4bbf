//! A server that answers each connection with the next bytes of a script, so that answers can be cut where it hurts.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A running script.
pub(crate) struct Scripted {
    /// Address of the server.
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

/// An SSE answer that is whole.
pub(crate) fn sse(body: &str) -> Vec<u8> {
    chunked("text/event-stream", body, true)
}

/// An SSE answer that breaks off.
pub(crate) fn sse_cut(body: &str) -> Vec<u8> {
    chunked("text/event-stream", body, false)
}

/// An answer in one chunk, with or without its proper end.
pub(crate) fn chunked(content_type: &str, body: &str, whole: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    let chunk = if body.is_empty() {
        String::new()
    } else {
        format!("{:x}\r\n{body}\r\n", body.len())
    };
    let end = if whole { "0\r\n\r\n" } else { "" };
    format!("{head}{chunk}{end}").into_bytes()
}

/// A JSON answer.
pub(crate) fn json(status: &str, body: &serde_json::Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Scripted {
    /// Plays these answers, one per connection; further connections are closed at once.
    pub(crate) async fn play(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let url = format!("http://{}", listener.local_addr().expect("a bound port"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if socket.read_buf(&mut head).await.expect("a request") == 0 {
                        break;
                    }
                }
                seen.lock()
                    .expect("no panic")
                    .push(String::from_utf8_lossy(&head).to_lowercase());
                socket.write_all(&answer).await.expect("the client listens");
                socket.shutdown().await.ok();
            }
        });
        Self { url, requests, task }
    }

    /// Heads of the requests so far, in lower case.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}
