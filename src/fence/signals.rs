//! Signals that are read, not handled: blocked, and taken from a descriptor.
//!
//! For a process that must not be ended by a signal to its whole group, and has no thread to handle
//! signals.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{fmt, io, mem, ptr};

use rustix::process::Signal;

/// The signals that a thread had blocked.
#[derive(Clone, Copy)]
pub struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// Blocks every signal that can be blocked, for this thread and those that it starts from now
    /// on. Gives what was blocked before.
    ///
    /// # Errors
    ///
    /// Only if the call is forbidden in a jail.
    pub fn block_all() -> io::Result<Self> {
        let mut all = empty_set();
        // SAFETY: it writes the set, a live local.
        unsafe { libc::sigfillset(&raw mut all) };
        let mut before = empty_set();
        // SAFETY: both are live locals; the call reads one and writes the other.
        let failed =
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        if failed == 0 {
            Ok(Self(before))
        } else {
            Err(io::Error::from_raw_os_error(failed))
        }
    }

    /// The process that `command` starts has this mask again.
    pub fn restore_in(self, command: &mut Command) -> &mut Command {
        let restore = move || {
            // SAFETY: it reads a set that the closure owns; no old mask is asked for.
            let failed = unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut())
            };
            if failed == 0 {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(failed))
            }
        };
        // SAFETY: between fork and exec it makes one system call; it takes no lock and allocates
        // nothing, nor does the error it makes.
        unsafe { command.pre_exec(restore) }
    }
}

impl fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalMask").finish_non_exhaustive()
    }
}

/// Some signals, as a descriptor that is readable while one of them is pending. They must be blocked.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// For these signals.
    ///
    /// # Errors
    ///
    /// No descriptor is available.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let mut set = empty_set();
        for signal in signals {
            // SAFETY: it writes the set, a live local; the number is that of a signal.
            unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
        }
        // SAFETY: it reads the set, a live local.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made it, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The number of the next of them that has come, if one has.
    #[must_use]
    pub fn next(&self) -> Option<i32> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.0, &mut record);
        // The number is the first field, of four bytes.
        let number = record.get(..4).filter(|_| read == Ok(record.len()))?;
        i32::try_from(bytemuck::pod_read_unaligned::<u32>(number)).ok()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether this process was started to ignore the signal, as `nohup` and shells do it.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: all bytes zero are a `sigaction`: numbers, and no function.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: it changes nothing, and writes a live local.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: all bytes zero are the empty set on Linux: a field of bits.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_blocked_can_be_read_and_a_child_has_the_old_mask() {
        std::thread::spawn(|| {
            let before = SignalMask::block_all().unwrap();
            let signals = SignalFd::new(&[Signal::URG]).unwrap();
            assert_eq!(signals.next(), None);
            // Ignored by all threads that do not block it.
            let blocked = |command: &mut Command| {
                let status = command.args(["SigBlk", "/proc/self/status"]).output();
                String::from_utf8(status.unwrap().stdout).unwrap()
            };
            let inherited = blocked(&mut Command::new("grep"));
            let restored = blocked(before.restore_in(&mut Command::new("grep")));
            assert_ne!(inherited, restored);
            assert!(
                restored.trim_end().ends_with("0000000000000000"),
                "{restored}"
            );
            assert!(!is_ignored(libc::SIGUSR1) && is_ignored(libc::SIGPIPE));
        })
        .join()
        .unwrap();
    }
}
