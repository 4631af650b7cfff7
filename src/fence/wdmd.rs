//! A client of wdmd, sanlock's watchdog daemon: it holds the one watchdog device of a host, and
//! feeds it only while none of its clients has expired.
//!
//! Two generations of wdmd are spoken with. That of sanlock 3.8.5 has its device open from its
//! start, with a fire timeout of 60 s. Later ones open it when they are asked to, with the fire
//! timeout that they are asked for; before that, they answer as if they had. So both questions are
//! sent, and the first answer tells who is there.
//!
//! wdmd gives up on a client one test interval before its expiry. It closes the device then, which
//! the kernel takes for a last sign of life, and F after that the host is reset: at the latest F
//! after the expiry, as long as wdmd is not held up itself.
//!
//! A connection that ends while its client is watched stays on wdmd's list, and nothing can take it
//! off. So the end of the process resets the host, and [`Wdmd::disarm`] waits until wdmd has heard.

mod connection;
mod message;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::watchdog::{HostWatchdog, WatchdogError};
use crate::runtime::clock;
use crate::timing::{IoTimeout, Timing};
use crate::world::Timestamp;
use connection::{Broken, Connection};
use message::{Command, Message};

/// Where wdmd listens.
pub const DEFAULT_SOCKET: &str = "/run/wdmd/wdmd.sock";

/// How long wdmd may take to answer one who has the time to wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it may take when renewals wait for it.
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
    connection: Option<Watched>,
}

/// A connection with the answers that are still to come on it.
#[derive(Debug)]
struct Watched {
    connection: Connection,
    /// Answers that are due.
    owed: u32,
    /// When the first of them was asked for.
    asked_at: Timestamp,
}

impl Wdmd {
    /// Sees whether wdmd is there, has a device, agrees on the fire timeout, and would leave a
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
        drop(this.connect(clock::now() + PATIENCE, PATIENCE)?);
        Ok(this)
    }

    /// A connection on which wdmd has agreed to everything and watches nothing yet.
    fn connect(&self, until: Timestamp, patience: Duration) -> Result<Watched, WatchdogError> {
        let broken = |broken| self.broken(broken, patience);
        let mut connection = Connection::open(&self.socket, until).map_err(broken)?;
        let fire_timeout = u32::from(self.timing.fire_timeout().as_secs());
        let questions = [Message::open_watchdog(fire_timeout), Message::status()];
        connection.send(&questions, until).map_err(broken)?;
        let mut answer = connection.receive(until).map_err(broken)?;
        if answer.is(Command::OpenWatchdog) {
            if answer.fire_timeout() == 0 {
                return Err(WatchdogError::WdmdWithoutDevice {
                    socket: self.socket.clone(),
                    fire_timeout: self.timing.fire_timeout().as_duration(),
                });
            }
            self.agree_on_fire_timeout(&answer)?;
            answer = connection.receive(until).map_err(broken)?;
        }
        self.take_status(&answer)?;
        Ok(Watched {
            connection,
            owed: 0,
            asked_at: clock::now(),
        })
    }

    fn take_status(&self, answer: &Message) -> Result<(), WatchdogError> {
        if !answer.is(Command::Status) {
            return Err(WatchdogError::WdmdNonsense {
                socket: self.socket.clone(),
                command: answer.command(),
            });
        }
        self.agree_on_fire_timeout(answer)?;
        self.spare_the_healthy(answer)
    }

    fn agree_on_fire_timeout(&self, answer: &Message) -> Result<(), WatchdogError> {
        let ours = self.timing.fire_timeout();
        if answer.fire_timeout() == u32::from(ours.as_secs()) {
            return Ok(());
        }
        Err(WatchdogError::WdmdFireTimeout {
            socket: self.socket.clone(),
            theirs: Duration::from_secs(u64::from(answer.fire_timeout())),
            ours: ours.as_duration(),
        })
    }

    /// wdmd gives up when less than a test interval is left. A healthy host hears of its next
    /// renewal 2N after the last, and a little later.
    fn spare_the_healthy(&self, answer: &Message) -> Result<(), WatchdogError> {
        // While something fails it looks more often, but the interval that it goes by stays.
        let test_interval = answer.test_interval().max(test_interval(self.timing));
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
        Err(WatchdogError::WdmdTooCoarse {
            socket: self.socket.clone(),
            test_interval,
            io_timeout: self.timing.io(),
            spare,
            needed: needed.unwrap_or(IoTimeout::MAX).as_duration(),
        })
    }

    /// Has this client watched on a new connection, and waits until it is.
    fn begin(&mut self, expires_at: Timestamp, patience: Duration) -> Result<(), WatchdogError> {
        let until = clock::now() + patience;
        let mut watched = self.connect(until, patience)?;
        let messages = [
            Message::register(&self.name),
            Message::refcount_set(),
            self.live_until(expires_at),
        ];
        let confirmed = watched.confirm(&messages, until);
        self.settle(watched, confirmed, patience)
    }

    /// Keeps a connection that may be watched, whatever came of it: one that ends then can never be
    /// stood down.
    fn settle(
        &mut self,
        watched: Watched,
        confirmed: Result<Message, Broken>,
        patience: Duration,
    ) -> Result<(), WatchdogError> {
        if !matches!(confirmed, Err(Broken::Gone | Broken::Failed(_))) {
            self.connection = Some(watched);
        }
        let answer = confirmed.map_err(|broken| self.broken(broken, patience))?;
        self.take_status(&answer)
    }

    fn live_until(&self, expires_at: Timestamp) -> Message {
        // 0 would say "not watched".
        let expire_time = clock::to_monotonic_secs(expires_at).max(1);
        let renewal_time = expire_time.saturating_sub(self.timing.lost_after().as_secs());
        Message::test_live(renewal_time, expire_time)
    }

    /// Tells of a renewal on a connection that there is, and waits for nothing.
    fn tell(&self, watched: &mut Watched, expires_at: Timestamp) -> Result<(), WatchdogError> {
        let now = clock::now();
        let answers = watched.answers();
        let waiting = watched.owed > 0;
        let silent = now.since(watched.asked_at);
        let silent = (waiting && silent >= SHORT_PATIENCE).then_some(silent);
        // One that does not take anything gets no more: it will be told the newest when it does.
        let blocked = watched.connection.is_blocked();
        let sent = if blocked {
            watched.connection.send(&[], now)
        } else if waiting {
            watched.connection.send(&[self.live_until(expires_at)], now)
        } else {
            watched.ask(&[self.live_until(expires_at)], now)
        };
        let patience = silent.unwrap_or_default();
        let answers = answers.map_err(|broken| self.broken(broken, patience))?;
        match (sent, silent) {
            (Ok(()), None) => {}
            (Ok(()) | Err(Broken::Silent), _) => {
                return Err(self.broken(Broken::Silent, patience));
            }
            (Err(broken), _) => return Err(self.broken(broken, patience)),
        }
        answers
            .as_ref()
            .map_or(Ok(()), |answer| self.take_status(answer))
    }

    fn broken(&self, broken: Broken, silent: Duration) -> WatchdogError {
        let socket = self.socket.clone();
        match broken {
            Broken::Unreachable(error) => WatchdogError::WdmdUnreachable { socket, error },
            Broken::Gone => WatchdogError::WdmdGone { socket },
            Broken::Failed(error) => WatchdogError::WdmdFailed { socket, error },
            Broken::Silent => WatchdogError::WdmdSilent { socket, silent },
        }
    }
}

impl Watched {
    /// Sends `messages`, and asks for an answer after them.
    fn ask(&mut self, messages: &[Message], until: Timestamp) -> Result<(), Broken> {
        if self.owed == 0 {
            self.asked_at = clock::now();
        }
        self.owed = self.owed.saturating_add(1);
        let mut sent = messages.to_vec();
        sent.push(Message::status());
        self.connection.send(&sent, until)
    }

    /// Sends `messages` and waits until wdmd has taken them: it takes them in turn, so its answer to
    /// a last question shows it.
    fn confirm(&mut self, messages: &[Message], until: Timestamp) -> Result<Message, Broken> {
        self.ask(messages, until)?;
        loop {
            let answer = self.connection.receive(until)?;
            self.owed = self.owed.saturating_sub(1);
            if self.owed == 0 {
                return Ok(answer);
            }
        }
    }

    /// Takes the answers that have come, and gives the last. Also sees here that wdmd has gone.
    fn answers(&mut self) -> Result<Option<Message>, Broken> {
        let mut last = None;
        loop {
            match self.connection.receive(clock::now()) {
                Ok(answer) => {
                    self.owed = self.owed.saturating_sub(1);
                    last = Some(answer);
                }
                Err(Broken::Silent) => return Ok(last),
                Err(broken) => return Err(broken),
            }
        }
    }
}

impl HostWatchdog for Wdmd {
    fn arm(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError> {
        let until = clock::now() + PATIENCE;
        if let Some(mut watched) = self.connection.take() {
            let live = self.live_until(expires_at);
            let confirmed = if self.armed {
                watched.confirm(&[live], until)
            } else {
                watched.confirm(&[Message::refcount_set(), live], until)
            };
            if !matches!(confirmed, Err(Broken::Gone)) {
                self.settle(watched, confirmed, PATIENCE)?;
                self.armed = true;
                return Ok(());
            }
        }
        self.begin(expires_at, PATIENCE)?;
        self.armed = true;
        tracing::debug!(socket = ?self.socket, name = %self.name, "wdmd watches this host");
        Ok(())
    }

    fn extend(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError> {
        if !self.armed {
            return Ok(());
        }
        let Some(mut watched) = self.connection.take() else {
            self.begin(expires_at, SHORT_PATIENCE)?;
            tracing::info!(socket = ?self.socket, name = %self.name, "wdmd watches this host again");
            return Ok(());
        };
        let told = self.tell(&mut watched, expires_at);
        let lost = matches!(
            told,
            Err(WatchdogError::WdmdGone { .. } | WatchdogError::WdmdFailed { .. })
        );
        if !lost {
            self.connection = Some(watched);
        }
        told
    }

    fn disarm(&mut self) -> Result<(), WatchdogError> {
        self.armed = false;
        let Some(mut watched) = self.connection.take() else {
            return Ok(());
        };
        let messages = [Message::test_live(0, 0), Message::refcount_clear()];
        match watched.confirm(&messages, clock::now() + PATIENCE) {
            Ok(_) => {
                tracing::debug!(socket = ?self.socket, name = %self.name, "wdmd does not watch this host any more");
                Ok(())
            }
            Err(broken) => {
                let error = self.broken(broken, PATIENCE);
                if broken == Broken::Silent {
                    self.connection = Some(watched);
                }
                Err(error)
            }
        }
    }
}

impl Drop for Wdmd {
    fn drop(&mut self) {
        if self.connection.is_some() {
            tracing::error!(
                socket = ?self.socket,
                name = %self.name,
                "wdmd was not told that nobody holds a lock here any more: this host will be reset"
            );
        }
    }
}

/// Seconds between two looks of a wdmd that has this fire timeout.
const fn test_interval(timing: Timing) -> u32 {
    match timing.fire_timeout().as_secs() {
        60.. => 10,
        30.. => 5,
        10.. => 2,
        _ => 1,
    }
}
