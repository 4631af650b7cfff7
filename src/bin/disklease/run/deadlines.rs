//! Telling those who can kill a process until when it may live.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use disklease::__cli::{Timestamp, clock, deadline};
use disklease::Lockspace;
use disklease::timing::Timing;

use super::control::{ANSWERS_WITHIN, Message, hear_within, say};

/// When a holder must have stopped, and when the kernel sees to it, after its leases were lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    grace: Duration,
    deadman: Duration,
}

impl Ends {
    pub(crate) fn of(timing: Timing) -> Self {
        let after_loss = |end: Duration| end.saturating_sub(timing.lost_after());
        Self {
            grace: after_loss(timing.killed_after()),
            deadman: after_loss(timing.deadman_after()),
        }
    }

    fn after(self, lost_at: Timestamp) -> (u64, u64) {
        let after = |end: Duration| {
            let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
            lost_at.as_nanos().saturating_add(nanos)
        };
        (after(self.grace), after(self.deadman))
    }

    /// The leases are lost now, for good.
    pub(crate) fn tell_last(self, keepers: &[Arc<UnixStream>]) {
        let (kill_at, die_at) = self.after(clock::now());
        for keeper in keepers {
            // One that is gone has killed already.
            let _ = say(&**keeper, &Message::LastDeadline { kill_at, die_at });
        }
    }
}

/// Tells for as long as it lives.
pub(crate) struct Deadlines {
    _stop: Sender<()>,
}

impl Deadlines {
    /// Has the keepers armed with the deadline of `lockspace`, and tells them each later one. Before
    /// anybody else listens to them.
    pub(crate) fn start(
        lockspace: &Lockspace,
        keepers: &[Arc<UnixStream>],
        ends: Ends,
    ) -> io::Result<Self> {
        let tell = move |keeper: &UnixStream, lost_at| {
            let (kill_at, die_at) = ends.after(lost_at);
            say(keeper, &Message::Deadline { kill_at, die_at })
        };
        let mut told = deadline(lockspace).ok_or_else(|| io::Error::other("the locks are lost"))?;
        for keeper in keepers {
            tell(keeper, told)?;
            match hear_within(&**keeper, ANSWERS_WITHIN) {
                Ok(Message::Armed) => {}
                Ok(_) => return Err(not_armed("it said something else")),
                Err(error) => return Err(not_armed(error)),
            }
        }
        let interval = lockspace.io_timeout().checked_div(4).unwrap_or_default();
        let (lockspace, keepers) = (lockspace.clone(), keepers.to_vec());
        let (stop, stopped) = channel::<()>();
        let watch = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                if let Some(lost_at) = deadline(&lockspace)
                    && lost_at != told
                {
                    // All of them, also where one does not hear it: then they are told again.
                    let unheard = keepers
                        .iter()
                        .filter(|keeper| tell(keeper, lost_at).is_err());
                    if unheard.count() == 0 {
                        told = lost_at;
                    }
                }
            }
        };
        Builder::new().name("dl-keeper".to_owned()).spawn(watch)?;
        Ok(Self { _stop: stop })
    }
}

fn not_armed(why: impl fmt::Display) -> io::Error {
    io::Error::other(format!(
        "who is to end it should this program fail has not set its timer: {why}"
    ))
}
