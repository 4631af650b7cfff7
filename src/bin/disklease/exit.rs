//! How the command ends: codes as in `sysexits.h`.

use std::fmt::Display;
use std::process::ExitCode;

use crate::output;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The command line asks for something that cannot be asked for.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(64, message)
    }

    /// The storage or the lockspace fails.
    pub(crate) fn unavailable(message: impl Display) -> Self {
        Self::new(69, message)
    }

    /// The output cannot be written.
    pub(crate) fn output(message: impl Display) -> Self {
        Self::new(74, message)
    }

    /// Another host has a disk.
    pub(crate) fn held(message: impl Display) -> Self {
        Self::new(75, message)
    }

    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// With the exit code that a shell gives what this signal has ended.
    pub(crate) fn of_signal(self, number: i32) -> Self {
        let code = u8::try_from(number.saturating_add(128)).unwrap_or(u8::MAX);
        Self { code, ..self }
    }

    /// Says why on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        output::complain(&self.message);
        ExitCode::from(self.code)
    }
}
