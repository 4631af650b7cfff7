//! What `disklease run` or `disklease hold` and those who stand beside it say to each other, over
//! sockets.
//!
//! Whoever says something never waits for the one who hears it: what does not fit is not said.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use disklease::__cli::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A message, and what goes with it.
#[derive(Debug)]
pub(crate) enum Message {
    /// To the keeper: start the guardian, with this for its standard input.
    Guard(OwnedFd),
    /// To the keeper: when to kill everything, and when the kernel is to kill or wake the keeper, unless
    /// it is told anew. To the guardian: when the kernel is to kill it. In nanoseconds of this host's
    /// clock.
    Deadline { kill_at: u64, die_at: u64 },
    /// To either: the same, and nothing that is told later counts.
    LastDeadline { kill_at: u64, die_at: u64 },
    /// From either: its timer is set.
    Armed,
    /// From the keeper: the guardian runs, as this process.
    Guardian(i32),
    /// From either: the command cannot be contained, for this error of the system's.
    NotContained(i32),
    /// From the keeper: the guardian cannot be kept, for this error.
    NotKept(i32),
    /// From the guardian: it waits.
    Ready,
    /// To the guardian: it is told there until when it may live.
    Deadlines(OwnedFd),
    /// To the guardian: start the command, with this for its standard input.
    Start(OwnedFd),
    /// To the guardian: send the command this signal.
    Signal(i32),
    /// From it: the command runs.
    Started,
    /// From it: the command could not be started, for this error.
    NotStarted(i32),
    /// From either: this process, of this name, is not ended by SIGKILL, for this error, or 0 if it
    /// can only not end.
    Lasting(i32, i32, Name),
    /// To a warden: the process is not held any more.
    Released,
    /// From the guardian: this process below it may not be sent signals, for this error.
    Unkillable(i32, i32, Name),
    /// From the guardian: this process was not sent a signal, for this error.
    NotSent(i32, i32, Name),
    /// From the guardian: the pid file does not name a process of the command; it names this one, if
    /// any.
    NotFollowed(i32),
    /// From the guardian: the command has ended, and this process that it has left behind is killed.
    LeftBehind(i32, Name),
    /// From it: the command has ended with this exit code, and nothing is left of it.
    Exited(i32),
    /// From it: the process of the pid file has ended, and nothing is left of the command. Its parent, which
    /// is not the guardian, was told how.
    Ended(i32),
    /// From it: the command was ended by this signal, and nothing is left of it.
    Killed(i32),
}

/// What a process is called: up to 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Name([u8; 16]);

impl Name {
    pub(crate) fn of(name: &str) -> Self {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Self(bytes)
    }

    pub(crate) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        crate::output::Shown(text.trim_end_matches('\0')).to_string()
    }
}

/// All are of one length, so that none is ever read in part together with another.
const LEN: usize = 40;

impl Message {
    fn encode(&self) -> [u8; LEN] {
        let plain = Name::default();
        let one = |number: &i32| u64::from(number.cast_unsigned());
        let (kind, first, second, name) = match self {
            Self::Guard(_) => (1_u64, 0, 0, plain),
            Self::Deadline { kill_at, die_at } => (2, *kill_at, *die_at, plain),
            Self::LastDeadline { kill_at, die_at } => (3, *kill_at, *die_at, plain),
            Self::Armed => (4, 0, 0, plain),
            Self::Guardian(pid) => (5, one(pid), 0, plain),
            Self::NotContained(error) => (6, one(error), 0, plain),
            Self::NotKept(error) => (7, one(error), 0, plain),
            Self::Ready => (8, 0, 0, plain),
            Self::Start(_) => (9, 0, 0, plain),
            Self::Signal(signal) => (10, one(signal), 0, plain),
            Self::Started => (11, 0, 0, plain),
            Self::NotStarted(error) => (12, one(error), 0, plain),
            Self::Lasting(pid, error, name) => (13, one(pid), one(error), *name),
            Self::LeftBehind(pid, name) => (14, one(pid), 0, *name),
            Self::Exited(code) => (15, one(code), 0, plain),
            Self::Killed(signal) => (16, one(signal), 0, plain),
            Self::Unkillable(pid, error, name) => (17, one(pid), one(error), *name),
            Self::NotFollowed(pid) => (18, one(pid), 0, plain),
            Self::Released => (19, 0, 0, plain),
            Self::Deadlines(_) => (20, 0, 0, plain),
            Self::NotSent(pid, error, name) => (21, one(pid), one(error), *name),
            Self::Ended(pid) => (22, one(pid), 0, plain),
        };
        let mut bytes = [0; LEN];
        let fields = [kind, first, second].map(u64::to_le_bytes).concat();
        for (to, from) in bytes.iter_mut().zip(fields.iter().chain(&name.0)) {
            *to = *from;
        }
        bytes
    }

    fn decode(bytes: &[u8; LEN], fd: Option<OwnedFd>) -> Option<Self> {
        let field = |at: usize| {
            let bytes = bytes.get(at..at.checked_add(8)?)?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        let (kind, kill_at, die_at) = (field(0)?, field(8)?, field(16)?);
        let number = |field: u64| u32::try_from(field).ok().map(u32::cast_signed);
        let first = || number(kill_at);
        let name = Name(bytes.get(24..)?.try_into().ok()?);
        Some(match kind {
            1 => Self::Guard(fd?),
            2 => Self::Deadline { kill_at, die_at },
            3 => Self::LastDeadline { kill_at, die_at },
            4 => Self::Armed,
            5 => Self::Guardian(first()?),
            6 => Self::NotContained(first()?),
            7 => Self::NotKept(first()?),
            8 => Self::Ready,
            9 => Self::Start(fd?),
            10 => Self::Signal(first()?),
            11 => Self::Started,
            12 => Self::NotStarted(first()?),
            13 => Self::Lasting(first()?, number(die_at)?, name),
            14 => Self::LeftBehind(first()?, name),
            15 => Self::Exited(first()?),
            16 => Self::Killed(first()?),
            17 => Self::Unkillable(first()?, number(die_at)?, name),
            18 => Self::NotFollowed(first()?),
            19 => Self::Released,
            20 => Self::Deadlines(fd?),
            21 => Self::NotSent(first()?, number(die_at)?, name),
            22 => Self::Ended(first()?),
            _ => return None,
        })
    }
}

/// Says `message` to the other end, if it has room for it.
pub(crate) fn say(socket: impl AsFd, message: &Message) -> io::Result<()> {
    let bytes = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: [BorrowedFd<'_>; 1];
    if let Message::Start(fd) | Message::Guard(fd) | Message::Deadlines(fd) = message {
        fds = [fd.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(&socket, &[IoSlice::new(&bytes)], &mut ancillary, flags) {
            Ok(LEN) => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How long those that were just started have for an answer.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// The next message, which has to come within `limit`.
///
/// # Errors
///
/// Nothing came, or the other end is gone.
pub(crate) fn hear_within(socket: impl AsFd, limit: Duration) -> io::Result<Message> {
    let began = clock::now();
    loop {
        let left = limit.saturating_sub(clock::now().since(began));
        let left = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::new(&socket, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => {
                let message = format!("nothing was heard of it for {} s", limit.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    hear(&socket).ok_or_else(|| io::Error::other("it has ended"))
}

/// The next message, waited for; `None` when the other end is gone.
pub(crate) fn hear(socket: impl AsFd) -> Option<Message> {
    let mut bytes = [0; LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
        match recvmsg(&socket, &mut into, &mut ancillary, flags) {
            Ok(received) if received.bytes == LEN => {}
            Err(Errno::INTR) => continue,
            Ok(_) | Err(_) => return None,
        }
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        return Message::decode(&bytes, fd);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let limit = Duration::from_millis(50);
        let error = hear_within(&ours, limit).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        say(&theirs, &Message::Armed).unwrap();
        let heard = hear_within(&ours, Duration::from_secs(60));
        assert!(matches!(heard, Ok(Message::Armed)), "{heard:?}");
        drop(theirs);
        let error = hear_within(&ours, Duration::from_secs(60)).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[test]
    fn what_is_said_is_heard() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let input = || File::open("/proc/self/comm").unwrap().into();
        let name = Name::of("a name of more than sixteen bytes");
        let (kill_at, die_at) = (u64::MAX, 1 << 40);
        for message in [
            Message::Deadline { kill_at, die_at },
            Message::LastDeadline { kill_at, die_at },
            Message::Armed,
            Message::Guardian(4_000_000),
            Message::NotContained(1),
            Message::NotKept(11),
            Message::Ready,
            Message::Signal(15),
            Message::Started,
            Message::NotStarted(2),
            Message::Lasting(7, 1, name),
            Message::Unkillable(7, 1, name),
            Message::NotSent(7, 1, name),
            Message::NotFollowed(0),
            Message::Released,
            Message::LeftBehind(7, name),
            Message::Exited(255),
            Message::Ended(7),
            Message::Killed(9),
        ] {
            say(&ours, &message).unwrap();
            let heard = hear(&theirs).unwrap();
            assert_eq!(format!("{heard:?}"), format!("{message:?}"));
        }
        assert_eq!(name.shown(), "a name of more t");
        for message in [Message::Start, Message::Guard, Message::Deadlines] {
            say(&ours, &message(input())).unwrap();
            let Some(Message::Start(fd) | Message::Guard(fd) | Message::Deadlines(fd)) =
                hear(&theirs)
            else {
                panic!("it was not heard");
            };
            let mut text = String::new();
            File::from(fd).read_to_string(&mut text).unwrap();
            assert!(!text.is_empty());
        }
        drop(ours);
        assert!(hear(&theirs).is_none());
        say(&theirs, &Message::Signal(1)).unwrap_err();
    }

    /// Whoever has to kill does not wait for somebody to listen.
    #[test]
    fn what_nobody_hears_holds_up_nobody() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let said = (0..1_000_000).take_while(|_| say(&ours, &Message::Armed).is_ok());
        assert!((100..1_000_000).contains(&said.count()));
    }
}
