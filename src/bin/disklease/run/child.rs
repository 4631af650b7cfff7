//! The command while it runs, by way of its keeper and its guardian.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::Builder;

use disklease::die_with_this_thread;
use rustix::process::Signal;

use super::control::{ANSWERS_WITHIN, Message, hear, hear_within, say};
use super::keeper;
use super::offspring::adopt;
use super::{Containment, guardian, privileges};
use crate::exit::Failure;
use crate::output::complain;

/// What happens while the command runs.
#[derive(Debug)]
pub(crate) enum Event {
    /// We were sent this signal.
    Signal(Signal),
    /// The locks are lost, for this reason.
    Lost(String),
    /// Something was said.
    Said(Message),
    /// The guardian has ended and has not told what became of the command.
    Vanished,
}

/// The guardian of a command. The command inherits our standard streams, and no descriptor that we
/// have opened but the life lock, which is to be held for as long as any process below us lives.
pub(crate) struct Child {
    control: UnixStream,
    /// Who is told until when the command may live: the keeper first.
    keepers: Vec<Arc<UnixStream>>,
    guardian: u32,
    program: OsString,
    is_contained: bool,
}

/// Why there is no guardian.
enum Refusal {
    NotContained(io::Error),
    Failed(Failure),
}

fn not_guarded(error: &io::Error) -> Failure {
    Failure::unavailable(format_args!("the command cannot be guarded: {error}"))
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(not_guarded(&error))
    }
}

impl Child {
    /// Whether the kernel ends all that the command has started when its guardian ends.
    pub(crate) const fn is_contained(&self) -> bool {
        self.is_contained
    }

    /// Starts keeper and guardian, contained if that is wanted and can be had.
    pub(crate) fn prepare(
        mut args: guardian::Args,
        containment: Containment,
    ) -> Result<Self, Failure> {
        adopt().map_err(|error| not_guarded(&error))?;
        if containment != Containment::None {
            // The kernel kills all in there, whoever it runs as.
            let contained = guardian::Args {
                is_init: true,
                refuses_privileges: false,
                ..args.clone()
            };
            match Self::start(&contained) {
                Ok(child) => return Ok(child),
                Err(Refusal::Failed(failure)) => return Err(failure),
                Err(Refusal::NotContained(error)) if containment == Containment::Pidns => {
                    return Err(Failure::unavailable(format_args!(
                        "the command cannot have a PID namespace: {error}"
                    )));
                }
                Err(Refusal::NotContained(error)) => complain(&format_args!(
                    "the command has no PID namespace ({error}): should this program, its keeper and its guardian all be killed at once, what the command has started goes on"
                )),
            }
        }
        args.is_init = false;
        if args.refuses_privileges && privileges::reaches_all() {
            args.refuses_privileges = false;
        }
        if args.refuses_privileges
            && let Some(program) = args.command.first()
        {
            privileges::check(program)?;
        }
        Self::start(&args).map_err(|refusal| match refusal {
            Refusal::NotContained(error) => not_guarded(&error),
            Refusal::Failed(failure) => failure,
        })
    }

    fn start(args: &guardian::Args) -> Result<Self, Refusal> {
        let (control, theirs) = UnixStream::pair()?;
        let (keeper, of_keeper) = UnixStream::pair()?;
        // This very program, though another may have taken its place by now.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("disklease-keeper")
            .args(keeper::words(args))
            .stdin(OwnedFd::from(of_keeper));
        // The main thread, which lives as long as the process.
        let mut process = die_with_this_thread(&mut command).spawn()?;
        // Else the keeper's copy of it would not be the last one.
        drop(command);
        say(&keeper, &Message::Guard(theirs.into()))?;
        // Nothing of what is refused stays behind.
        let refused = |process: &mut std::process::Child, said: Option<Message>| {
            let _ = process.kill().and_then(|()| process.wait());
            Self::refused(said.as_ref())
        };
        let guardian = match hear_within(&keeper, ANSWERS_WITHIN).ok() {
            Some(Message::Guardian(pid)) => pid.unsigned_abs(),
            said => return Err(refused(&mut process, said)),
        };
        match hear_within(&control, ANSWERS_WITHIN).ok() {
            // The guardian was tied to its keeper before it said this, and the keeper lives.
            Some(Message::Ready) if process.try_wait()?.is_none() => {}
            said => return Err(refused(&mut process, said)),
        }
        let mut keepers = vec![Arc::new(keeper)];
        if !args.is_init {
            let (timer, theirs) = UnixStream::pair()?;
            say(&control, &Message::Deadlines(theirs.into()))?;
            keepers.push(Arc::new(timer));
        }
        Ok(Self {
            control,
            keepers,
            guardian,
            program: args.command.first().cloned().unwrap_or_default(),
            is_contained: args.is_init,
        })
    }

    fn refused(said: Option<&Message>) -> Refusal {
        match said {
            Some(Message::NotContained(error)) => {
                Refusal::NotContained(io::Error::from_raw_os_error(*error))
            }
            Some(Message::NotKept(error)) => io::Error::from_raw_os_error(*error).into(),
            _ => io::Error::other("its keeper or guardian has ended, or does not answer").into(),
        }
    }

    /// The process that lives as long as anything of the command does.
    pub(crate) const fn guardian(&self) -> u32 {
        self.guardian
    }

    /// Where keeper and guardian are told until when the command may live.
    pub(crate) fn keepers(&self) -> &[Arc<UnixStream>] {
        &self.keepers
    }

    /// Tells all that keeper and guardian say from now on.
    pub(crate) fn listen(&self, tell: &Sender<Event>) -> Result<(), Failure> {
        let keeper = self.keepers.first().map(|keeper| (&**keeper, false));
        for (socket, is_guardian) in keeper.into_iter().chain([(&self.control, true)]) {
            let socket = socket.try_clone().map_err(|error| not_guarded(&error))?;
            let tell = tell.clone();
            let listen = move || {
                while let Some(message) = hear(&socket) {
                    // Nobody listens any more if the run is over.
                    if tell.send(Event::Said(message)).is_err() {
                        return;
                    }
                }
                if is_guardian {
                    let _ = tell.send(Event::Vanished);
                }
            };
            let thread = Builder::new().name("dl-child".to_owned()).spawn(listen);
            thread.map_err(|error| not_guarded(&error))?;
        }
        Ok(())
    }

    /// Starts the command.
    pub(crate) fn start_command(&self) -> Result<(), Failure> {
        let input = io::stdin().as_fd().try_clone_to_owned();
        let started = input.and_then(|input| say(&self.control, &Message::Start(input)));
        started.map_err(|error| {
            Failure::unavailable(format_args!("the guardian of the command is gone: {error}"))
        })
    }

    /// Sends the command a signal.
    pub(crate) fn send(&self, signal: Signal) {
        if let Err(error) = say(&self.control, &Message::Signal(signal.as_raw())) {
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
