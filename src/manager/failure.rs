//! What is to be done about a guest whose lock is lost.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::AcquireError;
use crate::lockspace::LossReason;
use crate::world::OsError;

/// What is to be done when the locks of a request are lost: what libvirt calls `on_lockfailure`.
///
/// Whatever it is, it has until the end of the grace (see [`Timing::grace`]): **a holder that has
/// not said by then that it stopped is killed**, once a second until it is gone, except with
/// [`Ignore`](Self::Ignore). It says so by dropping, releasing or suspending its guard, or, where the
/// owner is another process, by ending. An action that hangs, fails or is refused changes nothing
/// about that.
///
/// [`Timing::grace`]: crate::timing::Timing::grace
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum FailureAction {
    /// The holder ends: another process that owns the locks is sent SIGTERM at once. This process,
    /// where it is the owner, is sent none: it is told as every holder is, by the guard.
    #[default]
    PowerOff,
    /// The guest is paused, its writes have ended, and the guard is suspended.
    Pause(Means),
    /// The guest is ended, and started again where its lock can be had.
    Restart(Means),
    /// A program is run.
    Helper(Helper),
    /// A function is called.
    Callback(Callback),
    /// Nothing is done, and nobody is killed: **the guest may go on to write to a disk that another
    /// host has taken.** The guard says that it is lost, as ever. Not to be had where a host
    /// watchdog is in force, which would reset the host.
    Ignore,
}

/// By what means a guest is paused or restarted: only its monitor can do that.
#[derive(Debug)]
#[non_exhaustive]
pub enum Means {
    /// The holder does it by itself when its guard tells of the loss. Only for this process.
    Holder,
    /// A program does it.
    Helper(Helper),
    /// A function does it.
    Callback(Callback),
}

/// A function to be called once, with the reason of the loss, on a thread of its own.
pub struct Callback(Box<dyn FnOnce(&LossReason) + Send>);

impl Callback {
    /// Calls `callback`. It may take its time, and may drop the guard. A panic of it ends there.
    #[must_use]
    pub fn new(callback: impl FnOnce(&LossReason) + Send + 'static) -> Self {
        Self(Box::new(callback))
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

/// A program to be run when locks are lost. It is started then, not before; its end is waited for
/// on a thread of its own and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    program: PathBuf,
    args: Vec<OsString>,
    /// Whether the action is its last argument, as libvirt's helper wants it.
    takes_action: bool,
}

impl Helper {
    /// The program at `program`, an absolute path.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            takes_action: false,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The action as the last argument: `pause`, `restart` or `poweroff`, as the [`FailureAction`]
    /// has it that this is part of.
    #[must_use]
    pub const fn append_action(mut self) -> Self {
        self.takes_action = true;
        self
    }

    /// A program that is called as libvirt's `libvirt_sanlock_helper` is: with the URI of the
    /// hypervisor, the UUID of the guest, and the action.
    #[must_use]
    pub fn for_libvirt(program: impl Into<PathBuf>, uri: &str, uuid: &str) -> Self {
        Self::new(program).arg(uri).arg(uuid).append_action()
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether it is there and a program, as each acquire sees to.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Helper`].
    pub fn check(&self) -> Result<(), AcquireError> {
        let refuse = |error| AcquireError::Helper {
            program: self.program.clone(),
            error,
        };
        if !self.program.is_absolute() {
            return Err(refuse(OsError::new(libc::EINVAL)));
        }
        let found = std::fs::metadata(&self.program).map_err(|error| refuse(error.into()))?;
        let can_run = found.is_file() && found.permissions().mode() & 0o111 != 0;
        if can_run {
            Ok(())
        } else {
            Err(refuse(OsError::new(libc::EACCES)))
        }
    }

    /// Runs it to its end.
    fn run(&self, action: &'static str) {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        if self.takes_action {
            command.arg(action);
        }
        let program = &self.program;
        match command.status() {
            Ok(status) if status.success() => {
                tracing::info!(?program, action, "the helper for a lost lock has ended");
            }
            Ok(status) => {
                tracing::error!(?program, action, %status, "the helper for a lost lock has failed");
            }
            Err(error) => {
                tracing::error!(?program, action, %error, "the helper for a lost lock cannot be run");
            }
        }
    }
}

/// What remains to be done of a [`FailureAction`], once.
pub(super) enum Deed {
    Run(Helper, &'static str),
    Call(Callback),
}

impl FailureAction {
    /// Whether a holder that does not stop is killed.
    pub(super) const fn is_fenced(&self) -> bool {
        !matches!(self, Self::Ignore)
    }

    /// Whether another process that owns the locks is asked to end at once.
    pub(super) const fn terminates(&self) -> bool {
        matches!(self, Self::PowerOff)
    }

    /// What can be told to be wrong before anything is locked. `is_foreign`: the owner is another
    /// process.
    pub(super) fn check(&self, is_foreign: bool) -> Result<(), AcquireError> {
        match self {
            Self::Pause(Means::Holder) | Self::Restart(Means::Holder) if is_foreign => {
                Err(AcquireError::NoMeans)
            }
            Self::Pause(Means::Helper(helper))
            | Self::Restart(Means::Helper(helper))
            | Self::Helper(helper) => helper.check(),
            _ => Ok(()),
        }
    }

    pub(super) fn into_deed(self) -> Option<Deed> {
        let by = |means, action| match means {
            Means::Holder => None,
            Means::Helper(helper) => Some(Deed::Run(helper, action)),
            Means::Callback(callback) => Some(Deed::Call(callback)),
        };
        match self {
            Self::PowerOff | Self::Ignore => None,
            Self::Pause(means) => by(means, "pause"),
            Self::Restart(means) => by(means, "restart"),
            Self::Helper(helper) => Some(Deed::Run(helper, "poweroff")),
            Self::Callback(callback) => Some(Deed::Call(callback)),
        }
    }
}

impl Deed {
    pub(super) fn do_it(self, reason: &LossReason) {
        match self {
            Self::Run(helper, action) => helper.run(action),
            Self::Call(Callback(callback)) => callback(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_cannot_be_run_is_refused_before_anything_is_locked() {
        let refused = |program: &str| match Helper::new(program).check() {
            Err(AcquireError::Helper { error, .. }) => error.errno(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("true"), libc::EINVAL);
        assert_eq!(refused("/no/such/program"), libc::ENOENT);
        assert_eq!(refused("/etc/passwd"), libc::EACCES);
        assert_eq!(refused("/"), libc::EACCES);
        assert!(Helper::new("/bin/true").check().is_ok());
    }

    #[test]
    fn only_a_holder_in_this_process_can_pause_itself() {
        let pause = || FailureAction::Pause(Means::Holder);
        assert!(pause().check(false).is_ok());
        assert!(matches!(pause().check(true), Err(AcquireError::NoMeans)));
    }

    #[test]
    fn libvirt_s_helper_is_called_with_uri_uuid_and_action() {
        let dir = tempfile::tempdir().unwrap();
        let (program, seen) = (dir.path().join("helper"), dir.path().join("seen"));
        let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\n", seen.display());
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let helper = || Helper::for_libvirt(&program, "qemu:///system", "the-uuid");
        for action in [
            FailureAction::Pause(Means::Helper(helper())),
            FailureAction::Restart(Means::Helper(helper())),
            FailureAction::Helper(helper()),
        ] {
            action.check(true).unwrap();
            action.into_deed().unwrap().do_it(&LossReason::NotRenewed);
        }
        let seen = std::fs::read_to_string(seen).unwrap();
        let call = |action| format!("qemu:///system\nthe-uuid\n{action}\n");
        assert_eq!(seen, ["pause", "restart", "poweroff"].map(call).concat());
    }
}
