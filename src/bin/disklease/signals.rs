//! Signals: the command's while it runs; ours before, and the end of the run.
//!
//! Whatever was locked by then is given back, the host id is left and the watchdog stood down: the
//! wait is ended, and the main thread clears up. Only where nothing of ours is on the disk, or it is
//! asked for twice and no watchdog is in use, the process ends at once.

use std::process::exit;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use disklease::__cli::is_ignored;
use disklease::CancelToken;
use rustix::process::Signal;
use signal_hook::consts::{FORBIDDEN, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::exit::Failure;
use crate::output::complain;

/// What is passed on.
const PASSED_ON: [(i32, Signal, &str); 4] = [
    (SIGTERM, Signal::TERM, "SIGTERM"),
    (SIGINT, Signal::INT, "SIGINT"),
    (SIGHUP, Signal::HUP, "SIGHUP"),
    (SIGQUIT, Signal::QUIT, "SIGQUIT"),
];

/// What would end this process, were it sent to all of its group: it is neither ours nor meant so.
fn unheeded() -> impl Iterator<Item = i32> {
    use signal_hook::consts::{SIGALRM, SIGIO, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM};
    let named = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO];
    // SIGSTKFLT and SIGPWR on most machines; then the real-time signals.
    named.into_iter().chain([16, 30]).chain(34..=64)
}

/// How far the run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was done yet.
    Starting,
    /// The watchdog is tried, or the host id claimed.
    Joining,
    /// It is waited for the owner of the host id.
    WaitingForOwner,
    /// The disks are being locked, or given back.
    Locking,
    /// What is sent is the command's.
    Running,
}

struct State {
    phase: Phase,
    has_watchdog: bool,
    /// Whether what is sent was the command's before.
    has_run: bool,
    /// The signal that ends the run.
    ended_by: Option<(i32, &'static str)>,
}

/// A thread that hears the signals.
#[derive(Clone)]
pub(crate) struct Signals {
    state: Arc<Mutex<State>>,
    cancel: CancelToken,
}

impl Signals {
    /// From now on a signal ends the run as far as it has come, or else is passed on.
    pub(crate) fn watch(
        has_watchdog: bool,
        pass_on: impl Fn(Signal) + Send + 'static,
    ) -> Result<Self, Failure> {
        let failed =
            |error| Failure::unavailable(format_args!("signals cannot be passed on: {error}"));
        // What is ignored already stays so, for the command as well: `nohup` and shells see to that.
        let heard = PASSED_ON.iter().map(|(number, ..)| *number);
        let heard: Vec<_> = heard.filter(|&number| !is_ignored(number)).collect();
        let mut signals = signal_hook::iterator::Signals::new(heard).map_err(failed)?;
        for number in unheeded().filter(|number| !FORBIDDEN.contains(number)) {
            if !is_ignored(number) {
                let nothing = Arc::new(AtomicBool::new(false));
                signal_hook::flag::register(number, nothing).map_err(failed)?;
            }
        }
        let this = Self {
            state: Arc::new(Mutex::new(State {
                phase: Phase::Starting,
                has_watchdog,
                has_run: false,
                ended_by: None,
            })),
            cancel: CancelToken::new(),
        };
        let hearing = this.clone();
        let hear = move || {
            for number in signals.forever() {
                let sent = PASSED_ON
                    .iter()
                    .find(|(passed_on, ..)| *passed_on == number);
                if let Some((number, signal, name)) = sent
                    && hearing.is_passed_on(*number, name)
                {
                    pass_on(*signal);
                }
            }
        };
        Builder::new()
            .name("dl-signals".to_owned())
            .spawn(hear)
            .map_err(failed)?;
        Ok(this)
    }

    /// Ends the run, if it is not the command's.
    fn is_passed_on(&self, number: i32, name: &'static str) -> bool {
        // Held all the while, so that no command is started.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at_once = match state.phase {
            Phase::Running => return true,
            Phase::Starting | Phase::WaitingForOwner => true,
            Phase::Joining | Phase::Locking => state.ended_by.is_some() && !state.has_watchdog,
        };
        if at_once {
            end(number, name, state.has_run);
        }
        if state.ended_by.is_none() {
            state.ended_by = Some((number, name));
            self.cancel.cancel();
            complain(&format_args!(
                "{name}: gives back what is locked and leaves the lockspace; once more ends at once, unless there is a watchdog"
            ));
        }
        false
    }

    /// Cancelled when a signal ends the run.
    pub(crate) const fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// Ends the run where it would only begin to wait, and a signal has ended it before.
    pub(crate) fn enter(&self, phase: Phase) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Phase::WaitingForOwner, Some((number, name))) = (&phase, state.ended_by) {
            end(number, name, state.has_run);
        }
        state.phase = phase;
    }

    /// From now on signals are passed on, unless one has ended the run before.
    pub(crate) fn pass_on(&self) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, name)) = state.ended_by {
            return Err(ended(name, false).of_signal(number));
        }
        state.has_run = true;
        state.phase = Phase::Running;
        Ok(())
    }

    /// What a run has failed by: the signal, if one has ended it.
    pub(crate) fn cause(&self, failure: Failure) -> Failure {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.ended_by {
            Some((number, name)) => ended(name, state.has_run).of_signal(number),
            None => failure,
        }
    }
}

fn end(number: i32, name: &'static str, has_run: bool) -> ! {
    ended(name, has_run).report();
    crate::logging::settle();
    exit(number.saturating_add(128));
}

fn ended(name: &str, has_run: bool) -> Failure {
    let what = if has_run {
        "ended before all disks were given back: other hosts wait until the leases have expired"
    } else {
        "ended before the command was started"
    };
    Failure::new(0, format_args!("{name}: {what}"))
}
