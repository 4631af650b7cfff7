//! The lock managers by the names they have in configuration files.

use std::fmt;
use std::str::FromStr;

use super::lock_manager::LockManager;
use super::nop::NopManager;
use super::paxos::PaxosManager;

/// Which lock manager a configuration file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManagerKind {
    /// `nop`: locks nothing.
    Nop,
    /// `paxos`, or `sanlock` as libvirt has it: leases on shared storage.
    Paxos,
}

/// A lock manager that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no lock manager {name:?}: it is one of nop, paxos, sanlock")]
#[non_exhaustive]
pub struct UnknownManager {
    /// What was asked for.
    pub name: String,
}

impl ManagerKind {
    /// The manager of this kind. `paxos` makes the one with leases, which needs a member host: it is called only where
    /// that is asked for.
    ///
    /// # Errors
    ///
    /// Those of `paxos`.
    pub fn build<E>(
        self,
        paxos: impl FnOnce() -> Result<PaxosManager, E>,
    ) -> Result<Box<dyn LockManager>, E> {
        Ok(match self {
            Self::Nop => Box::new(NopManager::new()),
            Self::Paxos => Box::new(paxos()?),
        })
    }
}

impl FromStr for ManagerKind {
    type Err = UnknownManager;

    fn from_str(name: &str) -> Result<Self, UnknownManager> {
        match name {
            "nop" => Ok(Self::Nop),
            "paxos" | "sanlock" => Ok(Self::Paxos),
            other => Err(UnknownManager {
                name: other.to_owned(),
            }),
        }
    }
}

impl fmt::Display for ManagerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nop => "nop",
            Self::Paxos => "paxos",
        })
    }
}
