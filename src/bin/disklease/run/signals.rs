//! SIGTERM and SIGINT: the command's while it runs, ours before.

use std::process::exit;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use disklease::{LeaveError, Lockspace};
use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::child::Event;
use crate::exit::Failure;
use crate::output::complain;

/// What the command is sent when it must end.
pub(crate) const TERM: Signal = Signal::TERM;

/// Where the run is.
enum Phase {
    Joining,
    Locking(Lockspace),
    Running,
}

/// A thread that hears the signals.
pub(crate) struct Signals {
    phase: Arc<Mutex<Phase>>,
}

impl Signals {
    /// From now on a signal ends this process as far as the run has come, or else is told.
    pub(crate) fn watch(tell: Sender<Event>) -> Result<Self, Failure> {
        let failed =
            |error| Failure::unavailable(format_args!("signals cannot be passed on: {error}"));
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
        let phase = Arc::new(Mutex::new(Phase::Joining));
        let shared = Arc::clone(&phase);
        let hear = move || {
            for number in signals.forever() {
                let (signal, name) = match number {
                    SIGINT => (Signal::INT, "SIGINT"),
                    _ => (TERM, "SIGTERM"),
                };
                let phase = shared.lock().unwrap_or_else(PoisonError::into_inner);
                match &*phase {
                    // Held all the while, so that no command is started.
                    Phase::Joining => give_up(number, name, None),
                    Phase::Locking(lockspace) => give_up(number, name, Some(lockspace)),
                    // Nobody listens if the command has just ended.
                    Phase::Running => drop(tell.send(Event::Signal(signal))),
                }
            }
        };
        Builder::new()
            .name("dl-signals".to_owned())
            .spawn(hear)
            .map_err(failed)?;
        Ok(Self { phase })
    }

    /// The disks are being locked now.
    pub(crate) fn joined(&self, lockspace: &Lockspace) {
        self.enter(Phase::Locking(lockspace.clone()));
    }

    /// The command is being started now.
    pub(crate) fn locked(&self) {
        self.enter(Phase::Running);
    }

    /// Comes back only if no signal is just ending this process: what failed because of that is not
    /// what the run ended by.
    pub(crate) fn settle(&self) {
        drop(self.phase.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }
}

/// Ends this process. Whatever it holds is free when the time of its host id is over, or with the
/// next run of this host id. One that is just being joined is waited for by that, too.
fn give_up(number: i32, name: &str, lockspace: Option<&Lockspace>) -> ! {
    complain(&format_args!(
        "{name}: ended before the command was started"
    ));
    match lockspace.map(|lockspace| lockspace.clone().leave()) {
        // A lock is just being taken: its time is over with that of the host id.
        None | Some(Ok(()) | Err(LeaveError::InUse { .. })) => {}
        Some(Err(error)) => complain(&error),
    }
    crate::logging::settle();
    exit(number.saturating_add(128))
}
