//! A client of wdmd, sanlock's watchdog daemon: it holds the one watchdog device of a host, and
//! feeds it only while none of its clients has expired.
//!
//! Two generations of wdmd are spoken with. That of sanlock 3.8.5 has its device open from its
//! start, with a fire timeout of 60 s. Later ones open it when they are asked to, with the fire
//! timeout that they are asked for; before that, they answer as if they had. So both questions are
//! sent, and the first answer tells which generation is there.
//!
//! wdmd gives up on a client one test interval before its expiry. It closes the device then, which
//! the kernel takes for a last sign of life, and F after that the host is reset: at the latest F
//! after the expiry, as long as wdmd is not held up itself.
//!
//! A connection that ends while its client is watched stays on wdmd's list, and nothing can take it
//! off. So the end of the process resets the host, and [`Wdmd::disarm`] waits until wdmd has answered.

mod connection;
mod message;
#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a real watchdog, in real time"
)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::watchdog::{HostWatchdog, WatchdogError, WatchdogErrorKind as Fault};
use crate::runtime::clock;
use crate::timing::{IoTimeout, Timing};
use crate::world::Timestamp;
use connection::Connection;
use message::{Message, OPEN_WATCHDOG, REFCOUNT_CLEAR, REFCOUNT_SET, STATUS, TEST_LIVE};

/// Where wdmd listens.
pub const DEFAULT_SOCKET: &str = "/run/wdmd/wdmd.sock";

/// How long wdmd may take to answer a caller that has the time to wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long wdmd may take when renewals wait for it.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// What renewals take, and the rounding of wdmd's whole seconds.
const RENEWAL_SLACK: Duration = Duration::from_secs(2);

/// The fence. Connected only while it is armed.
#[derive(Debug)]
pub struct Wdmd {
    socket: PathBuf,
    name: String,
    timing: Timing,
    armed: bool,
    connection: Option<Connection>,
}

impl Wdmd {
    /// Checks whether wdmd is there, has a device, agrees on the fire timeout, and would leave a
    /// healthy host alone. `name` is for its log.
    ///
    /// # Errors
    ///
    /// If it is not so.
    pub fn probe(socket: &Path, name: String, timing: Timing) -> Result<Self, WatchdogError> {
        let this = Self {
            socket: socket.to_owned(),
            name,
            timing,
            armed: false,
            connection: None,
        };
        // Closed again at once: nothing is watched yet.
        let probed = this.connect(clock::now() + PATIENCE).map(drop);
        this.named(probed).map(|()| this)
    }

    /// A connection on which wdmd has agreed to everything and watches nothing yet.
    fn connect(&self, until: Timestamp) -> Result<Connection, Fault> {
        let mut connection = Connection::open(&self.socket, until)?;
        let fire_timeout = self.timing.fire_timeout();
        let open = Message::open_watchdog(u32::from(fire_timeout.as_secs()));
        connection.send(&[open, Message::new(STATUS)], until)?;
        let mut answer = connection.receive(until)?;
        if answer.command == OPEN_WATCHDOG {
            if answer.fire_timeout == 0 {
                return Err(Fault::NoDevice {
                    fire_timeout: fire_timeout.as_duration(),
                });
            }
            self.agree_on_fire_timeout(&answer)?;
            answer = connection.receive(until)?;
        }
        self.take_status(&answer)?;
        Ok(connection)
    }

    fn take_status(&self, answer: &Message) -> Result<(), Fault> {
        if answer.command != STATUS {
            let command = answer.command;
            return Err(Fault::Nonsense { command });
        }
        self.agree_on_fire_timeout(answer)?;
        self.spare_the_healthy(answer)
    }

    fn agree_on_fire_timeout(&self, answer: &Message) -> Result<(), Fault> {
        let ours = self.timing.fire_timeout();
        if answer.fire_timeout == u32::from(ours.as_secs()) {
            return Ok(());
        }
        Err(Fault::OtherFireTimeout {
            theirs: Duration::from_secs(u64::from(answer.fire_timeout)),
            ours: ours.as_duration(),
        })
    }

    /// wdmd gives up when less than a test interval is left. A healthy host sends its next
    /// renewal 2N after the last, and a little later.
    fn spare_the_healthy(&self, answer: &Message) -> Result<(), Fault> {
        // While something fails wdmd checks more often, but the interval that it goes by stays.
        let test_interval = answer.test_interval.max(test_interval(self.timing));
        let test_interval = Duration::from_secs(u64::from(test_interval));
        let too_coarse = |timing: Timing| {
            let spare = timing
                .lost_after()
                .saturating_sub(timing.renewal_interval());
            (spare <= test_interval.saturating_add(RENEWAL_SLACK)).then_some(spare)
        };
        let Some(spare) = too_coarse(self.timing) else {
            return Ok(());
        };
        let fire_timeout = self.timing.fire_timeout();
        let mut longer = (1..=255).filter_map(IoTimeout::from_secs);
        let needed = longer.find(|&io| too_coarse(Timing::new(io, fire_timeout)).is_none());
        Err(Fault::IoTimeoutTooShort {
            test_interval,
            io_timeout: self.timing.io(),
            spare,
            needed: needed.unwrap_or(IoTimeout::MAX).as_duration(),
        })
    }

    /// Has wdmd watch this client on a new connection, and waits until it does.
    fn begin(&mut self, expires_at: Timestamp, patience: Duration) -> Result<(), Fault> {
        let until = clock::now() + patience;
        let mut connection = self.connect(until)?;
        let messages = [
            Message::register(&self.name),
            Message::new(REFCOUNT_SET),
            self.live_until(expires_at),
        ];
        let confirmed = connection.confirm(&messages, until);
        self.keep(connection, confirmed)
    }

    /// Keeps a connection that wdmd may watch, whatever came of it: a client whose connection ends then
    /// can never be stood down.
    fn keep(
        &mut self,
        connection: Connection,
        answer: Result<Message, Fault>,
    ) -> Result<(), Fault> {
        if !matches!(answer, Err(Fault::Gone | Fault::Failed(_))) {
            self.connection = Some(connection);
        }
        self.take_status(&answer?)
    }

    fn live_until(&self, expires_at: Timestamp) -> Message {
        // 0 would say "not watched".
        let expire_time = clock::to_monotonic_secs(expires_at).max(1);
        let renewal_time = expire_time.saturating_sub(self.timing.lost_after().as_secs());
        Message::test_live(renewal_time, expire_time)
    }

    /// Reports a renewal on the connection that there is, and waits for nothing.
    fn report(&self, connection: &mut Connection, expires_at: Timestamp) -> Result<(), Fault> {
        let now = clock::now();
        let answer = connection.answers();
        let waits_since = connection.waits_since();
        let live = [self.live_until(expires_at)];
        let sent = match waits_since {
            // A wdmd that takes nothing gets no more: it is sent the newest when it does.
            _ if connection.is_blocked() => connection.send(&[], now),
            Some(_) => connection.send(&live, now),
            None => connection.ask(&live, now),
        };
        let answer = answer?;
        sent?;
        if waits_since.is_some_and(|asked_at| now.since(asked_at) >= SHORT_PATIENCE) {
            return Err(Fault::Silent);
        }
        answer.map_or(Ok(()), |answer| self.take_status(&answer))
    }

    fn try_arm(&mut self, expires_at: Timestamp) -> Result<(), Fault> {
        let until = clock::now() + PATIENCE;
        if let Some(mut connection) = self.connection.take() {
            let messages = [Message::new(REFCOUNT_SET), self.live_until(expires_at)];
            let unsaid = messages.get(usize::from(self.armed)..).unwrap_or(&messages);
            let confirmed = connection.confirm(unsaid, until);
            if !matches!(confirmed, Err(Fault::Gone)) {
                return self.keep(connection, confirmed);
            }
        }
        self.begin(expires_at, PATIENCE)?;
        tracing::debug!(socket = ?self.socket, name = %self.name, "wdmd watches this host");
        Ok(())
    }

    fn try_extend(&mut self, expires_at: Timestamp) -> Result<(), Fault> {
        let Some(mut connection) = self.connection.take() else {
            self.begin(expires_at, SHORT_PATIENCE)?;
            tracing::info!(socket = ?self.socket, name = %self.name, "wdmd watches this host again");
            return Ok(());
        };
        let reported = self.report(&mut connection, expires_at);
        if !matches!(reported, Err(Fault::Gone | Fault::Failed(_))) {
            self.connection = Some(connection);
        }
        reported
    }

    fn try_disarm(&mut self) -> Result<(), Fault> {
        let Some(mut connection) = self.connection.take() else {
            return Ok(());
        };
        let messages = [Message::new(TEST_LIVE), Message::new(REFCOUNT_CLEAR)];
        let confirmed = connection.confirm(&messages, clock::now() + PATIENCE);
        if matches!(confirmed, Err(Fault::Silent)) {
            self.connection = Some(connection);
        }
        confirmed?;
        tracing::debug!(socket = ?self.socket, name = %self.name, "wdmd does not watch this host any more");
        Ok(())
    }

    /// Says which wdmd it was.
    fn named(&self, result: Result<(), Fault>) -> Result<(), WatchdogError> {
        result.map_err(|kind| WatchdogError::of_wdmd(&self.socket, kind))
    }
}

impl HostWatchdog for Wdmd {
    fn arm(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError> {
        let armed = self.try_arm(expires_at);
        self.armed |= armed.is_ok();
        self.named(armed)
    }

    fn extend(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError> {
        if !self.armed {
            return Ok(());
        }
        let extended = self.try_extend(expires_at);
        self.named(extended)
    }

    fn disarm(&mut self) -> Result<(), WatchdogError> {
        self.armed = false;
        let disarmed = self.try_disarm();
        self.named(disarmed)
    }
}

impl Drop for Wdmd {
    fn drop(&mut self) {
        if self.connection.is_some() {
            tracing::error!(
                socket = ?self.socket,
                name = %self.name,
                "wdmd still watches this host though nobody holds a lock here any more: this host will be reset"
            );
        }
    }
}

/// Seconds between two checks of a wdmd that has this fire timeout.
const fn test_interval(timing: Timing) -> u32 {
    match timing.fire_timeout().as_secs() {
        60.. => 10,
        30.. => 5,
        10.. => 2,
        _ => 1,
    }
}
