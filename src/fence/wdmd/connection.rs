//! A connection to wdmd: whole messages, each with a limit to the time that it may take, and the answers
//! that are still to come.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::message::{Message, SIZE, STATUS};
use crate::fence::watchdog::WatchdogErrorKind as Fault;
use crate::runtime::clock;
use crate::world::{OsError, Timestamp};

/// How often to see whether wdmd has room for one more connection.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// A connection. Nothing of it blocks beyond the time that is given; after [`Fault::Silent`] what is
/// under way can be waited for again.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// What could not be sent yet: the rest of a message may not be left out.
    unsent: Vec<u8>,
    received: [u8; SIZE],
    received_len: usize,
    /// Answers that are still to come.
    awaited: u32,
    /// When the first of them was asked for.
    asked_at: Timestamp,
}

impl Connection {
    pub(super) fn open(path: &Path, until: Timestamp) -> Result<Self, Fault> {
        let unreachable = |errno: Errno| Fault::Unreachable(errno.into());
        let address = SocketAddrUnix::new(path).map_err(unreachable)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(unreachable)?;
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                // Others wait to be accepted; nothing shows when there is room.
                Err(Errno::AGAIN) if clock::now() < until => wait(&mut [], CONNECT_INTERVAL)?,
                Err(errno) => return Err(unreachable(errno)),
            }
        }
        Ok(Self {
            socket,
            unsent: Vec::new(),
            received: [0; SIZE],
            received_len: 0,
            awaited: 0,
            asked_at: clock::now(),
        })
    }

    /// Sends all of `messages`, in one piece if possible. What could not be sent in time goes before
    /// the next ones.
    pub(super) fn send(&mut self, messages: &[Message], until: Timestamp) -> Result<(), Fault> {
        for message in messages {
            self.unsent.extend_from_slice(message.as_bytes());
        }
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.unsent.drain(..sent.min(self.unsent.len()))),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for(PollFlags::OUT, until)?,
                Err(errno) => return Err(fault_of(errno)),
            }
        }
        Ok(())
    }

    /// Whether a part of what was to be sent is still unsent.
    pub(super) const fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Since when an answer is awaited, if one is.
    pub(super) fn waits_since(&self) -> Option<Timestamp> {
        (self.awaited > 0).then_some(self.asked_at)
    }

    /// The next message.
    ///
    /// When the time has passed, the part that has come is kept for the next call.
    pub(super) fn receive(&mut self, until: Timestamp) -> Result<Message, Fault> {
        loop {
            let rest = self.received.get_mut(self.received_len..);
            let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
                self.received_len = 0;
                self.awaited = self.awaited.saturating_sub(1);
                return Ok(Message::from_bytes(&self.received));
            };
            match rustix::io::read(&self.socket, rest) {
                Ok(0) => return Err(Fault::Gone),
                Ok(more) => self.received_len = self.received_len.saturating_add(more),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for(PollFlags::IN, until)?,
                Err(errno) => return Err(fault_of(errno)),
            }
        }
    }

    /// Sends `messages`, and asks for an answer after them.
    pub(super) fn ask(&mut self, messages: &[Message], until: Timestamp) -> Result<(), Fault> {
        if self.awaited == 0 {
            self.asked_at = clock::now();
        }
        self.awaited = self.awaited.saturating_add(1);
        self.send(&[messages, &[Message::new(STATUS)]].concat(), until)
    }

    /// Sends `messages` and waits until wdmd has taken them: wdmd takes them in turn, so its answer to
    /// a last question shows it.
    pub(super) fn confirm(
        &mut self,
        messages: &[Message],
        until: Timestamp,
    ) -> Result<Message, Fault> {
        self.ask(messages, until)?;
        loop {
            let answer = self.receive(until)?;
            if self.awaited == 0 {
                return Ok(answer);
            }
        }
    }

    /// Takes the answers that have come, and gives the last. Also sees here that wdmd has gone.
    pub(super) fn answers(&mut self) -> Result<Option<Message>, Fault> {
        let mut last = None;
        loop {
            match self.receive(clock::now()) {
                Ok(answer) => last = Some(answer),
                Err(Fault::Silent) => return Ok(last),
                Err(fault) => return Err(fault),
            }
        }
    }

    fn wait_for(&self, events: PollFlags, until: Timestamp) -> Result<(), Fault> {
        let left = until.since(clock::now());
        if left.is_zero() {
            return Err(Fault::Silent);
        }
        wait(&mut [PollFd::new(&self.socket, events)], left)
    }
}

fn fault_of(errno: Errno) -> Fault {
    match errno {
        Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Fault::Gone,
        errno => Fault::Failed(OsError::from(errno)),
    }
}

/// Waits for one of `fds`, or until the time has passed.
fn wait(fds: &mut [PollFd<'_>], time: Duration) -> Result<(), Fault> {
    let time = Timespec::try_from(time).map_err(|_| fault_of(Errno::INVAL))?;
    match poll(fds, Some(&time)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(fault_of(errno)),
    }
}
