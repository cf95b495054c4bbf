//! A program inside, seen from the worker: its pipes are read as fast as its reader reads, and no faster.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pond_core::sandbox::{Exit, Output, Process, SandboxError, Signal, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};

use super::init::{Control, Started, give};
use super::live::Owner;

/// What is read from a pipe at once.
const CHUNK: usize = 64 << 10;
/// Chunks that may wait for the reader.
const WAITING: usize = 4;
/// What a pipe may hold: all that a program can have written before its end and that was not read yet.
const PIPE: usize = 1 << 20;

/// The worker's ends of a program's standard streams.
pub(crate) struct Streams {
    stdin: Sender,
    stdout: Receiver,
    stderr: Receiver,
}

/// Makes the pipes of a program, the program's ends owned by its uid.
pub(crate) fn pipes(owner: Owner) -> Result<(Streams, [OwnedFd; 3]), SandboxError> {
    try_pipes(owner).map_err(|error| SandboxError::io("the pipes of a program cannot be made", error))
}

fn try_pipes(owner: Owner) -> io::Result<(Streams, [OwnedFd; 3])> {
    let (their_stdin, stdin) = io::pipe()?;
    let (stdout, their_stdout) = io::pipe()?;
    let (stderr, their_stderr) = io::pipe()?;
    let theirs = [
        OwnedFd::from(their_stdin),
        OwnedFd::from(their_stdout),
        OwnedFd::from(their_stderr),
    ];
    if let Owner::Job(uid) = owner {
        theirs.iter().try_for_each(|fd| give(fd, uid))?;
    }
    let stdin = Sender::from_owned_fd(nonblocking(stdin.into())?)?;
    let stdout = Receiver::from_owned_fd(nonblocking(stdout.into())?)?;
    let stderr = Receiver::from_owned_fd(nonblocking(stderr.into())?)?;
    Ok((Streams { stdin, stdout, stderr }, theirs))
}

/// Only our end: the flag lies on the open file, of which each end of a pipe is one.
fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

/// Feeds and reads a program until it ends.
pub(crate) fn attend(control: Arc<Control>, started: Started, streams: Streams, input: Bytes) -> Process {
    let (output, outputs) = mpsc::channel(WAITING);
    let (signal, signals) = mpsc::channel(4);
    let Streams {
        mut stdin,
        stdout,
        stderr,
    } = streams;
    tokio::spawn(async move {
        // A program that does not read its input is its own matter.
        let _ = stdin.write_all(&input).await;
    });
    let (ended, end) = oneshot::channel();
    tokio::spawn(pass_signals(control, started.id, signals, end));
    tokio::spawn(pass_output(stdout, stderr, started.exited, output, ended));
    Process {
        output: outputs,
        signals: signal,
    }
}

async fn pass_signals(
    control: Arc<Control>,
    id: u32,
    mut signals: mpsc::Receiver<Signal>,
    mut end: oneshot::Receiver<()>,
) {
    loop {
        let signal = tokio::select! {
            biased;
            _ = &mut end => return,
            signal = signals.recv() => signal,
        };
        let number = match signal {
            Some(Signal::Term) => 15,
            Some(Signal::Kill) => 9,
            None => return,
        };
        if control.signal(id, number).await.is_err() {
            return;
        }
    }
}

/// One of a program's two output streams.
struct Pipe {
    stream: Stream,
    /// Nothing at its end.
    pipe: Option<Receiver>,
    buffer: BytesMut,
}

impl Pipe {
    fn new(stream: Stream, pipe: Receiver) -> Self {
        Self {
            stream,
            pipe: Some(pipe),
            buffer: BytesMut::new(),
        }
    }

    /// The next bytes; waits for ever once there are no more.
    async fn next(&mut self) -> Bytes {
        let Some(pipe) = &mut self.pipe else {
            return std::future::pending().await;
        };
        self.buffer.reserve(CHUNK);
        match pipe.read_buf(&mut self.buffer).await {
            Ok(read) if read > 0 => {}
            _ => self.pipe = None,
        }
        self.buffer.split().freeze()
    }

    /// What is there now, without waiting. Asks the kernel itself: the runtime only knows what it has been told so far.
    fn now(&mut self) -> Option<Bytes> {
        let mut chunk = vec![0; CHUNK];
        let read = rustix::io::read(self.pipe.as_ref()?, &mut chunk[..]).ok()?;
        chunk.truncate(read);
        (read > 0).then(|| Bytes::from(chunk))
    }

    /// Goes on reading for those who have inherited the stream, to nowhere, so that they are neither stopped nor ended by it.
    fn discard(mut self) {
        if self.pipe.is_some() {
            tokio::spawn(async move { while !self.next().await.is_empty() {} });
        }
    }
}

async fn pass_output(
    stdout: Receiver,
    stderr: Receiver,
    mut exited: oneshot::Receiver<Exit>,
    output: mpsc::Sender<Output>,
    ended: oneshot::Sender<()>,
) {
    let mut out = Pipe::new(Stream::Stdout, stdout);
    let mut err = Pipe::new(Stream::Stderr, stderr);
    let exit = loop {
        let (stream, bytes) = tokio::select! {
            bytes = out.next() => (Stream::Stdout, bytes),
            bytes = err.next() => (Stream::Stderr, bytes),
            // A sandbox that goes takes its programs with it.
            exit = &mut exited => break exit.unwrap_or(Exit::Signal(9)),
        };
        if !bytes.is_empty() {
            // Nobody may be reading any more; the program goes on all the same.
            let _ = output.send(Output::Bytes(stream, bytes)).await;
        }
    };
    drop(ended);
    for mut pipe in [out, err] {
        let mut left = PIPE;
        while let Some(bytes) = pipe.now() {
            left = left.saturating_sub(bytes.len());
            let _ = output.send(Output::Bytes(pipe.stream, bytes)).await;
            if left == 0 {
                break;
            }
        }
        pipe.discard();
    }
    let _ = output.send(Output::Exited(exit)).await;
}
