//! docs later
pub mod contents;
pub mod ends;
pub mod hash;
pub mod hosts;
pub mod layout;
pub mod members;
pub mod port;
pub mod search;
pub mod spec;
pub mod state;
pub mod telling;
pub mod work;
pub mod world;

pub use search::explore;
pub use spec::{History, Kind, Limits, Report, Stuck, Violation, WorldSpec};
