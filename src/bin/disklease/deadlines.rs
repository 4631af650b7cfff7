//! Until when a process may live: sent with each renewal to the processes that can kill it, and kept by these.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use disklease::__cli::{Deadman, Timestamp, clock, deadline};
use disklease::Lockspace;
use disklease::timing::Timing;
use parking_lot::Mutex;

use crate::control::{ANSWERS_WITHIN, Kind, Message, receive_within, send};

const NOT_ARMED: &str = "the process that is to end it should this program fail has not set its timer; try again, or see the limit of pending signals (RLIMIT_SIGPENDING)";

/// The sockets of the processes that can kill a holder; none where nothing is to kill it.
#[derive(Clone)]
pub(crate) struct Keepers {
    sockets: Arc<Mutex<Vec<Arc<UnixStream>>>>,
    /// How long after the loss of its leases a holder must have stopped, and how long after it the kernel
    /// sees to that.
    after_loss: [Duration; 2],
}

impl Keepers {
    pub(crate) fn new(timing: Timing) -> Self {
        let deadman = timing.deadman_after().saturating_sub(timing.lost_after());
        Self {
            sockets: Arc::default(),
            after_loss: [timing.grace(), deadman],
        }
    }

    pub(crate) fn set(&self, sockets: &[Arc<UnixStream>]) {
        *self.sockets.lock() = sockets.to_vec();
    }

    fn deadline(&self, kind: Kind, lost_at: Timestamp) -> Message {
        let numbers = self.after_loss.map(|end| {
            let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
            lost_at.as_nanos().saturating_add(nanos)
        });
        Message::new(kind, numbers)
    }

    /// Sends `message` to all keepers, also where a socket has no room for it. Returns whether all had room.
    fn send(&self, message: Message) -> bool {
        let sockets = self.sockets.lock();
        let unsent = sockets.iter().filter(|it| send(it, message).is_err());
        unsent.count() == 0
    }

    /// Says that the leases are lost now, for good. A keeper that is gone has killed already.
    pub(crate) fn send_last(&self) {
        self.send(self.deadline(Kind::LastDeadline, clock::now()));
    }

    /// Says that the process is not held any more.
    pub(crate) fn release(&self) {
        self.send(Kind::Released.into());
    }

    /// Has them arm their timers with the deadline of `lockspace`, and sends them each later deadline. To be
    /// called before anything else receives from them.
    pub(crate) fn arm(&self, lockspace: &Lockspace) -> io::Result<Deadlines> {
        let (stop, stopped) = channel::<()>();
        let sockets = self.sockets.lock().clone();
        if sockets.is_empty() {
            return Ok(Deadlines { _stop: stop });
        }
        let mut sent = deadline(lockspace).ok_or_else(|| io::Error::other("the locks are lost"))?;
        for socket in sockets {
            send(&socket, self.deadline(Kind::Deadline, sent))?;
            receive_within(&socket, ANSWERS_WITHIN)
                .map_err(|error| io::Error::other(format!("{NOT_ARMED}: {error}")))
                .and_then(|said| match said.kind {
                    Kind::Armed => Ok(()),
                    _ => Err(io::Error::other(NOT_ARMED)),
                })?;
        }
        let interval = lockspace.io_timeout().checked_div(4).unwrap_or_default();
        let (lockspace, keepers) = (lockspace.clone(), self.clone());
        let watch = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                // Where a socket had no room all keepers are sent the deadline again.
                if let Some(lost_at) = deadline(&lockspace)
                    && lost_at != sent
                    && keepers.send(keepers.deadline(Kind::Deadline, lost_at))
                {
                    sent = lost_at;
                }
            }
        };
        Builder::new().name("dl-keeper".to_owned()).spawn(watch)?;
        Ok(Deadlines { _stop: stop })
    }
}

/// Later deadlines are sent until this is dropped.
pub(crate) struct Deadlines {
    _stop: Sender<()>,
}

/// The time that a command or a held process has, in the keeper, guardian or warden, and the timer of the kernel
/// that enforces it.
pub(crate) struct Term {
    deadman: Deadman,
    ends_at: Option<Timestamp>,
    is_last: bool,
}

impl Term {
    /// Without an end, until a deadline comes.
    pub(crate) const fn new(deadman: Deadman) -> Self {
        Self {
            deadman,
            ends_at: None,
            is_last: false,
        }
    }

    /// What is left of the time, if the time has an end.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.ends_at.map(|at| at.since(clock::now()))
    }

    /// The time has no end any more, and no later deadline counts.
    pub(crate) const fn release(&mut self) {
        (self.ends_at, self.is_last) = (None, true);
    }

    /// Keeps to a deadline, and answers that the timer is set. `false` if no timer can be set.
    pub(crate) fn heed(&mut self, said: &Message, control: impl AsFd) -> bool {
        if !matches!(said.kind, Kind::Deadline | Kind::LastDeadline) {
            return true;
        }
        let [kill_at, die_at] = said.numbers;
        let ends_at = Timestamp::from_nanos(kill_at.min(die_at));
        let is_last = said.kind == Kind::LastDeadline;
        // No later deadline takes anything back from the last one; nor does that give more time.
        let is_void = self.is_last || is_last && self.ends_at.is_some_and(|at| at <= ends_at);
        self.is_last |= is_last;
        if !is_void {
            self.ends_at = Some(ends_at);
            if self.deadman.arm(Timestamp::from_nanos(die_at)).is_err() {
                // A process without a timer is not kept alive.
                self.ends_at = Some(clock::now());
                return false;
            }
        }
        let _ = send(control, Kind::Armed);
        true
    }
}
