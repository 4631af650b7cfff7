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
//! | `ballot` | the paper's algorithm, and the commit |
//! | `give_back` | release, clean-up of what failed, hand-over |
//! | `verify`, `copied` | whether the lease is still ours on the disk; whether a file is a mere copy of it |
//! | `rules` | every rule that could be got wrong, as one small function |
//! | `shape`, `area`, `image` | the sectors: where they are, I/O, and what one read shows |
//!
//! # Words
//!
//! N is the io timeout of one host, F the fire timeout of all. In this directory:
//!
//! * **dead**: silent for more than 8N + F and a margin, by the dead host's own N;
//! * **mark**: the flag RELEASED in a block. The *shared mark* is another one, of a host that holds the lease in
//!   shared mode;
//! * **stale**: of a leader that is older than some block (`rules::is_stale`);
//! * **late commit**: a write of the leader that lands after others have gone on (`ballot::commit`);
//! * **twin**: another process that uses this host's id, name and generation by mistake;
//! * **restored**: of a sector, or a whole lease, into which somebody has copied what was there earlier.
//!
//! `waypoint!` and `mutation!` are for the tests (`probe.rs`). Neither does anything in a build without them.
//!
//! # Invariants
//!
//! INV-NEXT and INV-RELEASED-FIRST only prevent leases that nobody can take any more. All others keep a lease
//! from having two owners, or a guest from a disk that is not as the guest left it.
//!
//! * **INV-INPUT** (`rules::has_won`): an acquire counts as success only if the leader record shows
//!   this very acquire's input: host, generation and timestamp. A leader that names this host for an
//!   older reason is not a success.
//! * **INV-TIMESTAMP** (`Attempt::input_for`): no two acquires of one generation propose the same input.
//! * **INV-KEEP** (`rules::own_dblock`, `start_ballot`, `released`): what this host accepted for a
//!   version (`bal`, `inp`) stays in its block until it takes part in a ballot for a newer version.
//!   Phase 1, release and clean-up keep it.
//! * **INV-JUDGED** (`rules::is_stale`): only a host that has found the leader's ownership ended
//!   writes a block newer than the leader. So no host judges that owner again.
//! * **INV-NEXT** (`rules::next_version`): a ballot is for a version newer than the leader's and not
//!   older than any block's.
//! * **INV-RELEASED-FIRST** (`rules::order_of_giving_back`): a release marks the own block before it
//!   frees the leader.
//! * **INV-WRITER** (`rules::leader_of_holder`, `leader_left_behind`): a release frees the leader only
//!   if this host was its last writer.
//! * **INV-PRECONDITION** (`continuity::check_image`): an acquire that expects a version takes the very next
//!   one, and no other; versions between are skipped only where their owners' notes say that nobody
//!   used them.
//! * **INV-AS-WRITTEN** (`give_back::block_to_mark`): a release reads its block again, and marks it only if
//!   the block is as written, or the leader shows this host's very input; a clean-up marks what it finds. What is remembered of a lease that was initialised anew or restored is void.
//!   Otherwise a mark from memory could break INV-JUDGED.
//! * **INV-INCARNATION** (`judge::refuse_twin`): nothing is taken from a twin that an acquire can see.
//!   Two twins that both read back phase 2 before either commits do not see each other.
//! * **INV-MEMBER** (`area::LeaseIo::write`): nothing is written unless this host's own delta lease is
//!   held at that instant, and no write starts after that lease has expired. A commit counts only if the
//!   delta lease is still held afterwards (`rules::is_member`).

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
mod shape;
mod sharers;
mod verify;

pub use acquire::{AcquireFailure, acquire};
pub use area::LeaseArea;
pub use copied::has_ended_elsewhere;
pub use error::{AcquireError, GiveBackError, LeaseIoError, VerifyError};
pub use give_back::{HandoverEnd, LeftBehind, Reconciled, came_back, hand_over, release, retract};
pub use held::HeldLease;
pub use holder::{Holder, LaterHolder, OwnerSeen, VersionChange};
pub use holding::{Holding, Patience, RequiredEnd, VersionPrecondition};
pub use shape::LeaseShape;
pub use verify::verify;
