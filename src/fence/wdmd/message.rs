//! The one message of wdmd's protocol, the same in both directions.

use bytemuck::{Pod, Zeroable};

/// Bytes of a message.
pub(super) const SIZE: usize = 176;

/// Names have at most this many bytes, and a NUL.
const NAME_MAX: usize = 127;

/// As it goes over the socket, in this machine's byte order.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Message {
    magic: u32,
    command: u32,
    len: u32,
    flags: u32,
    test_interval: u32,
    fire_timeout: u32,
    last_keepalive: u64,
    renewal_time: u64,
    expire_time: u64,
    name: [u8; 128],
}

const _: () = assert!(size_of::<Message>() == SIZE, "no padding");

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Names this client, for wdmd's log. No answer.
    Register,
    /// wdmd is not to be stopped. No answer.
    RefcountSet,
    /// It may be stopped again. No answer.
    RefcountClear,
    /// When this client is to count as failed; 0: never. No answer.
    TestLive,
    /// How does wdmd run?
    Status,
    /// The device is to be opened with a fire timeout. wdmd of sanlock 3.8.5 and before knows no
    /// such thing and does not answer.
    OpenWatchdog,
}

impl Command {
    const fn number(self) -> u32 {
        match self {
            Self::Register => 1,
            Self::RefcountSet => 2,
            Self::RefcountClear => 3,
            Self::TestLive => 4,
            Self::Status => 5,
            Self::OpenWatchdog => 7,
        }
    }
}

impl Message {
    fn of(command: Command) -> Self {
        Self {
            command: command.number(),
            ..Self::zeroed()
        }
    }

    pub(super) fn register(name: &str) -> Self {
        let mut message = Self::of(Command::Register);
        for (to, &byte) in message.name.iter_mut().zip(name.as_bytes()).take(NAME_MAX) {
            *to = byte;
        }
        message
    }

    pub(super) fn refcount_set() -> Self {
        Self::of(Command::RefcountSet)
    }

    pub(super) fn refcount_clear() -> Self {
        Self::of(Command::RefcountClear)
    }

    /// Both times in seconds of `CLOCK_MONOTONIC`.
    pub(super) fn test_live(renewal_time: u64, expire_time: u64) -> Self {
        Self {
            renewal_time,
            expire_time,
            ..Self::of(Command::TestLive)
        }
    }

    pub(super) fn status() -> Self {
        Self::of(Command::Status)
    }

    pub(super) fn open_watchdog(fire_timeout: u32) -> Self {
        Self {
            fire_timeout,
            ..Self::of(Command::OpenWatchdog)
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    pub(super) fn from_bytes(bytes: &[u8; SIZE]) -> Self {
        bytemuck::pod_read_unaligned(bytes)
    }

    pub(super) const fn is(&self, command: Command) -> bool {
        self.command == command.number()
    }

    /// The command's number, which may be any in what was received.
    pub(super) const fn command(&self) -> u32 {
        self.command
    }

    /// Seconds.
    pub(super) const fn test_interval(&self) -> u32 {
        self.test_interval
    }

    /// Seconds.
    pub(super) const fn fire_timeout(&self) -> u32 {
        self.fire_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_where_wdmd_looks_for_it() {
        let word = |bytes: &[u8], at| bytemuck::pod_read_unaligned::<u32>(&bytes[at..at + 4]);
        let long = |bytes: &[u8], at| bytemuck::pod_read_unaligned::<u64>(&bytes[at..at + 8]);

        let live = Message::test_live(0x0102_0304_0506, 0x0a0b_0c0d_0e0f);
        let bytes = live.as_bytes();
        assert_eq!(bytes.len(), 176);
        assert_eq!(word(bytes, 4), 4);
        assert_eq!(long(bytes, 32), 0x0102_0304_0506);
        assert_eq!(long(bytes, 40), 0x0a0b_0c0d_0e0f);
        assert!(
            bytes[..4]
                .iter()
                .chain(&bytes[8..32])
                .chain(&bytes[48..])
                .all(|&b| b == 0)
        );

        let register = Message::register("disklease_a:1");
        let bytes = register.as_bytes();
        assert_eq!(word(bytes, 4), 1);
        assert_eq!(&bytes[48..62], b"disklease_a:1\0");

        let open = Message::open_watchdog(30);
        assert_eq!(
            (word(open.as_bytes(), 4), word(open.as_bytes(), 20)),
            (7, 30)
        );
        let numbers = [
            Message::refcount_set(),
            Message::refcount_clear(),
            Message::status(),
        ];
        assert_eq!(
            numbers.map(|message| word(message.as_bytes(), 4)),
            [2, 3, 5]
        );
    }

    #[test]
    fn an_answer_is_read_from_the_same_places() {
        let mut bytes = [0_u8; SIZE];
        bytes[4..8].copy_from_slice(bytemuck::bytes_of(&5_u32));
        bytes[16..20].copy_from_slice(bytemuck::bytes_of(&10_u32));
        bytes[20..24].copy_from_slice(bytemuck::bytes_of(&60_u32));
        let answer = Message::from_bytes(&bytes);
        assert!(answer.is(Command::Status) && !answer.is(Command::OpenWatchdog));
        assert_eq!((answer.test_interval(), answer.fire_timeout()), (10, 60));
    }

    #[test]
    fn a_name_that_is_too_long_keeps_its_end_mark() {
        let register = Message::register(&"x".repeat(500));
        assert_eq!(register.as_bytes()[48 + 126..], [b'x', 0]);
    }
}
