//! The lease on a resource: who may write a disk, agreed upon through the sectors of the lease
//! itself.
//!
//! Each change of owner is one instance of Disk Paxos (Gafni and Lamport, 2003), numbered by the
//! lease version. The ballots are those of the paper; around them stand the questions that the
//! paper leaves open: when an ownership has ended, what is left behind by an acquire that failed,
//! and how a lease is given back. `docs/protocol.md` has the whole, with the reason for each rule.
//!
//! To be read in this order:
//!
//! | file | what |
//! | --- | --- |
//! | `acquire` | the loop: read all, judge the owner, ballot, start anew where something moved |
//! | `attempt` | what one acquire remembers from one ballot to the next |
//! | `judge`, `sharers` | whose the lease is; shared holders |
//! | `continuity` | the version precondition of a guest that was suspended or is handed over |
//! | `ballot` | the paper's figure, and the commit |
//! | `give_back` | release, clean-up of what failed, hand-over |
//! | `verify`, `copied` | whether the lease is still ours on the disk; whether a file is a mere copy of it |
//! | `rules` | every rule that could be got wrong, as one small function |
//! | `area`, `image` | the sectors: I/O, and what one read shows |
//!
//! # Invariants
//!
//! * **INV-INPUT** (`rules::has_won`): an acquire counts as success only if the leader record shows
//!   this very acquire's input: host, generation and timestamp. A leader that names this host for an
//!   older reason is not a success.
//! * **INV-KEEP** (`rules::own_dblock`, `start_ballot`, `released`): what this host accepted for a
//!   version (`bal`, `inp`) stays in its block until it takes part in a ballot for a newer version.
//!   Phase 1, release and clean-up keep it.
//! * **INV-NEXT** (`rules::next_version`): a ballot is for a version newer than the leader's and not
//!   older than any block's.
//! * **INV-RELEASED-FIRST** (`rules::order_of_giving_back`): a release marks the own block before it
//!   frees the leader.
//! * **INV-WRITER** (`rules::leader_of_holder`, `leader_left_behind`): a release frees the leader only
//!   if this host was its last writer.
//! * **INV-PRECONDITION** (`continuity::check_image`): an acquire that expects a version takes the very next
//!   one, and no other; versions between count as not there only where their owners' notes say that
//!   nobody used them.
//! * **INV-AS-WRITTEN** (`give_back::block_to_mark`): a release marks its block only where that, read
//!   right before, is what this host wrote, or under a leader that names this host for that; a clean-up
//!   marks what it finds. What is remembered of a lease that was initialised anew or put back is void.
//! * **INV-INCARNATION** (`judge::refuse_twin`): nothing is taken from another process with this host's
//!   id, name and generation.
//! * **INV-MEMBER** (`area::LeaseIo::write`): nothing is written unless this host's own delta lease is
//!   held at that instant, and no write is started later than it is.

mod acquire;
mod area;
mod attempt;
mod ballot;
mod continuity;
mod copied;
mod error;
mod give_back;
mod held;
mod holder;
mod holding;
mod image;
mod judge;
mod rules;
mod sharers;
mod verify;

pub use acquire::{AcquireFailure, acquire};
pub use area::{LeaseArea, LeaseShape};
pub use copied::has_ended_elsewhere;
pub use error::{AcquireError, GiveBackError, LeaseIoError, VerifyError};
pub use give_back::{HandoverEnd, LeftBehind, Reconciled, came_back, hand_over, release, retract};
pub use held::HeldLease;
pub use holder::{Holder, LaterHolder, OwnerSeen, VersionChange};
pub use holding::{Holding, Patience, RequiredEnd, VersionPrecondition};
pub use verify::verify;
