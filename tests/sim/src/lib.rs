//! A world in memory, with a clock that only moves when everyone sleeps.
//!
//! | file | subject |
//! | --- | --- |
//! | `choice` | who goes next, and every number that is drawn: seeded, fixed, or all paths in turn |
//! | `clock` | true time and each host's own clock |
//! | `disk` | sectors, and what a simulated disk may do wrong |
//! | `io` | one read or write, and its entry in the log |
//! | `storage` | what becomes of each I/O, from its beginning to its end |
//! | `sched` | tasks, events, and the order in which they happen |
//! | `script` | what a test may do to a run: hold an I/O back, crash a host, run up to a point |
//! | `world` | the library's `World` over all that, one for each host |
//! | `rig` | a formatted lockspace with one lease, and hosts that join it |
//! | `explore` | every schedule of a small world |
//! | `marks` | what the algorithms reach, counted |
//! | `mutations` | rules got wrong on purpose |
//! | `oracle` | who holds the lease in true time; panics when two do |
//!
//! One thread runs everything. Between two I/O steps of a host any other host may make any number
//! of steps; the order is the chooser's alone, so a seed or a path gives the same run again.

pub mod checker;
pub mod choice;
pub mod clock;
pub mod disk;
pub mod explore;
pub mod fences;
pub mod fleet;
pub mod io;
pub mod machine;
pub mod marks;
pub mod moves;
pub mod mutations;
pub mod operators;
pub mod oracle;
pub mod put_back;
pub mod rig;
pub mod scenario;
pub mod sched;
pub mod script;
pub mod shrink;
pub mod storage;
pub mod timeline;
pub mod trial;
pub mod world;
pub mod wrong;

pub use choice::{Chooser, First, Paths, Seeded};
pub use disk::{Faults, SimDisk};
pub use io::{IoKind, IoRecord, IoView, Outcome};
pub use oracle::Oracle;
pub use rig::{Member, Rig};
pub use sched::{HostIx, Sim, Task};
pub use script::{Hold, Pending, nth};
pub use world::SimWorld;
