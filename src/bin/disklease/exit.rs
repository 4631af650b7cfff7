//! How the command ends: codes as in `sysexits.h`.

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

use crate::logging::complain;

/// Another host has a disk.
pub(crate) const HELD: u8 = 75;

/// The holder of the locks was killed, or the locks were lost.
pub(crate) const KILLED: u8 = 137;

/// The output cannot be written.
pub(crate) const NO_OUTPUT: u8 = 74;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        let message = message.to_string();
        Self { code, message }
    }

    /// The command line asks for something that cannot be asked for.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(64, message)
    }

    /// The storage or the lockspace fails.
    pub(crate) fn unavailable(message: impl Display) -> Self {
        Self::new(69, message)
    }

    /// Says why on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        complain!("{}", self.message);
        ExitCode::from(self.code)
    }
}

/// Where nothing else is said of an error, the storage or the lockspace fails.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::unavailable(error)
    }
}

/// The exit code that a shell gives a command that this signal has ended.
pub(crate) fn of_signal(number: i32) -> u8 {
    u8::try_from(number.saturating_add(128)).unwrap_or(u8::MAX)
}
