//! A connection to wdmd: whole messages, each with a limit to the time that it may take.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::message::{Message, SIZE};
use crate::runtime::clock;
use crate::world::{OsError, Timestamp};

/// How often it is looked whether wdmd has room for one more connection.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// Why a connection cannot be gone on with, or not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There is none.
    Unreachable(OsError),
    /// wdmd has closed it.
    Gone,
    /// The system says so.
    Failed(OsError),
    /// The time was over. What is under way can be waited for again.
    Silent,
}

impl Broken {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Gone,
            errno => Self::Failed(OsError(errno.raw_os_error())),
        }
    }
}

/// A connection. Nothing of it blocks beyond the time that is given.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// What could not be sent yet: the rest of a message may not be left out.
    unsent: Vec<u8>,
    received: [u8; SIZE],
    received_len: usize,
}

impl Connection {
    pub(super) fn open(path: &Path, until: Timestamp) -> Result<Self, Broken> {
        let unreachable = |errno: Errno| Broken::Unreachable(OsError(errno.raw_os_error()));
        let address = SocketAddrUnix::new(path).map_err(unreachable)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(unreachable)?;
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                // Others wait to be accepted; nothing tells when there is room.
                Err(Errno::AGAIN) if clock::now() < until => wait(&mut [], CONNECT_INTERVAL)?,
                Err(errno) => return Err(unreachable(errno)),
            }
        }
        Ok(Self {
            socket,
            unsent: Vec::new(),
            received: [0; SIZE],
            received_len: 0,
        })
    }

    /// Sends all of `messages`, in one piece if possible. What could not be sent when the time was
    /// over goes before the next ones.
    pub(super) fn send(&mut self, messages: &[Message], until: Timestamp) -> Result<(), Broken> {
        for message in messages {
            self.unsent.extend_from_slice(message.as_bytes());
        }
        self.flush(until)
    }

    /// Whether something is left of what was to be sent.
    pub(super) const fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn flush(&mut self, until: Timestamp) -> Result<(), Broken> {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.unsent.drain(..sent.min(self.unsent.len()))),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for(PollFlags::OUT, until)?,
                Err(errno) => return Err(Broken::of(errno)),
            }
        }
        Ok(())
    }

    /// The next message.
    ///
    /// When the time was over, what has come of it is kept for the next call.
    pub(super) fn receive(&mut self, until: Timestamp) -> Result<Message, Broken> {
        loop {
            let rest = self.received.get_mut(self.received_len..);
            let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
                self.received_len = 0;
                return Ok(Message::from_bytes(&self.received));
            };
            match rustix::io::read(&self.socket, rest) {
                Ok(0) => return Err(Broken::Gone),
                Ok(more) => self.received_len = self.received_len.saturating_add(more),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for(PollFlags::IN, until)?,
                Err(errno) => return Err(Broken::of(errno)),
            }
        }
    }

    fn wait_for(&self, events: PollFlags, until: Timestamp) -> Result<(), Broken> {
        let left = until.since(clock::now());
        if left.is_zero() {
            return Err(Broken::Silent);
        }
        wait(&mut [PollFd::new(&self.socket, events)], left)
    }
}

/// Waits for one of `fds`, or until the time is over.
fn wait(fds: &mut [PollFd<'_>], time: Duration) -> Result<(), Broken> {
    let time = Timespec::try_from(time)
        .map_err(|_| Broken::Failed(OsError(Errno::INVAL.raw_os_error())))?;
    match poll(fds, Some(&time)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Broken::of(errno)),
    }
}
