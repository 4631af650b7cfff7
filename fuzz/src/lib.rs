//! What the fuzz targets do with their inputs. Each target is a function from bytes to nothing; it
//! panics when the library is wrong.
//!
//! | module | targets |
//! | --- | --- |
//! | [`records`] | one for each record of the format: decoded as the format says, and back |
//! | [`moves`] | state strings and hand-over tokens |
//! | [`names`] | names and numbers that people or disks give |
//! | [`files`] | files of any bytes, lockspaces and leases with changed sectors, as `dump` and `status` read them |
//! | [`worlds`] | the algorithms over the tests' simulated world: one host on a changed image, two hosts against each other |

pub mod begin;
pub mod files;
pub mod moves;
pub mod names;
pub mod records;
pub mod worlds;

mod bytes;
mod edits;
mod golden;
mod images;
mod input;
mod shown;

#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::redundant_closure_for_method_calls,
    clippy::semicolon_if_nothing_returned,
    clippy::result_large_err,
    clippy::single_match_else,
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    clippy::too_many_arguments,
    clippy::wrong_self_convention,
    dead_code,
    missing_debug_implementations,
    reason = "the tests' own, of which this uses some"
)]
#[path = "../../tests/sim"]
mod sim {
    //! The simulated world of the tests, as far as it is needed here: see its `harness.rs`.

    pub mod choice;
    pub mod clock;
    pub mod disk;
    pub mod io;
    pub mod judge;
    pub mod rig;
    pub mod sched;
    pub mod script;
    pub mod storage;
    pub mod world;
    pub mod wrong;

    pub use choice::{Chooser, First};
    pub use disk::Faults;
    pub use io::{IoKind, IoRecord};
    pub use judge::Judge;
    pub use rig::{Member, Rig};
    pub use sched::{Sim, Task};
    pub use script::Pending;
    pub use world::SimWorld;
}
