//! The command while it runs, by way of its keeper and its guardian.

use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use disklease::die_with_this_thread;
use rustix::process::Signal;

use super::{guardian, keeper, privileges};
use crate::control::{ANSWERS_WITHIN, Kind, Message, beside, hand_over, receive_within, send};
use crate::exit::Failure;
use crate::logging::complain;
use crate::offspring::adopt;
use crate::session::{Event, Session};

/// What holds all processes that a command starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Containment {
    Auto,
    Pidns,
    None,
}

/// The guardian of a command. The command inherits our standard streams, and no descriptor that we
/// have opened but the process lock, which is to be held for as long as any process below us lives.
pub(crate) struct Child {
    control: UnixStream,
    /// The processes that are sent deadlines for the command: the keeper first.
    pub(crate) keepers: Vec<Arc<UnixStream>>,
    /// The process that lives as long as anything of the command does.
    pub(crate) guardian: u32,
    /// Whether the kernel ends all that the command has started when its guardian ends.
    pub(crate) is_contained: bool,
}

const NO_ANSWER: &str = "its keeper or guardian has ended, or does not answer within 15 s";

/// Why there is no guardian.
enum Refusal {
    NotContained(io::Error),
    Failed(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

pub(crate) fn not_guarded(error: impl Display) -> Failure {
    Failure::unavailable(format_args!("the command cannot be guarded: {error}"))
}

impl Child {
    /// Starts keeper and guardian, contained if that is wanted and available.
    pub(crate) fn prepare(
        mut args: guardian::Args,
        containment: Containment,
    ) -> Result<Self, Failure> {
        adopt().map_err(not_guarded)?;
        if containment != Containment::None {
            // The kernel kills all in there, whoever it runs as.
            let contained = guardian::Args {
                is_init: true,
                refuses_privileges: false,
                ..args.clone()
            };
            match Self::start(&contained) {
                Ok(child) => return Ok(child),
                Err(Refusal::Failed(error)) => return Err(not_guarded(error)),
                Err(Refusal::NotContained(error)) if containment == Containment::Pidns => {
                    return Err(Failure::unavailable(format_args!(
                        "the command cannot have a PID namespace: {error}"
                    )));
                }
                Err(Refusal::NotContained(error)) => complain!(
                    "the command has no PID namespace ({error}): should this program, its keeper and its guardian all be killed at once, what the command has started goes on"
                ),
            }
        }
        args.refuses_privileges &= !privileges::reaches_all();
        if args.refuses_privileges
            && let Some(program) = args.job.command.first()
        {
            privileges::check(program)?;
        }
        let child = Self::start(&args);
        child.map_err(|(Refusal::NotContained(error) | Refusal::Failed(error))| not_guarded(error))
    }

    fn start(args: &guardian::Args) -> Result<Self, Refusal> {
        let (control, theirs) = UnixStream::pair()?;
        let (keeper, of_keeper) = UnixStream::pair()?;
        let mut command = beside("disklease-keeper", of_keeper.into());
        command.arg(keeper::NAME).args(args.to_words());
        // The main thread, which lives as long as the process.
        let mut process = die_with_this_thread(&mut command).spawn()?;
        // So that the keeper has the last copy of its socket.
        drop(command);
        hand_over(&keeper, Kind::Guard, theirs.into())?;
        let guardian = match receive_within(&keeper, ANSWERS_WITHIN) {
            Ok(said) if said.kind == Kind::Guardian => {
                match receive_within(&control, ANSWERS_WITHIN) {
                    // The guardian was tied to its keeper before it sent this, and the keeper lives.
                    Ok(ready) if ready.kind == Kind::Ready && process.try_wait()?.is_none() => {
                        Ok(said.number().unsigned_abs())
                    }
                    said => Err(said),
                }
            }
            said => Err(said),
        };
        let guardian = guardian.map_err(|said| {
            // Nothing of what is refused stays behind.
            let _ = process.kill().and_then(|()| process.wait());
            let error = |said: &Message| io::Error::from_raw_os_error(said.number());
            match said {
                Ok(said) if said.kind == Kind::NotContained => Refusal::NotContained(error(&said)),
                Ok(said) if said.kind == Kind::NotKept => Refusal::Failed(error(&said)),
                _ => Refusal::Failed(io::Error::other(NO_ANSWER)),
            }
        })?;
        let mut keepers = vec![Arc::new(keeper)];
        if !args.is_init {
            let (timer, theirs) = UnixStream::pair()?;
            hand_over(&control, Kind::Deadlines, theirs.into())?;
            keepers.push(Arc::new(timer));
        }
        Ok(Self {
            control,
            keepers,
            guardian,
            is_contained: args.is_init,
        })
    }

    /// From now on what keeper and guardian send are events.
    pub(crate) fn listen(&self, session: &Session<'_>) -> io::Result<()> {
        if let Some(keeper) = self.keepers.first() {
            session.listen(Arc::clone(keeper), || None)?;
        }
        session.listen(self.control.try_clone()?, || Some(Event::Ended))
    }

    /// Starts the command.
    pub(crate) fn start_command(&self) -> Result<(), Failure> {
        let input = io::stdin().as_fd().try_clone_to_owned();
        let started = input.and_then(|input| hand_over(&self.control, Kind::Start, input));
        started.map_err(|error| {
            Failure::unavailable(format_args!("the guardian of the command is gone: {error}"))
        })
    }

    /// Sends the command a signal.
    pub(crate) fn send(&self, signal: Signal) {
        let message = Message::with(Kind::Signal, signal.as_raw());
        if let Err(error) = send(&self.control, message) {
            complain!("the command cannot be sent a signal: {error}");
        }
    }
}
