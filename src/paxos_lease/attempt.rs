//! What one acquire remembers from one ballot to the next.

use std::fmt;

use super::area::LeaseIo;
use super::give_back::LeftBehind;
use super::holding::Holding;
use super::rules;
use crate::format::{Generation, HolderNote, HostId, Input, LeaseVersion, PaxosLeader, Tenure};
use crate::world::World;

/// One acquire under way.
pub(super) struct Attempt<'a> {
    pub(super) holding: &'a Holding,
    /// `input[p]`: this acquire's own, and the version for which it was made. One version, one input.
    pub(super) own_input: Option<(LeaseVersion, Input)>,
    /// The own block as last written, or tried to be written, as long as another host might commit
    /// what it proposes, or what a mark spoke for that phase 1 took away.
    pub(super) written: Option<LeftBehind>,
    /// Who held the lease in shared mode when phase 1 last read all blocks.
    pub(super) sharers: Vec<(HostId, Generation)>,
    /// The version that is balloted for, and the last one before it under which the disk was used.
    pub(super) last_used_before: Option<(LeaseVersion, LeaseVersion)>,
    /// With a version precondition: what was accepted for the next version by a host that never used
    /// it.
    pub(super) skipped: Option<(LeaseVersion, Input)>,
}

/// What a waypoint has to tell of it: all but `holding`, which never changes.
impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changing = (
            (self.own_input, &self.written, &self.sharers),
            (self.last_used_before, self.skipped),
        );
        changing.fmt(f)
    }
}

impl<'a> Attempt<'a> {
    pub(super) const fn new(holding: &'a Holding) -> Self {
        Self {
            holding,
            own_input: None,
            written: None,
            sharers: Vec::new(),
            last_used_before: None,
            skipped: None,
        }
    }

    /// `input[p]` of the instance `version`. INV-TIMESTAMP: no two acquires propose the same.
    pub(super) fn input_for<W: World>(
        &mut self,
        io: &LeaseIo<'_, W>,
        version: LeaseVersion,
    ) -> Input {
        match self.own_input {
            Some((made_for, input)) if made_for == version => input,
            _ => {
                let (host, generation) = io.us();
                let clock = io.world.clock_secs();
                let input = Input {
                    owner: u64::from(host),
                    generation: generation.get(),
                    timestamp: io.membership.unique_timestamp_secs(clock),
                };
                self.own_input = Some((version, input));
                input
            }
        }
    }

    /// Whether `input` is this acquire's own.
    pub(super) fn is_own(&self, input: Option<Input>) -> bool {
        input.is_some() && input == self.own_input.map(|(_, input)| input)
    }

    /// The note that goes with a block for `version`.
    pub(super) fn note_for<W: World>(
        &self,
        io: &LeaseIo<'_, W>,
        version: LeaseVersion,
    ) -> Option<HolderNote> {
        let mut note = self.holding.note.clone()?;
        (note.host_id, note.generation) = io.us();
        note.incarnation = Some(io.membership.incarnation());
        note.version = version;
        Some(note)
    }

    /// The note of an acquire that failed for `version`: nobody used it.
    pub(super) fn unused_note<W: World>(
        &self,
        io: &LeaseIo<'_, W>,
        version: LeaseVersion,
    ) -> Option<HolderNote> {
        let (_, since) = self
            .last_used_before
            .filter(|&(balloted_for, _)| balloted_for == version)?;
        let mut note = self.note_for(io, version)?;
        note.tenure = Tenure::Unused { since };
        Some(note)
    }

    /// Forgets what was written for a version that went to another host, or for an older one, where the leader
    /// names another host.
    pub(super) fn forget_if_decided(&mut self, leader: &PaxosLeader, me: HostId) {
        let proposed_for = self.written.as_ref().map(LeftBehind::version);
        if rules::is_decided_otherwise(leader, proposed_for, me) {
            tracing::debug!(name: "proposal_decided", resource = %leader.resource_name(), version = %leader.version(),
                "the version is decided otherwise: what this host proposed for it is void");
            self.written = None;
        }
    }
}
