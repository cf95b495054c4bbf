//! The worker's side of the init's control: frames over the one stream, as the head of `init/main.rs` defines them.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use pond_core::sandbox::{Exit, SandboxError};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::oneshot;

/// What the init may send in one frame: it sends numbers and short texts.
const MAX_FRAME: usize = 64 << 10;
/// What is sent in one frame at most; the init's own bound.
const MAX_SENT: usize = 16 << 20;
/// How long it may take the sandbox to stand.
const READY: Duration = Duration::from_secs(20);
/// How long the init may take for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Descriptors in one frame.
pub(crate) const MAX_FDS: usize = 16;

/// A frame under construction.
pub(crate) struct Frame {
    kind: u8,
    body: Vec<u8>,
}

impl Frame {
    pub(crate) const LAUNCH: u8 = 1;
    pub(crate) const SETUP: u8 = 2;
    const EXEC: u8 = 3;
    const SIGNAL: u8 = 4;
    const SPACE: u8 = 5;
    const KEEP: u8 = 6;

    pub(crate) fn new(kind: u8) -> Self {
        Self { kind, body: Vec::new() }
    }

    pub(crate) fn number(mut self, number: u32) -> Self {
        self.body.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn large(mut self, number: u64) -> Self {
        self.body.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn text(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut frame = self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        frame.body.extend_from_slice(text);
        frame
    }

    pub(crate) fn path(self, path: &Path) -> Self {
        self.text(path.as_os_str().as_encoded_bytes())
    }

    /// A list: its length, then each item as `put` writes it.
    pub(crate) fn list<T>(self, items: impl ExactSizeIterator<Item = T>, put: impl FnMut(Self, T) -> Self) -> Self {
        let frame = self.number(items.len() as u32);
        items.fold(frame, put)
    }
}

/// What the init says of a program.
struct Waiting {
    started: Option<oneshot::Sender<Result<(), SandboxError>>>,
    exited: oneshot::Sender<Exit>,
}

/// Programs and questions that wait for the init's answer.
#[derive(Default)]
struct Table {
    gone: bool,
    next: u32,
    programs: HashMap<u32, Waiting>,
    space: Option<oneshot::Sender<Vec<(u64, u64)>>>,
}

/// The control of one sandbox.
pub(crate) struct Control {
    stream: Arc<StdStream>,
    writer: tokio::sync::Mutex<UnixStream>,
    table: Arc<Mutex<Table>>,
    /// One question of space at a time.
    asking: tokio::sync::Mutex<()>,
}

/// A program that has been started.
pub(crate) struct Started {
    pub(crate) id: u32,
    /// How it ends; closed without a word when the sandbox goes.
    pub(crate) exited: oneshot::Receiver<Exit>,
}

impl Control {
    /// Sends the first frames and waits until the sandbox stands; brings the listening sockets of its ports.
    pub(crate) async fn open(stream: StdStream, frames: Vec<Frame>) -> io::Result<(Self, Vec<OwnedFd>)> {
        stream.set_nonblocking(true)?;
        let kept = Arc::new(stream.try_clone()?);
        let writer = UnixStream::from_std(stream.try_clone()?)?;
        let reader = UnixStream::from_std(stream)?;
        for frame in &frames {
            send(&writer, frame, &[]).await?;
        }
        let listeners = tokio::time::timeout(READY, ready(&reader))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let table = Arc::new(Mutex::new(Table {
            next: 1,
            ..Table::default()
        }));
        let (read, write) = reader.into_split();
        // Only the reading half is used; forgetting the other keeps the stream open both ways.
        write.forget();
        tokio::spawn(listen(read, Arc::clone(&table)));
        let writer = tokio::sync::Mutex::new(writer);
        Ok((
            Self {
                stream: kept,
                writer,
                table,
                asking: tokio::sync::Mutex::new(()),
            },
            listeners,
        ))
    }

    /// Starts a program on these standard streams.
    pub(crate) async fn exec(
        &self,
        argv: &[String],
        env: &[(&str, &str)],
        cwd: &Path,
        stdio: [OwnedFd; 3],
    ) -> Result<Started, SandboxError> {
        let (started_tx, started) = oneshot::channel();
        let (exited_tx, exited) = oneshot::channel();
        let id = self.enter(Waiting {
            started: Some(started_tx),
            exited: exited_tx,
        })?;
        let frame = Frame::new(Frame::EXEC)
            .number(id)
            .list(argv.iter(), Frame::text)
            .list(env.iter(), |frame, (name, value)| frame.text(name).text(value))
            .path(cwd);
        let fds = stdio.each_ref().map(AsFd::as_fd);
        let sent = send(&*self.writer.lock().await, &frame, &fds).await;
        drop(stdio);
        if let Err(error) = sent {
            self.table
                .lock()
                .expect("no holder of this lock panics")
                .programs
                .remove(&id);
            return Err(SandboxError::io("the sandbox cannot be reached", error));
        }
        match tokio::time::timeout(ANSWER, started).await {
            Ok(Ok(outcome)) => outcome.map(|()| Started { id, exited }),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(SandboxError::failed("the sandbox does not answer")),
        }
    }

    fn enter(&self, waiting: Waiting) -> Result<u32, SandboxError> {
        let mut table = self.table.lock().expect("no holder of this lock panics");
        if table.gone {
            return Err(gone());
        }
        let id = table.next;
        table.next = table
            .next
            .checked_add(1)
            .ok_or_else(|| SandboxError::failed("too many programs"))?;
        table.programs.insert(id, waiting);
        Ok(id)
    }

    /// Sends a signal to a program and its session.
    pub(crate) async fn signal(&self, id: u32, signal: i32) -> io::Result<()> {
        let frame = Frame::new(Frame::SIGNAL).number(id).number(signal.cast_unsigned());
        send(&*self.writer.lock().await, &frame, &[]).await
    }

    /// Free and total bytes at these places inside.
    pub(crate) async fn space(&self, places: &[&Path]) -> Result<Vec<(u64, u64)>, SandboxError> {
        let _one = self.asking.lock().await;
        let (tell, told) = oneshot::channel();
        self.table.lock().expect("no holder of this lock panics").space = Some(tell);
        let frame = Frame::new(Frame::SPACE).list(places.iter(), |frame, place| frame.path(place));
        let sent = send(&*self.writer.lock().await, &frame, &[]).await;
        sent.map_err(|error| SandboxError::io("the sandbox cannot be reached", error))?;
        match tokio::time::timeout(ANSWER, told).await {
            Ok(Ok(space)) => Ok(space),
            _ => Err(gone()),
        }
    }

    /// Has the init end the sandbox then.
    pub(crate) async fn keep(&self, until: Instant) -> Result<(), SandboxError> {
        // The boot's clock is read first: a halt between the two can only bring the end forward.
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
        let left = until.saturating_duration_since(Instant::now());
        let unknown = |error: nix::Error| SandboxError::io("the host's clock cannot be read", error.into());
        let until = now.map_err(unknown)?.saturating_add(left).as_nanos();
        let frame = Frame::new(Frame::KEEP).large(u64::try_from(until).unwrap_or(u64::MAX));
        if self.is_gone() {
            return Err(gone());
        }
        let sent = send(&*self.writer.lock().await, &frame, &[]).await;
        sent.map_err(|error| SandboxError::io("the sandbox cannot be reached", error))
    }

    /// Whether the init has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.table.lock().expect("no holder of this lock panics").gone
    }

    /// Ends the control, upon which the init ends the sandbox.
    pub(crate) fn close(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn gone() -> SandboxError {
    SandboxError::failed("the sandbox has gone")
}

async fn send(stream: &UnixStream, frame: &Frame, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if frame.body.len() > MAX_SENT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "arguments and environment are too long",
        ));
    }
    let mut head = (frame.body.len() as u32).to_be_bytes().to_vec();
    head.push(frame.kind);
    let once = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(sendmsg(
            stream,
            &[IoSlice::new(&head)],
            &mut rights,
            SendFlags::NOSIGNAL,
        )?)
    };
    // A few bytes: the kernel takes them whole or not at all.
    if stream.async_io(Interest::WRITABLE, once).await? != head.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut rest = &frame.body[..];
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the answer to the set-up.
async fn ready(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut head = [0u8; 5];
    let (read, fds) = stream
        .async_io(Interest::READABLE, || receive(stream, &mut head))
        .await?;
    fill(stream, &mut head[read..]).await?;
    let (kind, length) = split(head)?;
    let mut body = vec![0; length];
    fill(stream, &mut body).await?;
    match kind {
        1 => Ok(fds),
        3 => Err(Body(&body).failure()?.1),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("frame {other} instead of an answer"),
        )),
    }
}

fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg(stream, &mut slices, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = control {
            fds.extend(received);
        }
    }
    match message.bytes {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok((read, fds)),
    }
}

async fn fill(stream: &UnixStream, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => buffer = &mut buffer[read..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn split(head: [u8; 5]) -> io::Result<(u8, usize)> {
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the init's frame is too long",
        ));
    }
    Ok((head[4], length))
}

/// Passes the init's words on until it goes, or says what cannot be understood.
async fn listen(mut stream: OwnedReadHalf, table: Arc<Mutex<Table>>) {
    while let Ok((kind, body)) = next(&mut stream).await {
        if hear(&table, kind, &body).is_err() {
            tracing::warn!(kind, "a sandbox's init sent what cannot be understood");
            break;
        }
    }
    let mut table = table.lock().expect("no holder of this lock panics");
    table.gone = true;
    table.programs.clear();
    table.space = None;
}

async fn next(stream: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0u8; 5];
    stream.read_exact(&mut head).await?;
    let (kind, length) = split(head)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn hear(table: &Mutex<Table>, kind: u8, body: &[u8]) -> io::Result<()> {
    let mut body = Body(body);
    let mut table = table.lock().expect("no holder of this lock panics");
    match kind {
        2 => {
            let id = body.number()?;
            if let Some(tell) = table.programs.get_mut(&id).and_then(|waiting| waiting.started.take()) {
                let _ = tell.send(Ok(()));
            }
        }
        3 => {
            let (id, error) = body.failure()?;
            if let Some(tell) = table.programs.remove(&id).and_then(|waiting| waiting.started) {
                let _ = tell.send(Err(SandboxError::io("the program cannot be started", error)));
            }
        }
        4 => {
            let (id, signalled, value) = (body.number()?, body.byte()?, body.number()?.cast_signed());
            if let Some(waiting) = table.programs.remove(&id) {
                let exit = if signalled == 0 {
                    Exit::Code(value)
                } else {
                    Exit::Signal(value)
                };
                let _ = waiting.exited.send(exit);
            }
        }
        5 => {
            let count = body.number()?;
            let space: io::Result<Vec<_>> = (0..count).map(|_| Ok((body.large()?, body.large()?))).collect();
            if let Some(tell) = table.space.take() {
                let _ = tell.send(space?);
            }
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    Ok(())
}

/// A received body while it is read.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.take().map(|[byte]| byte)
    }

    fn number(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn large(&mut self) -> io::Result<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// A `Failed` frame: of which program, and why.
    fn failure(&mut self) -> io::Result<(u32, io::Error)> {
        let (id, errno) = (self.number()?, self.number()?.cast_signed());
        let length = self.number()? as usize;
        let text = self.0.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        let cause = io::Error::from_raw_os_error(errno);
        let error = match (id, errno) {
            (0, 0) => io::Error::other(String::from_utf8_lossy(text).into_owned()),
            (0, _) => io::Error::new(cause.kind(), format!("{}: {cause}", String::from_utf8_lossy(text))),
            _ => cause,
        };
        Ok((id, error))
    }
}

/// Makes `fd` another uid's, so that a program of that uid may open it again by `/dev/stdout`.
pub(crate) fn give(fd: &OwnedFd, uid: u32) -> io::Result<()> {
    std::os::unix::fs::fchown(fd, Some(uid), Some(uid))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_from_inside_do_more_than_end_the_control(kind in 0u8..8, body in prop::collection::vec(any::<u8>(), 0..64)) {
            let table = Mutex::new(Table::default());
            let _ = hear(&table, kind, &body);
            prop_assert!(table.lock().expect("not poisoned").programs.is_empty());
        }
    }

    #[test]
    fn a_frame_that_announces_too_much_is_refused() {
        assert!(split([0xff, 0, 0, 0, 1]).is_err());
        assert_eq!(split([0, 0, 0, 9, 4]).expect("short enough"), (4, 9));
    }

    #[test]
    fn space_of_a_million_places_is_not_believed() {
        let table = Mutex::new(Table::default());
        let (tell, _told) = oneshot::channel();
        table.lock().expect("not poisoned").space = Some(tell);
        assert!(hear(&table, 5, &u32::MAX.to_be_bytes()).is_err());
    }
}
