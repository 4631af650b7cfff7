//! Another process that holds a lock: to be notified, to be stopped, and known to be gone.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::world::OsError;

/// A process, by a descriptor that stays its own though its number be given to another.
#[derive(Debug)]
pub struct OwnerProcess {
    pid: u32,
    fd: OwnedFd,
}

impl OwnerProcess {
    /// The process with this number, if there is one now.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is none.
    pub fn open(pid: u32) -> Result<Self, OsError> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| OsError::from(Errno::SRCH))?;
        let fd = pidfd_open(raw, PidfdFlags::empty()).map_err(OsError::from)?;
        let process = Self { pid, fd };
        // A zombie can be opened, and holds nothing any more.
        if process.has_ended() {
            return Err(OsError::from(Errno::SRCH));
        }
        Ok(process)
    }

    /// Its number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends the process a signal. Whether the process was there still.
    ///
    /// # Errors
    ///
    /// This process may not send it one.
    pub fn send(&self, signal: Signal) -> Result<bool, OsError> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(OsError::from(errno)),
        }
    }

    /// Whether the process could be sent a signal now. A process may change its user, and then be out of the
    /// reach of a manager without privileges.
    ///
    /// # Errors
    ///
    /// `EPERM` if not.
    pub fn check_reach(&self) -> Result<(), OsError> {
        // SAFETY: signal 0 is sent to nobody, and without a `siginfo`: the call reads no memory.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                0,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        let error = std::io::Error::last_os_error();
        match error.raw_os_error() {
            Some(errno) if sent != 0 && errno != libc::ESRCH => Err(OsError::new(errno)),
            _ => Ok(()),
        }
    }

    /// Whether all its threads have ended. What it had handed to the kernel may go on.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // What cannot be found out counts as running.
        matches!(poll(&mut fds, Some(&now)), Ok(ready) if ready > 0)
    }
}

impl AsFd for OwnerProcess {
    /// Readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_signalled_and_its_end_is_known() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = OwnerProcess::open(child.id()).unwrap();
        assert_eq!(process.pid(), child.id());
        assert!(!process.has_ended());
        assert_eq!(process.check_reach(), Ok(()));
        assert_eq!(process.send(Signal::KILL), Ok(true));
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        assert_eq!(poll(&mut fds, None), Ok(1));
        assert!(process.has_ended(), "though nobody has waited for it");
        let gone = OsError::from(Errno::SRCH);
        assert_eq!(OwnerProcess::open(child.id()).unwrap_err(), gone);
        child.wait().unwrap();
        assert_eq!(process.send(Signal::KILL), Ok(false));
        assert_eq!(
            process.check_reach(),
            Ok(()),
            "nobody is left to be reached"
        );
        assert!(process.has_ended());
        assert_eq!(OwnerProcess::open(child.id()).unwrap_err(), gone);
    }

    #[test]
    fn what_is_no_process_id_is_no_process() {
        for pid in [0, u32::MAX, i32::MAX.unsigned_abs()] {
            assert!(OwnerProcess::open(pid).is_err(), "{pid}");
        }
    }
}
