//! The kernel's calls on a watchdog device (`linux/watchdog.h`).
#![allow(unsafe_code, reason = "device calls that no safe crate has")]

use std::fs::File;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Updater, ioctl, opcode};

use crate::fence::watchdog::DeviceLack;

/// The letter of all of them.
const GROUP: u8 = b'W';
const GET_SUPPORT: Opcode = opcode::read::<Info>(GROUP, 0);
/// The header says "read", and the kernel reads.
const SET_OPTIONS: Opcode = opcode::read::<i32>(GROUP, 4);
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(GROUP, 6);
const GET_TIMEOUT: Opcode = opcode::read::<i32>(GROUP, 7);

/// `WDIOS_DISABLECARD`.
const DISABLE: i32 = 1;

/// What a device says of itself: `struct watchdog_info`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

impl Info {
    const SET_TIMEOUT: u32 = 0x0080;
    const MAGIC_CLOSE: u32 = 0x0100;
    const KEEPALIVE: u32 = 0x8000;

    /// What the device cannot do, of all that is needed of it.
    pub(super) const fn lack(&self) -> Option<DeviceLack> {
        if self.options & Self::MAGIC_CLOSE == 0 {
            Some(DeviceLack::MagicClose)
        } else if self.options & Self::KEEPALIVE == 0 {
            Some(DeviceLack::Keepalive)
        } else if self.options & Self::SET_TIMEOUT == 0 {
            Some(DeviceLack::Timeout)
        } else {
            None
        }
    }

    pub(super) fn identity(&self) -> String {
        let end = self.identity.iter().position(|&byte| byte == 0);
        let name = self.identity.get(..end.unwrap_or(self.identity.len()));
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }
}

/// What `device` is. Fails with `ENOTTY` or the like where it is no watchdog.
pub(super) fn info(device: &File) -> Result<Info, Errno> {
    // SAFETY: the number says that the kernel writes a `struct watchdog_info`, which `Info` is,
    // field by field; each bit pattern is one of its values.
    let get = unsafe { Getter::<GET_SUPPORT, Info>::new() };
    // SAFETY: the call writes that one structure. What is no watchdog refuses the number, whose
    // group and size are those of watchdogs alone.
    unsafe { ioctl(device, get) }
}

/// Asks for a timeout of `secs` seconds.
pub(super) fn set_timeout(device: &File, secs: i32) -> Result<(), Errno> {
    let mut timeout = secs;
    // SAFETY: the number says that the kernel reads and writes one `int`.
    let set = unsafe { Updater::<SET_TIMEOUT, i32>::new(&mut timeout) };
    // SAFETY: the call reads and writes that `int`, which outlives it.
    unsafe { ioctl(device, set) }
}

/// Stops `device` now, whoever else has it open.
pub(super) fn disable(device: &File) -> Result<(), Errno> {
    let mut options = DISABLE;
    // SAFETY: the number says one `int`, which the kernel reads, and no driver writes.
    let set = unsafe { Updater::<SET_OPTIONS, i32>::new(&mut options) };
    // SAFETY: the call reads that `int`, or at most writes it, and it outlives the call. What is no
    // watchdog refuses the number.
    unsafe { ioctl(device, set) }
}

/// The timeout in force, in seconds.
pub(super) fn timeout(device: &File) -> Result<i32, Errno> {
    // SAFETY: the number says that the kernel writes one `int`.
    let get = unsafe { Getter::<GET_TIMEOUT, i32>::new() };
    // SAFETY: the call writes that `int`.
    unsafe { ioctl(device, get) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_s_header() {
        assert_eq!(
            [GET_SUPPORT, SET_OPTIONS, SET_TIMEOUT, GET_TIMEOUT].map(u64::from),
            [0x8028_5700, 0x8004_5704, 0xc004_5706, 0x8004_5707]
        );
    }

    #[test]
    fn what_is_no_watchdog_says_so() {
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(info(&file), Err(Errno::NOTTY)));
        assert!(timeout(&file).is_err() && set_timeout(&file, 60).is_err());
        assert!(disable(&file).is_err());
    }

    #[test]
    fn a_name_without_an_end_is_read_to_its_end() {
        let info = |identity| Info {
            options: 0x8180,
            firmware_version: 0,
            identity,
        };
        assert_eq!(info([b'x'; 32]).identity(), "x".repeat(32));
        let mut softdog = [0; 32];
        softdog[..7].copy_from_slice(b"Softdog");
        let softdog = info(softdog);
        assert_eq!(softdog.identity(), "Softdog");
        assert_eq!(softdog.lack(), None);
    }
}
