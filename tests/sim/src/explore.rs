//! Every schedule of a small world, over the algorithms' own code.
//!
//! A world is a lease, its lockspace and two or three hosts; each makes a few acquires, each with
//! its release. Whatever a host waits for, a read, a write or a sleep, happens at some time, in one
//! step; between two steps of a host any other may make any number of steps. So hosts may be slow
//! without limit, and nothing times out but by a fault. Faults are steps, too, as many as the
//! [`WorldSpec`] allows. [`explore`] visits each state that can be come to, nearest first, and gives
//! the shortest way to the first violation.
//!
//! | file | subject |
//! | --- | --- |
//! | `spec` | which world, how far |
//! | `report` | what came of it; what a violation is |
//! | `layout`, `contents` | the two disks: sectors by number, and what they hold, by number |
//! | `port` | the library's `World` for one host: each call waits for whoever drives the host |
//! | `members` | joining the lockspace, and renewing in it, as single steps |
//! | `work` | a host's script, in pieces: acquire, release, reconcile a pending cleanup |
//! | `hosts`, `running` | what hosts do, tabulated: the library's code is run once for each transition |
//! | `state`, `events` | a state of the world, and what can happen |
//! | `world`, `lives` | what can happen next: steps and faults of I/O; deaths and new lives |
//! | `checker`, `ends` | what is wrong with a step; whether the lease can be taken when all has ended |
//! | `search` | visits all states |
//! | `telling` | a way as text |
//!
//! # How it is made fast enough
//!
//! A future can be neither copied nor compared. But what a host does depends only on what it was
//! answered. So a host is an automaton whose states are answers so far, and whose transitions are
//! found by running the code from the beginning of its piece of work: once each. The states of the
//! world are then a few numbers, which are copied, compared and thrown away.
//!
//! Answers so far tell too many states apart: what was read long ago and not kept makes no
//! difference. So the library's code tells at some points all that it keeps (`waypoint!`), and hosts
//! with the same are the same from there on. That they are is not taken on trust: of a part of the
//! hosts that were come to in several ways, each transition is run for two of them, and must lead to
//! the same.
//!
//! # What is left out, and why nothing is missed by it
//!
//! * *A holder holds until its release has written its first sector.* Others cannot know that it
//!   stopped before; it may as well not have.
//! * *A host dies in the instant in which that is seen.* Before, it may as well be slow. What it was
//!   writing does not land: had it, the host may as well have died a step later.
//! * *Joining and renewing are single steps.* A host's own sector of the lockspace is written by
//!   nobody else, and a host that joins does nothing else meanwhile. Of [twins](WorldSpec::twin) the first
//!   one does not renew.
//! * *A read of a delta sector happens at once when no sector of the lockspace will change any more.*
//!   It commutes with all steps of all other hosts.
//! * *A host asks whether its own writes are in flight at the end of a step, or when one of them has
//!   ended.* In between the answer is the same.
//! * *A host that has something to clean up tries to reconcile it again when its write in flight has ended.* Before,
//!   it would write what it has written already.
//!
//! What is missed: an acquire stops before it begins one ballot more than the spec allows (the host is
//! parked, and goes on when all others are at rest); pauses have no length, and what takes longer
//! than its time limit is a fault of its own; states are known by 64 bits of hash. Two hosts that want one
//! host id are kept apart by times alone, which are not here: `delta_rules` has their claims and renewals, in
//! every order (`twins`, `join_races`) and with every delay of some (`late_twins`).

pub mod checker;
pub mod contents;
pub mod ends;
pub mod events;
pub mod hash;
pub mod hosts;
pub mod layout;
pub mod lives;
pub mod members;
pub mod port;
pub mod report;
pub mod running;
pub mod search;
pub mod spec;
pub mod state;
pub mod telling;
pub mod work;
pub mod world;

pub use report::{History, Kind, Report, Stuck, Violation};
pub use search::explore;
pub use spec::{Limits, WorldSpec};
