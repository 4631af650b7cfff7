//! What is to be done about a guest whose lock is lost.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::error::{AcquireError, AcquireErrorKind};
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
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum FailureAction {
    /// The holder ends: another process that owns the locks is sent SIGTERM at once. This process,
    /// where it is the owner, is sent none: it is notified as every holder is, by the guard.
    #[default]
    PowerOff,
    /// The guest is paused, its writes have completed, and the guard is suspended.
    Pause(FailureMeans),
    /// The guest is ended, and started again where its lock is available.
    Restart(FailureMeans),
    /// A program is run.
    Helper(HelperProgram),
    /// A function is called.
    Callback(LossCallback),
    /// Nothing is done, and nobody is killed: **the guest may go on to write to a disk that another
    /// host has taken.** The guard says that it is lost, as ever. Not available where a host
    /// watchdog is in force, which would reset the host.
    Ignore,
}

/// By what means a guest is paused or restarted: only its monitor can do that.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FailureMeans {
    /// The embedder does it when its guard notifies it of the loss. Only where this process owns the locks.
    ByEmbedder,
    /// A program does it.
    ByHelper(HelperProgram),
    /// A function does it.
    ByCallback(LossCallback),
}

/// A function to be called with the reason of a loss, once for each guard, on a thread of its own.
#[derive(Clone)]
pub struct LossCallback(Arc<dyn Fn(&LossReason) + Send + Sync>);

impl LossCallback {
    /// Calls `callback`. It may take its time, and may drop the guard. A panic of it stops there.
    #[must_use]
    pub fn new(callback: impl Fn(&LossReason) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    pub(super) fn call(&self, reason: &LossReason) {
        (self.0)(reason);
    }
}

impl fmt::Debug for LossCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LossCallback")
    }
}

/// A program to be run when locks are lost. It is started then, not before; its end is waited for
/// on a thread of its own and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperProgram {
    program: PathBuf,
    args: Vec<OsString>,
    /// Whether the action is its last argument, as libvirt's helper wants it.
    takes_action: bool,
}

impl HelperProgram {
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

    /// Whether it is there and a program, which each acquire checks.
    ///
    /// # Errors
    ///
    /// [`AcquireErrorKind::Helper`].
    pub fn check(&self) -> Result<(), AcquireError> {
        let error = match std::fs::metadata(&self.program) {
            _ if !self.program.is_absolute() => OsError::new(libc::EINVAL),
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {
                return Ok(());
            }
            Ok(_) => OsError::new(libc::EACCES),
            Err(error) => OsError::from(error),
        };
        let program = self.program.clone();
        Err(AcquireErrorKind::Helper { program, error }.into())
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
                tracing::info!(?program, action, "the helper for a lost lock has succeeded");
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

impl FailureAction {
    /// Whether a holder that does not stop is killed.
    pub(super) const fn is_fenced(&self) -> bool {
        !matches!(self, Self::Ignore)
    }

    /// Whether another process that owns the locks is asked to end at once.
    pub(super) const fn terminates(&self) -> bool {
        matches!(self, Self::PowerOff)
    }

    /// What can be found wrong before anything is locked. `is_foreign`: the owner is another process.
    pub(super) fn check(&self, is_foreign: bool) -> Result<(), AcquireError> {
        use FailureMeans as By;
        match self {
            Self::Pause(By::ByEmbedder) | Self::Restart(By::ByEmbedder) if is_foreign => {
                Err(AcquireErrorKind::NoMeans.into())
            }
            Self::Pause(By::ByHelper(helper))
            | Self::Restart(By::ByHelper(helper))
            | Self::Helper(helper) => helper.check(),
            _ => Ok(()),
        }
    }

    /// What is to be called when the locks are lost, if anything.
    pub(super) fn callback(&self) -> Option<LossCallback> {
        let run = |helper: &HelperProgram, action| {
            let helper = helper.clone();
            Some(LossCallback::new(move |_| helper.run(action)))
        };
        let by = |means: &FailureMeans, action| match means {
            FailureMeans::ByEmbedder => None,
            FailureMeans::ByHelper(helper) => run(helper, action),
            FailureMeans::ByCallback(callback) => Some(callback.clone()),
        };
        match self {
            Self::PowerOff | Self::Ignore => None,
            Self::Pause(means) => by(means, "pause"),
            Self::Restart(means) => by(means, "restart"),
            Self::Helper(helper) => run(helper, "poweroff"),
            Self::Callback(callback) => Some(callback.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_cannot_be_run_is_refused_before_anything_is_locked() {
        let refused = |program: &str| {
            let refused = HelperProgram::new(program).check().unwrap_err();
            match refused.kind() {
                AcquireErrorKind::Helper { error, .. } => error.errno(),
                _ => panic!("{refused}"),
            }
        };
        assert_eq!(refused("true"), libc::EINVAL);
        assert_eq!(refused("/no/such/program"), libc::ENOENT);
        assert_eq!(refused("/etc/passwd"), libc::EACCES);
        assert_eq!(refused("/"), libc::EACCES);
        assert!(HelperProgram::new("/bin/true").check().is_ok());
    }

    #[test]
    fn only_an_embedder_that_owns_the_locks_can_pause_its_guest() {
        let pause = FailureAction::Pause(FailureMeans::ByEmbedder);
        assert_eq!(pause.check(false), Ok(()));
        assert_eq!(pause.check(true), Err(AcquireErrorKind::NoMeans.into()));
    }

    #[test]
    fn libvirt_s_helper_is_called_with_uri_uuid_and_action() {
        let dir = tempfile::tempdir().unwrap();
        let (program, seen) = (dir.path().join("helper"), dir.path().join("seen"));
        let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\n", seen.display());
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let helper = || HelperProgram::for_libvirt(&program, "qemu:///system", "the-uuid");
        for action in [
            FailureAction::Pause(FailureMeans::ByHelper(helper())),
            FailureAction::Restart(FailureMeans::ByHelper(helper())),
            FailureAction::Helper(helper()),
        ] {
            action.check(true).unwrap();
            action.callback().unwrap().call(&LossReason::NotRenewed);
        }
        let seen = std::fs::read_to_string(seen).unwrap();
        let call = |action| format!("qemu:///system\nthe-uuid\n{action}\n");
        assert_eq!(seen, ["pause", "restart", "poweroff"].map(call).concat());
    }
}
