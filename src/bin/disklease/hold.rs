//! `disklease hold`: locks for a process that runs already.

mod warden;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use disklease::__cli::OwnerProcess;
use disklease::{LockGuard, LockManager as _, PaxosManager};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, test_kill_process};

use crate::exit::Failure;
use crate::output::complain;
use crate::run;
use crate::run::control::{ANSWERS_WITHIN, Message, hear, hear_within, say};
use crate::run::deadlines::{Deadlines, Ends};
use crate::session::{self, Plan, not_locked};
use crate::signals::{Phase, Signals};

pub(crate) use warden::{Args as WardenArgs, ward};

/// The name of the hidden command that stands beside a hold.
pub(crate) const WARDEN: &str = "__warden";

/// The exit code when the locks were lost.
const LOST: u8 = 137;

/// How many wardens are started one after the other.
const WARDENS: usize = 5;

/// Lock disks for a process that runs already, and give them back when it has ended
///
/// That one process counts, not what it has started. SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on
/// to it. Should the locks be lost, or this command be killed, it is sent SIGTERM, and SIGKILL when the
/// grace is over. Nothing ends it if this command, its warden and it are frozen together.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The process
    #[arg(long, value_name = "PID")]
    pid: u32,
    #[command(flatten)]
    session: session::Args,
}

enum Event {
    Signal(Signal),
    Lost(String),
    Ended,
    WardenGone,
}

pub(crate) fn hold(args: &Args) -> Result<ExitCode, Failure> {
    let pid = args.pid;
    // First of all: whatever is found out about the number later is about this very process.
    let process = OwnerProcess::open(pid);
    let process = process
        .map_err(|error| Failure::usage(format_args!("process {pid} cannot be held: {error}")))?;
    let process = Arc::new(process);
    let plan = Plan::of(&args.session, &format!("process {pid}"))?;
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(Err(error)) = number.map(test_kill_process)
        && plan.is_fenced()
        && !process.has_ended()
    {
        return Err(Failure::unavailable(format_args!(
            "process {pid} may not be sent signals ({error}), so that nothing could end it should its locks be lost"
        )));
    }
    let (tell, told) = channel();
    let passed_on = tell.clone();
    let pass_on = move |signal| drop(passed_on.send(Event::Signal(signal)));
    let signals = Signals::watch(plan.has_watchdog(), pass_on)?;
    let lockspace = plan
        .join(&signals, true)
        .map_err(|error| signals.cause(error))?;
    signals.enter(Phase::Locking);
    let manager = PaxosManager::new(lockspace.clone(), plan.directory());
    let manager = manager.map_err(Failure::unavailable)?;
    let hold = Hold {
        plan: &plan,
        manager: &manager,
        process,
        tell,
    };
    let ended = hold.lock(&signals, &told);
    drop(manager);
    if let Err(error) = lockspace.leave() {
        complain(&error);
    }
    ended
}

struct Hold<'a> {
    plan: &'a Plan<'a>,
    manager: &'a PaxosManager,
    process: Arc<OwnerProcess>,
    tell: Sender<Event>,
}

/// The warden that there is now.
type Current = Arc<Mutex<Option<Arc<UnixStream>>>>;

impl Hold<'_> {
    fn lock(&self, signals: &Signals, told: &Receiver<Event>) -> Result<ExitCode, Failure> {
        let ends = Ends::of(self.plan.timing());
        let current = Current::default();
        let (lost, warden) = (self.tell.clone(), Arc::clone(&current));
        let request = self
            .plan
            .request(self.process.pid(), signals.cancel(), move |reason| {
                if let Some(warden) = &*warden.lock().unwrap_or_else(PoisonError::into_inner) {
                    ends.tell_last(std::slice::from_ref(warden));
                }
                let _ = lost.send(Event::Lost(reason));
            });
        let landing = Arc::new(self.plan.landing());
        let landed = Arc::clone(&landing);
        let request = request.on_owner_end(move || landed.wait(|| {}));
        let guard = self.manager.acquire(request);
        let guard = guard.map_err(|error| signals.cause(not_locked(error)))?;
        let ended = self
            .listen()
            .and_then(|()| signals.pass_on())
            .and_then(|()| self.watch(&guard, &current, ends, told));
        signals.enter(Phase::Locking);
        if self.process.has_ended() {
            landing.wait(|| {});
        } else {
            // Before it is given back: whoever was not to be ended is not.
            complain(&format_args!(
                "process {} is not held any more",
                self.process.pid()
            ));
        }
        if let Err(error) = guard.release() {
            complain(&error);
        }
        if let Some(warden) = current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = say(&*warden, &Message::Released);
        }
        ended
    }

    /// From the lock to the end of the process.
    fn watch(
        &self,
        guard: &LockGuard,
        current: &Current,
        ends: Ends,
        told: &Receiver<Event>,
    ) -> Result<ExitCode, Failure> {
        let pid = self.process.pid();
        let mut wardens = WARDENS;
        let mut deadlines = self.start_warden(current, ends)?;
        complain(&format_args!("process {pid} is held"));
        let mut is_lost = false;
        loop {
            match told.recv().unwrap_or(Event::Ended) {
                Event::Signal(signal) => {
                    if let Err(error) = self.process.send(signal) {
                        complain(&format_args!(
                            "process {pid} cannot be sent a signal: {error}"
                        ));
                    }
                }
                Event::Lost(reason) => {
                    is_lost = !self.process.has_ended();
                    complain(&format_args!(
                        "THE LOCKS ARE LOST: {reason}. Process {pid} must not write any longer; other hosts may take the disks soon"
                    ));
                }
                // One that ends at once may be heard of before the loss.
                Event::Ended if is_lost || run::is_lost(guard) => {
                    return Err(Failure::new(
                        LOST,
                        "THE LOCKS WERE LOST, and the process has ended",
                    ));
                }
                Event::Ended => return Ok(ExitCode::SUCCESS),
                Event::WardenGone if self.process.has_ended() || !guard.is_held() => {}
                Event::WardenGone => {
                    drop(deadlines.take());
                    wardens = wardens.saturating_sub(1);
                    complain(&format_args!(
                        "the warden of process {pid} was killed: {}",
                        if wardens == 0 {
                            "once too often"
                        } else {
                            "another one is started"
                        }
                    ));
                    let started = if wardens == 0 {
                        Err(Failure::unavailable("process has no warden"))
                    } else {
                        self.start_warden(current, ends)
                    };
                    match started {
                        Ok(again) => deadlines = again,
                        Err(error) => {
                            error.report();
                            let sent = match self.process.send(Signal::TERM) {
                                Ok(_) => "it is sent SIGTERM".to_owned(),
                                Err(error) => format!("it cannot be sent SIGTERM ({error})"),
                            };
                            complain(&format_args!(
                                "process {pid}: {sent}, for nothing would end it should its locks be lost"
                            ));
                        }
                    }
                }
            }
        }
    }

    /// Tells of the end of the process.
    fn listen(&self) -> Result<(), Failure> {
        let (process, tell) = (Arc::clone(&self.process), self.tell.clone());
        let wait = move || {
            while !process.has_ended() {
                let _ = poll(&mut [PollFd::new(&*process, PollFlags::IN)], None);
            }
            let _ = tell.send(Event::Ended);
        };
        let started = Builder::new().name("dl-held".to_owned()).spawn(wait);
        started.map(drop).map_err(Failure::unavailable)
    }

    /// None where nothing is ended.
    fn start_warden(&self, current: &Current, ends: Ends) -> Result<Option<Deadlines>, Failure> {
        if !self.plan.is_fenced() {
            return Ok(None);
        }
        let failed = |error: &io::Error| {
            Failure::unavailable(format_args!("the process cannot have a warden: {error}"))
        };
        let (control, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
        let mut warden = Command::new("/proc/self/exe");
        warden
            .arg0("disklease-warden")
            .args([WARDEN, "--pid", &self.process.pid().to_string()])
            .stdin(OwnedFd::from(theirs));
        // It outlives us, and is adopted by others then. Until then its end is seen by the socket.
        let mut child = warden.spawn().map_err(|error| failed(&error))?;
        drop(warden);
        // By now it has opened the process, and as ours has not ended it is the same.
        let said = hear_within(&control, ANSWERS_WITHIN);
        if !matches!(said, Ok(Message::Ready)) || self.process.has_ended() {
            let _ = child.kill();
            return Err(failed(&io::Error::other(
                "the process or the warden has ended, or the warden does not answer",
            )));
        }
        let control = Arc::new(control);
        let deadlines = Deadlines::start(
            self.manager.lockspace(),
            std::slice::from_ref(&control),
            ends,
        );
        let deadlines = deadlines.map_err(|error| {
            // Should it only stand still: it is to end nothing later on.
            let _ = child.kill();
            failed(&error)
        })?;
        *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&control));
        let tell = self.tell.clone();
        let listen = move || {
            while hear(&*control).is_some() {}
            let _ = child.wait();
            let _ = tell.send(Event::WardenGone);
        };
        let thread = Builder::new().name("dl-warden".to_owned()).spawn(listen);
        thread.map_err(|error| failed(&error))?;
        Ok(Some(deadlines))
    }
}
