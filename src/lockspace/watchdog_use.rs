//! The host watchdog of a member host: armed while there are holders, extended by renewals, disarmed when there
//! are none.

use parking_lot::Mutex;

use crate::fence::{HostWatchdog, WatchdogError};
use crate::world::Timestamp;

/// The watchdog, if there is one, and how many holders need it.
#[derive(Debug)]
pub(crate) struct WatchdogUse {
    /// Locked during each call of the watchdog, which takes microseconds, and two seconds at the
    /// worst: the calls must come in order. Nothing that decides about a lock waits for it;
    /// a thread that drops a guard, or asks what is in force, may wait for so long.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    watchdog: Option<Box<dyn HostWatchdog>>,
    holders: usize,
    in_force: bool,
    /// It could not be disarmed though nothing is held.
    must_disarm: bool,
}

/// Why a holder is not protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotProtected {
    /// The leases are lost.
    Lost,
    /// The watchdog does not work.
    Watchdog(WatchdogError),
}

impl WatchdogUse {
    pub(super) fn new(watchdog: Option<Box<dyn HostWatchdog>>) -> Self {
        // It has just been tried.
        let in_force = watchdog.is_some();
        Self {
            state: Mutex::new(State {
                watchdog,
                holders: 0,
                in_force,
                must_disarm: false,
            }),
        }
    }

    /// Whether a watchdog was chosen.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state.lock().watchdog.is_some()
    }

    /// Whether it works, as far as is known.
    pub(super) fn is_in_force(&self) -> bool {
        self.state.lock().in_force
    }

    /// Protects one more holder of leases that are held until the instant that `deadline` gives:
    /// asked for when no call of the watchdog can come in between. May take two seconds.
    ///
    /// # Errors
    ///
    /// [`NotProtected`]: nothing may be held.
    pub(super) fn hold(
        &self,
        deadline: impl FnOnce() -> Option<Timestamp>,
    ) -> Result<(), NotProtected> {
        let mut state = self.state.lock();
        let expires_at = deadline().ok_or(NotProtected::Lost)?;
        let must_arm = state.holders == 0 || !state.in_force;
        if let Some(watchdog) = &mut state.watchdog
            && must_arm
        {
            let armed = watchdog.arm(expires_at);
            state.in_force = armed.is_ok();
            if let Err(error) = armed {
                if state.holders == 0 {
                    state.disarm();
                }
                return Err(NotProtected::Watchdog(error));
            }
        }
        state.holders = state.holders.saturating_add(1);
        Ok(())
    }

    /// One of the holders has stopped.
    pub(super) fn let_go(&self) {
        let mut state = self.state.lock();
        state.holders = state.holders.saturating_sub(1);
        if state.holders == 0 {
            state.disarm();
        }
    }

    /// Leases are held until `expires_at`. Whether the watchdog is in force, if that has changed.
    pub(super) fn extend(&self, expires_at: Timestamp) -> Option<bool> {
        let mut state = self.state.lock();
        if state.holders == 0 {
            if state.must_disarm {
                state.disarm();
            }
            return None;
        }
        let extended = state.watchdog.as_mut()?.extend(expires_at);
        if let Err(error) = &extended {
            tracing::error!(%error, "the host watchdog does not protect this host: what is held is as safe as without one, and nothing new is locked");
        }
        let was = std::mem::replace(&mut state.in_force, extended.is_ok());
        let (is, changed) = (state.in_force, was != state.in_force);
        drop(state);
        if changed && is {
            tracing::warn!("the host watchdog protects this host again");
        }
        changed.then_some(is)
    }
}

impl State {
    /// Nothing is held. A disarm that fails is tried again with the next renewal.
    fn disarm(&mut self) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        let disarmed = watchdog.disarm();
        self.must_disarm = disarmed.is_err();
        if let Err(error) = disarmed {
            tracing::error!(%error, "the host watchdog could not be disarmed though nothing is held: it may reset this host; tried again with each renewal");
            self.in_force = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fence::WatchdogErrorKind;

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Said {
        Arm(u64),
        Extend(u64),
        Disarm,
    }

    #[derive(Clone, Debug, Default)]
    struct Fake {
        said: Arc<Mutex<Vec<Said>>>,
        broken: Arc<Mutex<bool>>,
    }

    impl Fake {
        fn say(&self, said: Said) -> Result<(), WatchdogError> {
            self.said.lock().push(said);
            if *self.broken.lock() {
                let kind = WatchdogErrorKind::FeederDied;
                return Err(WatchdogError::of_device(
                    "/dev/watchdog".as_ref(),
                    None,
                    kind,
                ));
            }
            Ok(())
        }

        fn heard(&self) -> Vec<Said> {
            std::mem::take(&mut *self.said.lock())
        }
    }

    impl HostWatchdog for Fake {
        fn arm(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError> {
            self.say(Said::Arm(expires_at.as_nanos()))
        }
        fn extend(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError> {
            self.say(Said::Extend(expires_at.as_nanos()))
        }
        fn disarm(&mut self) -> Result<(), WatchdogError> {
            self.say(Said::Disarm)
        }
    }

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn fence() -> (Fake, WatchdogUse) {
        let fake = Fake::default();
        let fence = WatchdogUse::new(Some(Box::new(fake.clone())));
        (fake, fence)
    }

    #[test]
    fn it_is_armed_for_the_first_holder_and_disarmed_after_the_last() {
        let (fake, fence) = fence();
        assert_eq!(fence.extend(at(1)), None);
        assert_eq!(fake.heard(), []);
        fence.hold(|| Some(at(2))).unwrap();
        fence.hold(|| Some(at(2))).unwrap();
        assert_eq!(fence.extend(at(3)), None);
        fence.let_go();
        assert_eq!(fence.extend(at(4)), None);
        fence.let_go();
        assert_eq!(fence.extend(at(5)), None);
        let expected = [Said::Arm(2), Said::Extend(3), Said::Extend(4), Said::Disarm];
        assert_eq!(fake.heard(), expected);
        assert!(fence.is_in_force());
    }

    #[test]
    fn nothing_is_held_while_it_does_not_work_and_each_renewal_tries_again() {
        let (fake, fence) = fence();
        fence.hold(|| Some(at(1))).unwrap();
        *fake.broken.lock() = true;
        assert_eq!(fence.extend(at(2)), Some(false));
        assert_eq!(fence.extend(at(3)), None);
        assert!(fence.hold(|| Some(at(3))).is_err() && !fence.is_in_force());
        *fake.broken.lock() = false;
        assert_eq!(fence.extend(at(4)), Some(true));
        fence.hold(|| Some(at(5))).unwrap();
        fence.let_go();
        fence.let_go();
        fake.heard();

        *fake.broken.lock() = true;
        assert!(fence.hold(|| Some(at(6))).is_err());
        // It may have been heard all the same.
        assert_eq!(fake.heard(), [Said::Arm(6), Said::Disarm]);
        *fake.broken.lock() = false;
        fence.hold(|| Some(at(7))).unwrap();
        fence.let_go();
        assert!(fence.is_in_force());
    }

    #[test]
    fn that_nothing_is_held_is_said_until_it_is_heard() {
        let (fake, fence) = fence();
        fence.hold(|| Some(at(1))).unwrap();
        *fake.broken.lock() = true;
        fence.let_go();
        fence.extend(at(2));
        *fake.broken.lock() = false;
        fence.extend(at(3));
        fence.extend(at(4));
        let expected = [Said::Arm(1), Said::Disarm, Said::Disarm, Said::Disarm];
        assert_eq!(fake.heard(), expected);
    }

    #[test]
    fn what_is_lost_already_is_not_held() {
        let (fake, fence) = fence();
        assert_eq!(fence.hold(|| None).unwrap_err(), NotProtected::Lost);
        assert_eq!(fake.heard(), []);
    }

    #[test]
    fn where_there_is_none_nothing_is_refused() {
        let fence = WatchdogUse::new(None);
        assert!(!fence.is_wanted() && !fence.is_in_force());
        fence.hold(|| Some(at(1))).unwrap();
        assert_eq!(fence.extend(at(2)), None);
        fence.let_go();
    }
}
