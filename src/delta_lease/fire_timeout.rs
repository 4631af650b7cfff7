//! Seeing to it that all hosts of a lockspace go by one fire timeout.
//!
//! A host tells its fire timeout in the note beside its record, so a host that has claimed its id
//! compares. Another host that goes by another fire timeout and lives is reason enough to leave again.
//! Whether that host lives is known only when it was seen to renew, which may be 2N of its own away: so a
//! host in doubt is waited for, and no host counts as gone because it was silent for as long as a join
//! takes.

use std::time::Duration;

use super::hosts::HostTable;
use super::membership::Membership;
use super::rules;
use super::silence::HostState;
use crate::format::HostId;
use crate::timing::FireTimeout;
use crate::world::{Timestamp, World};

/// How often the table is asked. The renewals keep it up to date.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// A host that goes by another fire timeout, and may live or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InDoubt {
    /// The host.
    pub host_id: HostId,
    /// Its fire timeout.
    pub theirs: FireTimeout,
    /// When it counts as dead, should it not renew before and a later scan show that.
    pub dead_at: Timestamp,
}

/// What a table says of the fire timeouts of the other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// No other host that may live tells another one.
    Reached,
    /// No scan was started late enough. Of two hosts that join at once each could have read before
    /// the other wrote.
    NotSeen,
    /// This host tells another one, and may live.
    InDoubt(InDoubt),
    /// This host tells another one, and was seen to live; or it would be dead by now, but that its
    /// sector is damaged, which proves nothing.
    Broken {
        /// The host.
        host_id: HostId,
        /// Its fire timeout.
        theirs: FireTimeout,
    },
}

/// Why a host cannot stay in a lockspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgreeError {
    /// Another host goes by another fire timeout.
    #[error("host {host_id} has a fire timeout of {} s", theirs.as_secs())]
    Differs {
        /// The host.
        host_id: HostId,
        /// Its fire timeout.
        theirs: FireTimeout,
    },
    /// The own host id was lost meanwhile.
    #[error("the host id was lost meanwhile")]
    Lost,
}

/// Ends when no other host that may live is known to go by another fire timeout than ours.
/// `claimed_at`: when our own note was on the disk. `progress` is notified of each host that is waited for.
///
/// **Somebody must renew meanwhile**: the scans of the renewals show the others.
///
/// # Errors
///
/// [`AgreeError`], for which a host in doubt is waited for until it renews: 2N by its own N, and 2N
/// by ours until that is seen.
pub async fn agree_on_fire_timeout<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    claimed_at: Timestamp,
    progress: &impl Fn(InDoubt),
) -> Result<(), AgreeError> {
    let (own, ours) = (membership.host_id(), membership.timing().fire_timeout());
    let mut reported = None;
    loop {
        let now = world.now();
        if !membership.expiry().is_held(now) {
            return Err(AgreeError::Lost);
        }
        match membership.hosts(|table| compare_fire_timeouts(table, own, ours, claimed_at, now)) {
            Agreement::Reached => return Ok(()),
            Agreement::Broken { host_id, theirs } => {
                return Err(AgreeError::Differs { host_id, theirs });
            }
            Agreement::InDoubt(doubt) if reported != Some(doubt.host_id) => {
                progress(doubt);
                reported = Some(doubt.host_id);
            }
            Agreement::InDoubt(_) | Agreement::NotSeen => {}
        }
        world.sleep(ASK_INTERVAL).await;
    }
}

/// What `table` says at `now`. One host that lives decides, however many are in doubt.
#[must_use]
pub fn compare_fire_timeouts(
    table: &HostTable,
    own: HostId,
    ours: FireTimeout,
    claimed_at: Timestamp,
    now: Timestamp,
) -> Agreement {
    let mut in_doubt = None;
    for (host_id, record) in table.iter().filter(|&(host_id, _)| host_id != own) {
        // Only disklease hosts record theirs.
        let recorded = record
            .seen()
            .note
            .as_ref()
            .map(|note| note.fire_timeout_secs);
        let Some(theirs) = recorded.and_then(FireTimeout::from_secs) else {
            continue;
        };
        let state = table.state(host_id, now);
        if !rules::is_other_fire_timeout(ours, theirs) || state.has_ended() {
            continue;
        }
        let dead_at = record.silence.dead_at();
        if state == HostState::Live || record.damage.is_some() && now > dead_at {
            return Agreement::Broken { host_id, theirs };
        }
        in_doubt.get_or_insert(InDoubt {
            host_id,
            theirs,
            dead_at,
        });
    }
    match in_doubt {
        Some(doubt) => Agreement::InDoubt(doubt),
        None if table.scanned_from() < Some(claimed_at) => Agreement::NotSeen,
        None => Agreement::Reached,
    }
}
