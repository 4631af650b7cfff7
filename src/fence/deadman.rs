//! A timer in the kernel that kills this process, unless it is armed anew in time.
//!
//! It needs no thread, no daemon and no privilege. It runs on `CLOCK_BOOTTIME`, which goes on while
//! the machine is suspended: then it fires as soon as that wakes. SIGKILL also ends a process that
//! is stopped by SIGSTOP, or whose threads all hang in calls that can be interrupted.
//!
//! * **fork**: the child has no timer. It has no lock either: a child's copy of a guard is not to be
//!   asked.
//! * **exec**: the timer is gone with the program that held the locks. What is run instead must not
//!   write to the disks.
//! * **process 1** of a PID namespace is not killed by it: see [`Deadman::is_of_use`].

#![allow(unsafe_code)]

use std::{io, mem, ptr};

use rustix::process::Signal;

use crate::world::{OsError, Timestamp};

/// The timer. Disarmed when made; gone when dropped.
#[derive(Debug)]
pub struct Deadman {
    timer: libc::timer_t,
    /// The process whose timer it is: in a forked child the same number may be another's.
    pid: u32,
}

// SAFETY: `timer_t` is a pointer by type only: the kernel's number of a timer of the process, which
// every thread may use. The calls are made with `&self` and touch nothing of ours.
unsafe impl Send for Deadman {}
// SAFETY: as above.
unsafe impl Sync for Deadman {}

impl Deadman {
    /// Whether a timer can kill this process at all. The kernel spares process 1 of a PID namespace,
    /// as the first process of a container is: only what comes from outside can kill that.
    #[must_use]
    pub fn is_of_use() -> bool {
        std::process::id() != 1
    }

    /// A timer that is not armed.
    ///
    /// # Errors
    ///
    /// The kernel has no room for another timer (`EAGAIN`, by `RLIMIT_SIGPENDING`), or the call is
    /// forbidden in a jail.
    pub fn new() -> Result<Self, OsError> {
        Self::with(Signal::KILL)
    }

    /// A timer that kills nobody: should this process be stopped, it goes on then.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    #[cfg(feature = "cli")]
    pub fn that_wakes() -> Result<Self, OsError> {
        Self::with(Signal::CONT)
    }

    fn with(signal: Signal) -> Result<Self, OsError> {
        // SAFETY: all bytes zero are a `sigevent`: numbers, and a union of a number and pointers.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = signal.as_raw();
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both pointers are to live locals of the types that the call wants; it keeps none.
        let made =
            unsafe { libc::timer_create(libc::CLOCK_BOOTTIME, &raw mut event, &raw mut timer) };
        if made != 0 {
            return Err(last_error());
        }
        Ok(Self {
            timer,
            pid: std::process::id(),
        })
    }

    /// This process is killed at `at` of [`clock::now`](crate::runtime::clock::now), unless the timer
    /// is armed anew or disarmed before; at once if that is past.
    ///
    /// # Errors
    ///
    /// In a forked child, which has no timer; else only if the call is forbidden in a jail.
    pub fn arm(&self, at: Timestamp) -> Result<(), OsError> {
        // Zero would disarm it. What is past fires at once.
        self.set(at.as_nanos().max(1))
    }

    /// Nobody is killed.
    ///
    /// # Errors
    ///
    /// As [`Self::arm`].
    pub fn disarm(&self) -> Result<(), OsError> {
        self.set(0)
    }

    fn set(&self, nanos: u64) -> Result<(), OsError> {
        if self.pid != std::process::id() {
            return Err(OsError::new(libc::ESRCH));
        }
        let never = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = libc::itimerspec {
            it_interval: never,
            it_value: libc::timespec {
                tv_sec: libc::time_t::try_from(nanos / 1_000_000_000).unwrap_or(libc::time_t::MAX),
                tv_nsec: libc::c_long::try_from(nanos % 1_000_000_000).unwrap_or(0),
            },
        };
        // SAFETY: the timer is this process's and lives until the drop; `value` is a live local,
        // which the call only reads; no old value is asked for.
        let set = unsafe {
            libc::timer_settime(
                self.timer,
                libc::TIMER_ABSTIME,
                &raw const value,
                ptr::null_mut(),
            )
        };
        if set == 0 { Ok(()) } else { Err(last_error()) }
    }
}

impl Drop for Deadman {
    fn drop(&mut self) {
        if self.pid == std::process::id() {
            // SAFETY: it is this process's timer, and nothing uses it after this.
            unsafe { libc::timer_delete(self.timer) };
        }
    }
}

fn last_error() -> OsError {
    io::Error::last_os_error().into()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the timer is the kernel's")]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::runtime::clock;

    /// For whoever has to do something before it fires, on a busy machine.
    const LATER: Duration = Duration::from_secs(2);

    /// Runs this test program's test `name` alone in a process of its own, which is killed by its
    /// deadman or ends well.
    fn run_alone(name: &str) -> std::process::ExitStatus {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", name])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = clock::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if clock::now().since(begun) > Duration::from_secs(60) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{name} has not ended");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    #[ignore = "is killed: run by another test"]
    fn victim_that_sleeps() {
        let deadman = Deadman::new().unwrap();
        deadman
            .arm(clock::now() + Duration::from_millis(100))
            .unwrap();
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    #[ignore = "is killed: run by another test"]
    fn victim_that_stops_itself() {
        let deadman = Deadman::new().unwrap();
        deadman
            .arm(clock::now() + Duration::from_millis(100))
            .unwrap();
        rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    #[ignore = "is killed: run by another test"]
    fn victim_of_a_time_that_is_past() {
        let deadman = Deadman::new().unwrap();
        deadman.arm(Timestamp::default()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    #[ignore = "needs a process of its own: run by another test"]
    fn survivor() {
        let deadman = Deadman::new().unwrap();
        let later = || clock::now() + LATER;
        for _ in 0..12 {
            deadman.arm(later()).unwrap();
            std::thread::sleep(LATER / 10);
        }
        deadman.disarm().unwrap();
        std::thread::sleep(LATER);
        deadman.arm(later()).unwrap();
        drop(deadman);
        std::thread::sleep(LATER);
    }

    #[test]
    #[ignore = "becomes another program: run by another test"]
    fn survivor_by_exec() {
        use std::os::unix::process::CommandExt as _;

        let deadman = Deadman::new().unwrap();
        deadman.arm(clock::now() + LATER).unwrap();
        let error = Command::new("sleep").arg("3").exec();
        panic!("sleep cannot be run: {error}");
    }

    #[test]
    #[ignore = "forks: run by another test"]
    fn survivor_by_fork() {
        let deadman = Deadman::new().unwrap();
        deadman.arm(clock::now() + LATER).unwrap();
        // SAFETY: the child sleeps, asks for a timer that it has not, and ends without clean-up.
        let child = unsafe { libc::fork() };
        if child == 0 {
            std::thread::sleep(LATER);
            let is_none_of_ours = deadman.arm(Timestamp::default()).is_err();
            // SAFETY: it ends the process.
            unsafe { libc::_exit(if is_none_of_ours { 7 } else { 8 }) };
        }
        deadman.disarm().unwrap();
        let child = rustix::process::Pid::from_raw(child);
        let none = rustix::process::WaitOptions::empty();
        let (_, ended) = rustix::process::waitpid(child, none).unwrap().unwrap();
        assert_eq!(ended.exit_status(), Some(7));
    }

    #[cfg(feature = "cli")]
    #[test]
    #[ignore = "stops itself: run by another test"]
    fn survivor_that_is_woken() {
        let deadman = Deadman::that_wakes().unwrap();
        deadman
            .arm(clock::now() + Duration::from_millis(100))
            .unwrap();
        // As a keeper has it.
        crate::fence::SignalMask::block_all().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).unwrap();
        // Another thread may be the first to be notified, and this one a little later.
        std::thread::sleep(Duration::from_millis(300));
    }

    #[cfg(feature = "cli")]
    #[test]
    fn it_spares_and_wakes_whoever_wants_to_be_woken() {
        let begun = clock::now();
        let ended = run_alone("fence::deadman::tests::survivor_that_is_woken");
        assert!(ended.success(), "{ended}");
        assert!(clock::now().since(begun) >= Duration::from_millis(100));
    }

    #[test]
    fn neither_a_forked_child_nor_a_program_that_is_run_instead_has_it() {
        for survivor in ["survivor_by_exec", "survivor_by_fork"] {
            let ended = run_alone(&format!("fence::deadman::tests::{survivor}"));
            assert!(ended.success(), "{survivor}: {ended}");
        }
    }

    #[test]
    fn it_kills_whoever_does_not_arm_it_anew_also_one_that_is_stopped() {
        for victim in [
            "victim_that_sleeps",
            "victim_that_stops_itself",
            "victim_of_a_time_that_is_past",
        ] {
            let ended = run_alone(&format!("fence::deadman::tests::{victim}"));
            assert_eq!(ended.signal(), Some(libc::SIGKILL), "{victim}: {ended}");
        }
    }

    #[test]
    fn it_spares_whoever_arms_it_anew_disarms_it_or_drops_it() {
        let ended = run_alone("fence::deadman::tests::survivor");
        assert!(ended.success(), "{ended}");
    }
}
