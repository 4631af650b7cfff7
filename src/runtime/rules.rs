//! The rule of the real world that a programmer could get wrong. Only here in this layer stands the switch of
//! a mutant (`docs/testing.md`).

use crate::probe::mutation;

/// Whether a write may be started while an older write to some of the same bytes has not completed, or has: one
/// at a time for each sector, lest a late write land over a newer one.
pub(super) fn may_start(older_in_the_way: bool) -> bool {
    mutation!(SectorWrittenAgain, true, !older_in_the_way)
}
