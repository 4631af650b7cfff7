//! `disklease hold`: locks for a process that runs already.

mod warden;

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::slice;
use std::sync::Arc;
use std::thread::Builder;

use disklease::__cli::OwnerProcess;
use disklease::{LockGuard, PaxosManager};
use rustix::process::Signal;

use crate::control::{ANSWERS_WITHIN, Kind, beside, poll_any, receive_within};
use crate::deadlines::{Deadlines, Keepers};
use crate::exit::{Failure, KILLED};
use crate::logging::complain;
use crate::session::{self, Event, Session, is_lost, release, tell_loss};
use crate::signals::Phase;

pub(crate) use warden::{Args as WardenArgs, NAME as WARDEN, ward};

/// How many wardens are started one after the other.
const WARDENS: usize = 5;

/// Lock disks for a process that runs already, and give them back when it has ended
///
/// Only that process counts, not what the process has started. SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on
/// to the process. Should the locks be lost, or this command be killed, the process is sent SIGTERM, and SIGKILL
/// when the grace has expired. Ends with 0 when the process has ended, with 137 if the locks were lost
/// before. Nothing ends a process that is frozen together with this command and its warden.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The process
    #[arg(long, value_name = "PID")]
    pid: u32,
    #[command(flatten)]
    session: session::Args,
}

pub(crate) fn hold(args: &Args) -> Result<ExitCode, Failure> {
    let pid = args.pid;
    // First of all: whatever is found out later is about this very process, not about its number.
    let process = OwnerProcess::open(pid);
    let process = process
        .map_err(|error| Failure::usage(format_args!("process {pid} cannot be held: {error}")))?;
    let guest = format!("process {pid}");
    let session = Session::start(&args.session, &guest, "the process was held")?;
    if session.is_fenced()
        && let Err(error) = process.check_reach()
    {
        return Err(Failure::unavailable(format_args!(
            "process {pid} may not be sent signals ({error}), so that nothing could end it should its locks be lost"
        )));
    }
    let process = Arc::new(process);
    session.as_member(true, |manager| {
        let hold = Hold {
            session: &session,
            manager,
            process,
            keepers: session.keepers(),
        };
        hold.lock()
    })
}

struct Hold<'a> {
    session: &'a Session<'a>,
    manager: &'a PaxosManager,
    process: Arc<OwnerProcess>,
    /// The warden that there is now.
    keepers: Keepers,
}

impl Hold<'_> {
    fn lock(&self) -> Result<ExitCode, Failure> {
        let (session, pid) = (self.session, self.process.pid());
        let guard = session.lock(self.manager, pid, &self.keepers, || {})?;
        let ended = self
            .watch_end()
            .map_err(Failure::unavailable)
            .and_then(|()| session.signals.pass_on())
            .and_then(|()| self.watch(&guard));
        session.signals.enter(Phase::Locking);
        if self.process.has_ended() {
            session.landing.wait(|| {});
        } else {
            // Before its disks are given back: a process that was not to be ended is not.
            complain!("process {pid} is not held any more");
        }
        release(guard);
        self.keepers.release();
        ended
    }

    /// From the lock to the end of the process.
    fn watch(&self, guard: &LockGuard) -> Result<ExitCode, Failure> {
        let pid = self.process.pid();
        let mut wardens = WARDENS;
        let mut deadlines = Some(self.start_warden()?);
        complain!("process {pid} is held");
        let mut has_lost = false;
        loop {
            match self.session.events.recv().unwrap_or(Event::Ended) {
                Event::Signal(signal) => {
                    if let Err(error) = self.process.send(signal) {
                        complain!("process {pid} cannot be sent a signal: {error}");
                    }
                }
                Event::Lost(reason) => {
                    has_lost = !self.process.has_ended();
                    tell_loss(&reason, &format!("Process {pid}"));
                }
                // The end of a process that ends at once may be notified before the loss.
                Event::Ended if has_lost || is_lost(guard) => {
                    let message = "THE LOCKS WERE LOST, and the process has ended";
                    return Err(Failure::new(KILLED, message));
                }
                Event::Ended => return Ok(ExitCode::SUCCESS),
                Event::WardenGone if !self.process.has_ended() && guard.is_held() => {
                    drop(deadlines.take());
                    wardens = wardens.saturating_sub(1);
                    let started = if wardens == 0 {
                        complain!(
                            "the warden of process {pid} was killed, {WARDENS} times by now: no other one is started"
                        );
                        Err(Failure::unavailable(format_args!(
                            "process {pid} has no warden"
                        )))
                    } else {
                        complain!("the warden of process {pid} was killed: another one is started");
                        self.start_warden()
                    };
                    match started {
                        Ok(again) => deadlines = Some(again),
                        Err(error) => {
                            error.report();
                            self.end();
                        }
                    }
                }
                Event::WardenGone | Event::Message(_) => {}
            }
        }
    }

    fn end(&self) {
        let sent = match self.process.send(Signal::TERM) {
            Ok(_) => "it is sent SIGTERM".to_owned(),
            Err(error) => format!("it cannot be sent SIGTERM ({error})"),
        };
        complain!(
            "process {}: {sent}, for nothing would end it should its locks be lost",
            self.process.pid()
        );
    }

    /// From now on the end of the process is an event.
    fn watch_end(&self) -> io::Result<()> {
        let (process, sender) = (Arc::clone(&self.process), self.session.sender.clone());
        let wait = move || {
            while !process.has_ended() {
                poll_any([process.as_fd()], None);
            }
            let _ = sender.send(Event::Ended);
        };
        let thread = Builder::new().name("dl-held".to_owned());
        thread.spawn(wait).map(drop)
    }

    /// Starts and arms a warden, unless nothing is to end the process.
    fn start_warden(&self) -> Result<Deadlines, Failure> {
        let started = if self.session.is_fenced() {
            self.start_and_arm()
        } else {
            self.keepers.arm(self.manager.lockspace())
        };
        started.map_err(|error| {
            Failure::unavailable(format_args!("the process cannot have a warden: {error}"))
        })
    }

    fn start_and_arm(&self) -> io::Result<Deadlines> {
        let (control, theirs) = UnixStream::pair()?;
        let mut warden = beside("disklease-warden", theirs.into());
        warden.args([WARDEN, "--pid", &self.process.pid().to_string()]);
        // The warden outlives this process, and another process adopts it then. Until then the socket shows its end.
        let mut child = warden.spawn()?;
        drop(warden);
        // By now the warden has opened the process by its number. The held process has not ended, so the number is its own.
        let control = Arc::new(control);
        let armed = match receive_within(&control, ANSWERS_WITHIN) {
            Ok(said) if said.kind == Kind::Ready && !self.process.has_ended() => {
                self.keepers.set(slice::from_ref(&control));
                self.keepers.arm(self.manager.lockspace())
            }
            _ => Err(io::Error::other(
                "the process or the warden has ended, or the warden does not answer within 15 s",
            )),
        };
        // A warden that is only stopped is to end nothing later on.
        let armed = armed.inspect_err(|_| drop(child.kill()))?;
        self.session.listen(control, move || {
            let _ = child.wait();
            Some(Event::WardenGone)
        })?;
        Ok(armed)
    }
}
