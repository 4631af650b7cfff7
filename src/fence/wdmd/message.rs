//! The one message of wdmd's protocol, the same in both directions.

use bytemuck::{Pod, Zeroable};

/// Bytes of a message.
pub(super) const SIZE: usize = 176;

/// Names have at most this many bytes, and a NUL.
const NAME_MAX: usize = 127;

/// Names this client, for wdmd's log. No answer.
pub(super) const REGISTER: u32 = 1;
/// wdmd is not to be stopped. No answer.
pub(super) const REFCOUNT_SET: u32 = 2;
/// wdmd may be stopped again. No answer.
pub(super) const REFCOUNT_CLEAR: u32 = 3;
/// When this client is to count as failed; 0: never. No answer.
pub(super) const TEST_LIVE: u32 = 4;
/// How does wdmd run?
pub(super) const STATUS: u32 = 5;
/// The device is to be opened with a fire timeout. wdmd of sanlock 3.8.5 and before knows no such
/// command and does not answer.
pub(super) const OPEN_WATCHDOG: u32 = 7;

/// As it goes over the socket, in this machine's byte order.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Message {
    magic: u32,
    /// May be any number in what was received.
    pub(super) command: u32,
    len: u32,
    flags: u32,
    /// Seconds.
    pub(super) test_interval: u32,
    /// Seconds.
    pub(super) fire_timeout: u32,
    last_keepalive: u64,
    /// Both times in seconds of `CLOCK_MONOTONIC`.
    renewal_time: u64,
    expire_time: u64,
    name: [u8; 128],
}

const _: () = assert!(size_of::<Message>() == SIZE, "no padding");

impl Message {
    pub(super) fn new(command: u32) -> Self {
        Self {
            command,
            ..Self::zeroed()
        }
    }

    pub(super) fn open_watchdog(fire_timeout: u32) -> Self {
        Self {
            fire_timeout,
            ..Self::new(OPEN_WATCHDOG)
        }
    }

    pub(super) fn test_live(renewal_time: u64, expire_time: u64) -> Self {
        Self {
            renewal_time,
            expire_time,
            ..Self::new(TEST_LIVE)
        }
    }

    pub(super) fn register(name: &str) -> Self {
        let mut message = Self::new(REGISTER);
        for (to, &byte) in message.name.iter_mut().zip(name.as_bytes()).take(NAME_MAX) {
            *to = byte;
        }
        message
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    pub(super) fn from_bytes(bytes: &[u8; SIZE]) -> Self {
        bytemuck::pod_read_unaligned(bytes)
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
    }

    #[test]
    fn an_answer_is_read_from_the_same_places() {
        let mut bytes = [0_u8; SIZE];
        bytes[4..8].copy_from_slice(bytemuck::bytes_of(&5_u32));
        bytes[16..20].copy_from_slice(bytemuck::bytes_of(&10_u32));
        bytes[20..24].copy_from_slice(bytemuck::bytes_of(&60_u32));
        let answer = Message::from_bytes(&bytes);
        assert!(answer.command == STATUS);
        assert_eq!((answer.test_interval, answer.fire_timeout), (10, 60));
    }

    #[test]
    fn a_name_that_is_too_long_keeps_its_end_mark() {
        let register = Message::register(&"x".repeat(500));
        assert_eq!(register.as_bytes()[48 + 126..], [b'x', 0]);
    }
}
