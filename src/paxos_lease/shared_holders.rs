//! Hosts that hold the lease in shared mode. They are not in the leader: each says so in the mode
//! block of its own sector, and an exclusive acquire must respect them.

use super::acquire::{AcquireError, Attempt};
use super::area::{LeaseImage, sharer};
use super::release::release_with_note;
use super::{HeldLease, LeaseIoError};
use crate::delta_lease::HostState;
use crate::format::{Generation, HostId};
use crate::probe::{mutation, witness};
use crate::world::World;

impl<W: World> Attempt<'_, W> {
    /// Refuses before the ballot when a shared holder is live: sparing everyone a version that is
    /// given back at once.
    pub(super) fn refuse_live_sharers(&self, image: &LeaseImage) -> Result<(), AcquireError> {
        let hosts: Vec<_> = image
            .sharers()
            .filter(|&(host, generation)| self.respects(host, generation))
            .filter(|&(host, _)| matches!(self.state_in_table(host), HostState::Live))
            .collect();
        if hosts.is_empty() || mutation!(SharersIgnored) {
            Ok(())
        } else {
            witness!(SharerRefused);
            Err(AcquireError::HeldShared { hosts })
        }
    }

    /// Whether a shared lock counts: not our own, which the ballot has ended, and not one without a
    /// generation.
    fn respects(&self, host: HostId, generation: Generation) -> bool {
        host != self.membership.host_id()
            && generation.get() != 0
            && !self.is_dead(host, generation)
            && !mutation!(LiveSharerCleared)
    }

    /// The lease is won. Clears away the shared locks of the dead, and gives the lease back if a
    /// sharer may be alive.
    ///
    /// `sharers` are those seen in phase 1, which is late enough: whoever shares the lease first
    /// owns it for a moment, so nobody can have come to share it since.
    pub(super) async fn settle_with_sharers(
        &mut self,
        held: HeldLease,
        sharers: &[(HostId, Generation)],
    ) -> Result<HeldLease, AcquireError> {
        let mut alive = Vec::new();
        let mut failed = None;
        for &(host, _) in sharers
            .iter()
            .filter(|&&(host, _)| host != self.membership.host_id())
        {
            match self.clear_if_dead(&held, host).await {
                Ok(None) => {}
                Ok(Some(generation)) => alive.push((host, generation)),
                Err(error) => failed = Some(error),
            }
        }
        let error = match failed {
            Some(error) => error,
            None if alive.is_empty() => {
                self.left_behind = None;
                return Ok(held);
            }
            None => {
                witness!(SharerRespected);
                AcquireError::HeldShared { hosts: alive }
            }
        };
        let note = self.note_for(held.version());
        let note = note.and_then(|note| held.unused_note(note));
        if release_with_note(
            self.world,
            self.membership,
            self.lease,
            &held,
            note.as_ref(),
        )
        .await
        .is_ok()
        {
            self.left_behind = None;
        }
        Err(error)
    }

    /// Looks again at the sector of a sharer, and empties it if that host is dead. Gives the
    /// generation of one that is not.
    async fn clear_if_dead(
        &self,
        held: &HeldLease,
        host: HostId,
    ) -> Result<Option<Generation>, AcquireError> {
        let sector = self
            .lease
            .read_block(self.world, held.shape, host, self.io())
            .await?;
        match sharer(&sector, host) {
            Some(generation) if self.respects(host, generation) => Ok(Some(generation)),
            Some(generation) if generation.get() != 0 => {
                witness!(SharerCleared);
                let limit = self.write_limit()?;
                let cleared: Result<(), LeaseIoError> = self
                    .lease
                    .write_block(self.world, held.shape, host, None, limit)
                    .await;
                Ok(cleared.map(|()| None)?)
            }
            _ => Ok(None),
        }
    }
}
