//! The command while it runs, by way of its guardian.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::Builder;

use rustix::process::Signal;

use super::control::{Message, hear, say};
use super::offspring::adopt;
use crate::exit::Failure;
use crate::output::complain;

/// What happens while the command runs.
#[derive(Debug)]
pub(crate) enum Event {
    /// We were sent this signal.
    Signal(Signal),
    /// The locks are lost, for this reason.
    Lost(String),
    /// The command runs, as this process.
    Started(i32),
    /// The command could not be started, for this error of the system's.
    NotStarted(i32),
    /// The command has ended, and this is the exit code to end with.
    Ended(u8),
    /// The guardian has ended and has not told what became of the command.
    Vanished,
}

/// The guardian of a command. The command inherits our standard streams, and no descriptor that we
/// have opened but the life lock, which is to be held for as long as any process below us lives.
pub(crate) struct Child {
    control: Arc<UnixStream>,
    pid: u32,
    program: OsString,
}

impl Child {
    /// Starts the guardian, which waits; tells what it has to tell.
    pub(crate) fn prepare(command: &[OsString], tell: Sender<Event>) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::unavailable(format_args!("the command cannot be guarded: {error}"))
        };
        adopt().map_err(failed)?;
        let (control, theirs) = UnixStream::pair().map_err(failed)?;
        // This very program, though another may have taken its place by now.
        let mut guardian = Command::new("/proc/self/exe");
        guardian
            .arg0("disklease")
            .arg(super::GUARDIAN)
            .arg("--")
            .args(command);
        let guardian = guardian
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .map_err(failed)?;
        let control = Arc::new(control);
        let heard = Arc::clone(&control);
        let listen = move || {
            loop {
                let event = match hear(&*heard) {
                    Some(Message::Started(pid)) => Event::Started(pid),
                    Some(Message::NotStarted(error)) => Event::NotStarted(error),
                    Some(Message::Exited(code)) => {
                        Event::Ended(u8::try_from(code).unwrap_or(u8::MAX))
                    }
                    Some(Message::Killed(signal)) => {
                        Event::Ended(u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX))
                    }
                    Some(Message::Start(_) | Message::Signal(_)) => continue,
                    None => Event::Vanished,
                };
                let is_last = !matches!(event, Event::Started(_));
                // Nobody listens any more if the run is over.
                if tell.send(event).is_err() || is_last {
                    return;
                }
            }
        };
        Builder::new()
            .name("dl-child".to_owned())
            .spawn(listen)
            .map_err(failed)?;
        Ok(Self {
            control,
            pid: guardian.id(),
            program: command.first().cloned().unwrap_or_default(),
        })
    }

    /// The process that lives as long as anything of the command does.
    pub(crate) const fn guardian(&self) -> u32 {
        self.pid
    }

    /// Starts the command.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let input = io::stdin().as_fd().try_clone_to_owned();
        let started = input.and_then(|input| say(&*self.control, &Message::Start(input)));
        started.map_err(|error| {
            Failure::unavailable(format_args!("the guardian of the command is gone: {error}"))
        })
    }

    /// Sends the command a signal.
    pub(crate) fn send(&self, signal: Signal) {
        if let Err(error) = say(&*self.control, &Message::Signal(signal.as_raw())) {
            complain(&format_args!(
                "the command cannot be sent a signal: {error}"
            ));
        }
    }

    /// Why the command could not be started.
    pub(crate) fn not_started(&self, error: i32) -> Failure {
        let error = io::Error::from_raw_os_error(error);
        let message = format!("{} cannot be started: {error}", self.program.display());
        match error.kind() {
            io::ErrorKind::NotFound => Failure::new(127, message),
            _ => Failure::new(126, message),
        }
    }
}
