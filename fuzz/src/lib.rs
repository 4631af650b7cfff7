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
