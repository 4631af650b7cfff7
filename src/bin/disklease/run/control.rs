//! What `disklease run` and its guardian say to each other, over a socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A message, and what goes with it.
#[derive(Debug)]
pub(crate) enum Message {
    /// To the guardian: start the command, with this for its standard input.
    Start(OwnedFd),
    /// To the guardian: send the command this signal.
    Signal(i32),
    /// From it: the command runs, as this process.
    Started(i32),
    /// From it: the command could not be started, for this error.
    NotStarted(i32),
    /// From it: the command has ended with this exit code, and nothing is left of it.
    Exited(i32),
    /// From it: the command was ended by this signal, and nothing is left of it.
    Killed(i32),
}

/// All are of one length, so that none is ever read in part together with another.
const LEN: usize = 8;

impl Message {
    fn encode(&self) -> [u8; LEN] {
        let (kind, value) = match self {
            Self::Start(_) => (1_i32, 0),
            Self::Signal(signal) => (2, *signal),
            Self::Started(pid) => (3, *pid),
            Self::NotStarted(error) => (4, *error),
            Self::Exited(code) => (5, *code),
            Self::Killed(signal) => (6, *signal),
        };
        let mut bytes = [0; LEN];
        let (first, second) = bytes.split_at_mut(LEN / 2);
        first.copy_from_slice(&kind.to_le_bytes());
        second.copy_from_slice(&value.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; LEN], fd: Option<OwnedFd>) -> Option<Self> {
        let (kind, value) = bytes.split_at(LEN / 2);
        let number = |bytes: &[u8]| bytes.try_into().ok().map(i32::from_le_bytes);
        let (kind, value) = (number(kind)?, number(value)?);
        Some(match kind {
            1 => Self::Start(fd?),
            2 => Self::Signal(value),
            3 => Self::Started(value),
            4 => Self::NotStarted(value),
            5 => Self::Exited(value),
            6 => Self::Killed(value),
            _ => return None,
        })
    }
}

/// Says `message` to the other end.
pub(crate) fn say(socket: impl AsFd, message: &Message) -> io::Result<()> {
    let bytes = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: [BorrowedFd<'_>; 1];
    if let Message::Start(fd) = message {
        fds = [fd.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    loop {
        match sendmsg(
            &socket,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        ) {
            Ok(LEN) => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
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
        return Message::decode(bytes, fd);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let input = File::open("/proc/self/comm").unwrap();
        say(&ours, &Message::Start(input.into())).unwrap();
        for message in [
            Message::Signal(15),
            Message::Started(4_000_000),
            Message::NotStarted(2),
            Message::Exited(255),
            Message::Killed(9),
        ] {
            say(&ours, &message).unwrap();
        }
        drop(ours);
        let Some(Message::Start(fd)) = hear(&theirs) else {
            panic!("the first was not heard");
        };
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
        assert!(matches!(hear(&theirs), Some(Message::Signal(15))));
        assert!(matches!(hear(&theirs), Some(Message::Started(4_000_000))));
        assert!(matches!(hear(&theirs), Some(Message::NotStarted(2))));
        assert!(matches!(hear(&theirs), Some(Message::Exited(255))));
        assert!(matches!(hear(&theirs), Some(Message::Killed(9))));
        assert!(hear(&theirs).is_none());
        say(&theirs, &Message::Signal(1)).unwrap_err();
    }
}
