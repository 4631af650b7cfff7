//! The command while it runs.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitCode};
use std::sync::mpsc::Sender;
use std::thread::Builder;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::exit::Failure;
use crate::output::complain;

/// What happens while the command runs.
pub(crate) enum Event {
    /// We were sent this signal.
    Signal(Signal),
    /// The locks are lost, for this reason.
    Lost(String),
    /// The command has ended.
    Ended,
}

/// The command. It inherits our standard streams, and no descriptor that we have opened but the
/// life lock, which is to be held for as long as any process below us lives.
pub(crate) struct Child(process::Child);

impl Child {
    /// Starts the command; tells its end.
    pub(crate) fn start(command: &[OsString], tell: Sender<Event>) -> Result<Self, Failure> {
        let (program, args) = command.split_first().unzip();
        let program = program.cloned().unwrap_or_default();
        let started = Command::new(&program)
            .args(args.unwrap_or_default())
            .spawn();
        let mut child = started
            .map(Self)
            .map_err(|error| Failure::not_started(&program, &error))?;
        let pid = child.pid();
        let watch = move || {
            // Leaves it unreaped, so that its id stays its own while it may be sent signals.
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), ended) {}
            // Nobody listens if it was killed below.
            let _ = tell.send(Event::Ended);
        };
        if let Err(error) = Builder::new().name("dl-child".to_owned()).spawn(watch) {
            child.kill();
            return Err(Failure::unavailable(format_args!(
                "no thread can be started to watch the command: {error}"
            )));
        }
        Ok(child)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal. Not after [`Child::wait`].
    pub(crate) fn send(&self, signal: Signal) {
        // ESRCH is not to be had: it is reaped only by `wait`, which takes it away.
        if let Err(error) = kill_process(self.pid(), signal) {
            complain(&format_args!(
                "process {} cannot be sent a signal: {error}",
                self.id()
            ));
        }
    }

    /// Its exit code, or 128 and the number of the signal that ended it.
    pub(crate) fn wait(mut self) -> Result<ExitCode, Failure> {
        let status = self.0.wait().map_err(|error| {
            Failure::unavailable(format_args!("the end of the command is not known: {error}"))
        })?;
        let code = match (status.code(), status.signal()) {
            (Some(code), _) => code,
            (None, signal) => signal.unwrap_or_default().saturating_add(128),
        };
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
    }

    fn kill(&mut self) {
        let killed = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = killed {
            complain(&format_args!("process {}: {error}", self.id()));
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Failure {
    fn not_started(program: &OsString, error: &io::Error) -> Self {
        let message = format!("{} cannot be started: {error}", program.display());
        match error.kind() {
            io::ErrorKind::NotFound => Self::new(127, message),
            _ => Self::new(126, message),
        }
    }
}
