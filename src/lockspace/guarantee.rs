//! What is in force at one instant of all that stops a holder.

use std::fmt;

/// What stops a holder of this member host that may no longer write, and does not stop by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guarantee {
    /// Whether the kernel kills this process should it hold a lost lock and stand still.
    pub deadman: bool,
    /// Whether this host is reset should a holder not have ended by 8N + F.
    pub watchdog: WatchdogState,
    /// Locks of other processes. Should this process die, a process that is not tied to it by
    /// [`die_with_this_thread`](crate::die_with_this_thread) is stopped by nobody but a watchdog.
    pub foreign_owners: usize,
    /// How many of these may not be sent signals by the thread that asks, and would be stopped by
    /// nobody but a watchdog when their locks are lost: they have changed their user since.
    pub unreachable_owners: usize,
    /// Which hosts are in the lockspace, as the last scan showed them.
    pub peers: Peers,
}

/// The state of a host watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchdogState {
    /// None was chosen.
    None,
    /// It works, as far as is known.
    InForce,
    /// It has failed: what is held is as safe as without one, and nothing new is locked.
    Failed,
}

/// Whose protocol a lockspace goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peers {
    /// All hosts are disklease's: no two guards say "held", as the crate's front page promises it.
    Ours,
    /// There are sanlock hosts: the promise is that of sanlock's protocol.
    Sanlock,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deadman = if self.deadman { "on" } else { "off" };
        let watchdog = match self.watchdog {
            WatchdogState::None => "none",
            WatchdogState::InForce => "in force",
            WatchdogState::Failed => "FAILED",
        };
        let peers = match self.peers {
            Peers::Ours => "disklease only",
            Peers::Sanlock => "sanlock among them",
        };
        write!(
            f,
            "deadman timer {deadman}, host watchdog {watchdog}, hosts {peers}"
        )?;
        if self.foreign_owners > 0 {
            write!(f, ", locks of other processes {}", self.foreign_owners)?;
        }
        if self.unreachable_owners > 0 {
            let number = self.unreachable_owners;
            write!(f, ", {number} OF THEM OUT OF REACH")?;
        }
        Ok(())
    }
}
