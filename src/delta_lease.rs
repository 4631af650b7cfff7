//! The lease on a host id: claimed slowly, renewed all the time, and what it says of the other hosts.
//!
//! A lockspace is one sector for each host id. A host owns its sector for as long as it rewrites it
//! in time; whoever does not see a sector change for [`Timing::dead_after`](crate::timing::Timing::dead_after)
//! may treat its owner as gone. This is the light-weight lease of Chockler and Malkhi ("Light-Weight Leases
//! for Storage-Centric Coordination", 2004), in the form that `docs/protocol.md` gives it.
//!
//! | step | where |
//! | --- | --- |
//! | take a host id | [`claim()`] |
//! | keep it | [`renew()`] |
//! | give it back | [`release()`] |
//! | when another host counts as alive, silent, dead | [`Silence`] |
//! | the other hosts | [`HostTable`] |
//! | go by one fire timeout with them | [`agree_on_fire_timeout()`] |
//! | whether this host may still believe in its own leases | [`Expiry`] |

mod area;
mod claim;
mod expiry;
mod fire_timeout;
mod hosts;
mod lease;
mod membership;
mod put_back;
mod record;
mod release;
mod renew;
pub(crate) mod rules;
mod silence;
mod watch;

pub use area::{DeltaSectorError, LockspaceArea};
pub use claim::{ClaimError, ClaimProgress, Claimant, EarlierIncarnation, claim};
pub use expiry::Expiry;
pub use fire_timeout::{
    AgreeError, Agreement, InDoubt, agree_on_fire_timeout, compare_fire_timeouts,
};
pub use hosts::{HostRecord, HostTable};
pub use lease::DeltaLease;
pub use membership::Membership;
pub use put_back::PutBack;
pub use record::DeltaRecord;
pub use release::{DeltaReleaseError, release};
pub use renew::{HostIdLoss, RenewError, renew};
pub use silence::{HostState, Silence};
pub use watch::{Change, ReadSpan, Watcher};
