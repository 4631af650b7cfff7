//! Real processes that lose their locks, or end with them: who is notified, asked to end and killed, and when, and what
//! is left on the disk, as it is seen from outside. N is 1 s and F is 4 s: warned at 6 s, lost at 8 s, killed at
//! 10 s, by the deadman at 11 s, and all has ended at 12 s.

mod crowd;
mod endings;
mod escalation;
mod fork;
mod frozen;
mod holder;
mod owners;
pub(crate) mod place;
