//! Messages between `disklease run` or `disklease hold` and the processes beside it, over sockets.
//!
//! A sender never waits for the receiver: a message that does not fit is not sent.

use std::ffi::CStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use bytemuck::checked::try_pod_read_unaligned;
use bytemuck::{CheckedBitPattern, NoUninit};
use disklease::__cli::{SignalMask, clock};
use disklease::OsError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::Pid;

use crate::offspring::{described, name_of, number_of};

/// What a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, CheckedBitPattern, NoUninit)]
#[repr(u64)]
pub(crate) enum Kind {
    /// To the keeper: start the guardian, with this descriptor for its standard input.
    Guard = 1,
    /// To the keeper: when to kill everything, and when the kernel is to kill or wake the keeper, unless
    /// a later deadline comes. To the guardian: when the kernel is to kill the guardian. To a warden: when to kill
    /// the held process, and when the kernel is to wake the warden.
    Deadline,
    /// To them: the same, and no later deadline counts.
    LastDeadline,
    /// From them: the timer is set.
    Armed,
    /// From the keeper: the guardian runs, as this process.
    Guardian,
    /// From keeper or guardian: the command cannot be contained, for this error.
    NotContained,
    /// From the keeper or a warden: the sender cannot do its part, for this error.
    NotKept,
    /// From the guardian or a warden: the sender waits.
    Ready,
    /// To the guardian: start the command, with this descriptor for its standard input.
    Start,
    /// To the guardian: deadlines come over this socket.
    Deadlines,
    /// To the guardian: send the command this signal.
    Signal,
    /// To a warden: the process is not held any more.
    Released,
    /// From the guardian: the command could not be started, for this error.
    NotStarted,
    /// From keeper or guardian: SIGKILL does not end this process, for this error, or without one if the
    /// process was killed and does not end.
    Lasting,
    /// From the guardian: this process of the command may not be sent signals, for this error.
    Unkillable,
    /// From the guardian: this process was not sent a signal, for this error.
    NotSent,
    /// From the guardian: the pid file does not name a process of the command, but this number, if any.
    NotFollowed,
    /// From the guardian: the command has ended, and this process that the command has left behind is killed.
    LeftBehind,
    /// From the guardian: the command has ended with this exit code, and nothing is left of the command.
    Exited,
    /// From the guardian: this process, which the pid file names, has ended, and nothing is left of the
    /// command. How the process ended, only its parent knows, which is not the guardian.
    Ended,
    /// From the guardian: this signal has ended the command, and nothing is left of the command.
    Killed,
}

/// A message. Most kinds need only some of the fields. All are of one length, so that none is ever read in part
/// together with another.
#[derive(Clone, Copy, Debug, CheckedBitPattern, NoUninit)]
#[repr(C)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// A number and an error number, or two times in nanoseconds of this host's clock.
    pub(crate) numbers: [u64; 2],
    /// What the process is called, cut to 16 bytes, with zeros behind it.
    name: [u8; 16],
}

impl From<Kind> for Message {
    fn from(kind: Kind) -> Self {
        Self::new(kind, [0; 2])
    }
}

impl From<io::Error> for Message {
    fn from(error: io::Error) -> Self {
        Self::failed(Kind::NotKept, &error)
    }
}

impl Message {
    pub(crate) const fn new(kind: Kind, numbers: [u64; 2]) -> Self {
        let name = [0; 16];
        Self {
            kind,
            numbers,
            name,
        }
    }

    pub(crate) fn with(kind: Kind, number: i32) -> Self {
        Self::new(kind, [u64::from(number.cast_unsigned()), 0])
    }

    /// With the error's number, or that of an I/O error.
    pub(crate) fn failed(kind: Kind, error: &io::Error) -> Self {
        Self::with(
            kind,
            error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
        )
    }

    /// About `process`, with an error number of the system's, or 0.
    pub(crate) fn about(kind: Kind, process: Pid, error: i32) -> Self {
        let numbers = [number_of(process), error].map(|number| u64::from(number.cast_unsigned()));
        let mut message = Self::new(kind, numbers);
        for (to, from) in message.name.iter_mut().zip(name_of(process).bytes()) {
            *to = from;
        }
        message
    }

    pub(crate) fn number(&self) -> i32 {
        let [number, _] = self.numbers;
        u32::try_from(number).unwrap_or_default().cast_signed()
    }

    /// The error number that goes with a process.
    pub(crate) fn errno(&self) -> i32 {
        let [_, errno] = self.numbers;
        u32::try_from(errno).unwrap_or_default().cast_signed()
    }

    /// The process that this is about.
    pub(crate) fn process(&self) -> String {
        let name = String::from_utf8_lossy(&self.name);
        described(self.number(), name.trim_end_matches('\0'))
    }
}

/// Sends `message`, if the socket has room for it.
pub(crate) fn send(socket: impl AsFd, message: impl Into<Message>) -> io::Result<()> {
    send_with(socket, message.into(), None)
}

/// As [`send`]; hands `fd` over, and keeps no copy.
pub(crate) fn hand_over(socket: impl AsFd, kind: Kind, fd: OwnedFd) -> io::Result<()> {
    let sent = send_with(socket, kind.into(), Some(&fd));
    drop(fd);
    sent
}

fn send_with(socket: impl AsFd, message: Message, fd: Option<&OwnedFd>) -> io::Result<()> {
    let bytes = bytemuck::bytes_of(&message);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd.as_fd()]);
    if let Some(fds) = &fds {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How long a process that was just started has for an answer.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// The next message, which has to come within `limit`.
///
/// # Errors
///
/// Nothing came, or the other end is gone.
pub(crate) fn receive_within(socket: impl AsFd, limit: Duration) -> io::Result<Message> {
    let started = clock::now();
    loop {
        let left = limit.saturating_sub(clock::now().since(started));
        if poll_any([socket.as_fd()], Some(left)) == [true] {
            return receive(&socket).ok_or_else(|| io::Error::other("it has ended"));
        }
        if left.is_zero() {
            let message = format!("no answer came for {} s", limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    }
}

/// Waits until any of `fds` can be read, at most for `limit`. Tells which of them can be read.
pub(crate) fn poll_any<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    limit: Option<Duration>,
) -> [bool; N] {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    // A signal ends the wait early.
    let _ = poll(&mut fds, limit.as_ref());
    fds.map(|fd| !fd.revents().is_empty())
}

/// The next message, waited for; `None` when the other end is gone.
pub(crate) fn receive(socket: impl AsFd) -> Option<Message> {
    receive_with_fd(socket).map(|(message, _)| message)
}

/// As [`receive`], with what is handed over.
pub(crate) fn receive_with_fd(socket: impl AsFd) -> Option<(Message, Option<OwnedFd>)> {
    let mut bytes = [0; size_of::<Message>()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
        match recvmsg(&socket, &mut into, &mut ancillary, flags) {
            Ok(received) if received.bytes == bytes.len() => {}
            Err(Errno::INTR) => continue,
            Ok(_) | Err(_) => return None,
        }
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        return Some((try_pod_read_unaligned(&bytes).ok()?, fd));
    }
}

/// A process beside the command, called `name`: this very program, though another may have taken its
/// place by now. The other end of `control` is its standard input.
pub(crate) fn beside(name: &str, control: OwnedFd) -> Command {
    let mut process = Command::new("/proc/self/exe");
    process.arg0(name).stdin(control);
    process
}

pub(crate) fn os_error(error: OsError) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

/// The first steps of such a process: all signals are blocked. Gives its control socket, and the signals that
/// were blocked before.
pub(crate) fn set_up(name: &CStr) -> io::Result<(OwnedFd, SignalMask)> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    let mask = SignalMask::block_all()?;
    let _ = rustix::thread::set_name(name);
    Ok((control, mask))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_answer_that_does_not_come_is_not_waited_for() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let limit = Duration::from_millis(50);
        let error = receive_within(&ours, limit).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        send(&theirs, Kind::Armed).unwrap();
        let received = receive_within(&ours, Duration::from_secs(60));
        assert_eq!(received.unwrap().kind, Kind::Armed);
        drop(theirs);
        let error = receive_within(&ours, Duration::from_secs(60)).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[test]
    fn what_is_sent_is_received() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let this = rustix::process::getpid();
        for message in [
            Message::new(Kind::LastDeadline, [u64::MAX, 1 << 40]),
            Kind::Armed.into(),
            Message::with(Kind::Guardian, 4_000_000),
            Message::with(Kind::Signal, -1),
            Message::failed(Kind::NotKept, &Errno::AGAIN.into()),
            Message::with(Kind::Killed, 9),
            Message::about(Kind::Lasting, this, 1),
        ] {
            let said = format!("{message:?}");
            send(&ours, message).unwrap();
            assert_eq!(format!("{:?}", receive(&theirs).unwrap()), said);
        }
        for kind in [Kind::Start, Kind::Guard, Kind::Deadlines] {
            let input = File::open("/proc/self/comm").unwrap();
            hand_over(&ours, kind, input.into()).unwrap();
            let (received, fd) = receive_with_fd(&theirs).unwrap();
            assert_eq!(received.kind, kind);
            let mut text = String::new();
            let mut file = File::from(fd.unwrap());
            file.read_to_string(&mut text).unwrap();
            assert!(!text.is_empty());
        }
        drop(ours);
        assert!(receive(&theirs).is_none());
        send(&theirs, Message::with(Kind::Signal, 1)).unwrap_err();
    }

    #[test]
    fn numbers_and_a_name_of_any_length_are_kept() {
        let mut message = Message::about(Kind::NotSent, rustix::process::getpid(), 13);
        message.name = *b"a name of more t";
        assert_eq!(message.errno(), 13);
        let this = std::process::id();
        assert_eq!(
            message.process(),
            format!("process {this} (a name of more t)")
        );
        assert_eq!(Message::with(Kind::Signal, -1).number(), -1);
    }

    #[test]
    fn what_is_no_kind_is_no_message() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for kind in [0_u64, 1000] {
            let mut bytes = [0; size_of::<Message>()];
            bytes[..8].copy_from_slice(&kind.to_le_bytes());
            io::Write::write_all(&mut &ours, &bytes).unwrap();
            assert!(receive(&theirs).is_none());
        }
    }

    /// A process that has to kill does not wait for a receiver.
    #[test]
    fn a_message_that_nobody_receives_holds_up_nobody() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let said = (0..1_000_000).take_while(|_| send(&ours, Kind::Armed).is_ok());
        assert!((100..1_000_000).contains(&said.count()));
    }
}
