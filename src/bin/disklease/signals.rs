//! Signals: the command's while it runs; ours before, and the end of the run.
//!
//! A signal before the command runs, or after it, cancels what is waited for; the main thread then gives back
//! what was locked, leaves the host id and stands the watchdog down. The process ends at once only where nothing
//! of ours is on the disk, or at a second signal if no watchdog is in use.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::Builder;

use disklease::__cli::is_ignored;
use disklease::CancelToken;
use parking_lot::Mutex;
use rustix::process::Signal;
use signal_hook::consts::{FORBIDDEN, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::signal_name;

use crate::exit::{self, Failure};
use crate::logging::{self, complain};

/// The signals that are passed on.
const PASSED_ON: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];

/// Signals that end a process which does not handle them. Sent to the whole process group they are the command's
/// alone, and must not end this process.
fn unheeded() -> impl Iterator<Item = i32> {
    use signal_hook::consts::{SIGALRM, SIGIO, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM};
    let named = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO];
    // SIGSTKFLT and SIGPWR on most machines; then the real-time signals.
    named.into_iter().chain([16, 30]).chain(34..=64)
}

/// How far the run or hold has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was done yet.
    #[default]
    Starting,
    /// The watchdog is tried, or the host id claimed.
    Joining,
    /// The join waits for the owner of the host id.
    WaitingForOwner,
    /// The disks are being locked, or given back.
    Locking,
    /// Signals are the command's.
    Running,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// Whether signals were the command's before.
    has_run: bool,
    /// The signal that ends the run.
    ended_by: Option<i32>,
}

/// The thread that receives the signals, and how far the run has come.
#[derive(Clone)]
pub(crate) struct Signals {
    state: Arc<Mutex<State>>,
    has_watchdog: bool,
    /// What a signal prevents that comes before it.
    not_begun: &'static str,
    /// Cancelled when a signal ends the run.
    pub(crate) cancel: CancelToken,
}

impl Signals {
    /// From now on a signal ends the run, as far as the run has come, or else is passed on.
    pub(crate) fn watch(
        has_watchdog: bool,
        not_begun: &'static str,
        pass_on: impl Fn(Signal) + Send + 'static,
    ) -> Result<Self, Failure> {
        let failed =
            |error| Failure::unavailable(format_args!("signals cannot be passed on: {error}"));
        // What is ignored already stays so, for the command as well: `nohup` and shells see to that.
        let wanted = PASSED_ON.into_iter().filter(|&number| !is_ignored(number));
        let mut signals = signal_hook::iterator::Signals::new(wanted).map_err(failed)?;
        for number in unheeded() {
            if !is_ignored(number) && !FORBIDDEN.contains(&number) {
                let nothing = Arc::new(AtomicBool::new(false));
                signal_hook::flag::register(number, nothing).map_err(failed)?;
            }
        }
        let this = Self {
            state: Arc::default(),
            has_watchdog,
            not_begun,
            cancel: CancelToken::new(),
        };
        let receiver = this.clone();
        let receive = move || {
            for number in signals.forever() {
                if receiver.is_passed_on(number)
                    && let Some(signal) = Signal::from_named_raw(number)
                {
                    pass_on(signal);
                }
            }
        };
        let thread = Builder::new().name("dl-signals".to_owned());
        thread.spawn(receive).map_err(failed)?;
        Ok(this)
    }

    /// Whether the signal is the command's. Any other signal ends the run.
    fn is_passed_on(&self, number: i32) -> bool {
        // Locked all the while, so that no command is started.
        let mut state = self.state.lock();
        let at_once = match state.phase {
            Phase::Running => return true,
            Phase::Starting | Phase::WaitingForOwner => true,
            Phase::Joining | Phase::Locking => state.ended_by.is_some() && !self.has_watchdog,
        };
        if at_once {
            self.end(number, state.has_run);
        }
        if state.ended_by.is_none() {
            state.ended_by = Some(number);
            self.cancel.cancel();
            complain!(
                "{}: gives back what is locked and leaves the lockspace; once more ends at once, unless there is a watchdog",
                name(number)
            );
        }
        false
    }

    /// Notes how far the run has come. Ends the process where the run would start to wait although a signal has ended the run.
    pub(crate) fn enter(&self, phase: Phase) {
        let mut state = self.state.lock();
        if let (Phase::WaitingForOwner, Some(number)) = (phase, state.ended_by) {
            self.end(number, state.has_run);
        }
        state.phase = phase;
    }

    /// From now on signals are passed on, unless a signal has ended the run before.
    pub(crate) fn pass_on(&self) -> Result<(), Failure> {
        let mut state = self.state.lock();
        if let Some(number) = state.ended_by {
            return Err(self.ended(number, false));
        }
        state.has_run = true;
        state.phase = Phase::Running;
        Ok(())
    }

    /// Why a run has failed: by the signal that has ended the run, if any, else by `failure`.
    pub(crate) fn cause(&self, failure: Failure) -> Failure {
        let state = self.state.lock();
        match state.ended_by {
            Some(number) => self.ended(number, state.has_run),
            None => failure,
        }
    }

    fn end(&self, number: i32, has_run: bool) -> ! {
        self.ended(number, has_run).report();
        logging::flush();
        std::process::exit(exit::of_signal(number).into());
    }

    fn ended(&self, number: i32, has_run: bool) -> Failure {
        let before = if has_run {
            "all disks were given back: other hosts wait until the leases have expired"
        } else {
            self.not_begun
        };
        Failure::new(
            exit::of_signal(number),
            format_args!("{}: ended before {before}", name(number)),
        )
    }
}

fn name(number: i32) -> &'static str {
    signal_name(number).unwrap_or("a signal")
}
