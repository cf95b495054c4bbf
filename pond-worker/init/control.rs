//! The stream to the worker, and the time until which the sandbox may live. Whatever waits for the one waits for the other
//! too, so that a worker that hangs in the middle of a frame, or reads no answers, does not put the end off.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::sys::{self, MAX_FDS};

/// What one frame may hold; the environment and arguments of a program fit in the kernel's own 2 MiB.
const MAX_FRAME: u32 = 16 << 20;

/// The worker's end of a sandbox.
pub(super) struct Control {
    stream: UnixStream,
    end: OwnedFd,
}

/// A frame from the worker.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// What there is to do.
pub(super) struct Due {
    pub(super) frame: bool,
    pub(super) children: bool,
}

impl Control {
    /// Takes standard input for the control. The sandbox has no end of its own yet.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { stream: sys::control(), end: sys::timer()? })
    }

    /// Connects to the worker. The sandbox has no end of its own yet.
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(socket)?, end: sys::timer()? })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Puts the end at a time of the clock that counts from the host's boot, in nanoseconds.
    pub(super) fn keep(&self, until: u64) -> io::Result<()> {
        sys::set_timer(&self.end, until)
    }

    /// Waits for a frame or a child's end; an error when the time is over.
    pub(super) fn wait(&self, children: &OwnedFd) -> io::Result<Due> {
        let [frame, children] = self.ready([(self.fd(), sys::POLLIN), (children.as_raw_fd(), sys::POLLIN)])?;
        Ok(Due { frame, children })
    }

    /// Waits until a descriptor can be read; an error when the time is over.
    pub(super) fn readable(&self, fd: RawFd) -> io::Result<()> {
        while self.ready([(fd, sys::POLLIN)])? == [false] {}
        Ok(())
    }

    fn ready<const N: usize>(&self, wanted: [(RawFd, i16); N]) -> io::Result<[bool; N]> {
        let mut fds = vec![(self.end.as_raw_fd(), sys::POLLIN)];
        fds.extend(wanted);
        let ready = sys::poll_all(&fds)?;
        match ready[0] {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "nobody keeps the sandbox any longer")),
            false => Ok(std::array::from_fn(|at| ready[at + 1])),
        }
    }

    /// Reads one frame and the descriptors beside it; nothing at the end.
    pub(super) fn receive(&self) -> io::Result<Option<Frame>> {
        let mut head = [0u8; 5];
        self.readable(self.fd())?;
        let (read, fds) = sys::receive_some(self.fd(), &mut head)?;
        if read == 0 || !self.fill(&mut head[read..])? {
            return Ok(None);
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if length > MAX_FRAME {
            return Err(io::Error::other("the frame is too long"));
        }
        let mut body = vec![0; length as usize];
        let whole = self.fill(&mut body)?;
        Ok(whole.then_some(Frame { kind: head[4], body, fds }))
    }

    /// Fills a buffer; false when the stream ends before.
    fn fill(&self, mut buffer: &mut [u8]) -> io::Result<bool> {
        while !buffer.is_empty() {
            self.readable(self.fd())?;
            match (&self.stream).read(buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends a frame.
    pub(super) fn send(&self, kind: u8, body: &[u8]) -> io::Result<()> {
        self.send_with(kind, body, &[])
    }

    /// Sends a frame with descriptors beside it.
    pub(super) fn send_with(&self, kind: u8, body: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let mut frame = (body.len() as u32).to_be_bytes().to_vec();
        frame.push(kind);
        frame.extend_from_slice(body);
        let mut fds = &fds[..fds.len().min(MAX_FDS)];
        let mut rest = &frame[..];
        while !rest.is_empty() {
            self.ready([(self.fd(), sys::POLLOUT)])?;
            match sys::send_some(self.fd(), rest, fds) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    // They travel beside the first bytes.
                    fds = &[];
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
