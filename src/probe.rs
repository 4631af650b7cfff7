//! For tests of the algorithms alone: rules that can be taken out one by one, and counts of what
//! happened. Without the private feature `__sim` there is nothing of it in the crate.
//!
//! Each rule of the protocol that a programmer could get wrong stands in one place, and there
//! `mutation!(Name)` is the switch that gets it wrong: `if block.mbal > mbal &&
//! !mutation!(MbalIgnored)`. A simulator that does not find the wrong variant cannot be relied upon
//! to find the next mistake. `witness!(Name)` counts that something rare was reached at all.
//! `waypoint!(a, b)` tells that nothing but `a` and `b` is kept from there on: an explorer of all
//! schedules then knows which of them have led to the same.
//!
//! All are of the thread: a simulation with all its hosts runs on one, and several may run side by
//! side.

#[cfg(feature = "__sim")]
mod mutations;
#[cfg(feature = "__sim")]
pub(crate) mod waypoints;
#[cfg(feature = "__sim")]
mod witnesses;

#[cfg(feature = "__sim")]
pub use mutations::{Mutation, Mutations, NoSuchMutation, Switched};
#[cfg(feature = "__sim")]
pub use waypoints::{take_waypoint, watch_waypoints};
#[cfg(feature = "__sim")]
pub use witnesses::{Witness, WitnessCounts};

/// `mutation!(Name)`: whether the rule at this place is to be got wrong. `mutation!(Name, wrong,
/// right)`: the one value or the other.
#[cfg(feature = "__sim")]
macro_rules! mutation {
    ($name:ident) => {
        $crate::probe::Mutation::$name.is_on()
    };
    ($name:ident, $wrong:expr, $right:expr $(,)?) => {
        if $crate::probe::Mutation::$name.is_on() {
            $wrong
        } else {
            $right
        }
    };
}

#[cfg(not(feature = "__sim"))]
macro_rules! mutation {
    ($name:ident) => {
        $crate::probe::never(stringify!($name))
    };
    ($name:ident, $wrong:expr, $right:expr $(,)?) => {
        if $crate::probe::never(stringify!($name)) {
            $wrong
        } else {
            $right
        }
    };
}

/// Counts that the algorithms came by here.
#[cfg(feature = "__sim")]
macro_rules! witness {
    ($name:ident) => {
        $crate::probe::Witness::$name.count()
    };
}

#[cfg(not(feature = "__sim"))]
macro_rules! witness {
    ($name:ident) => {
        ()
    };
}

/// Tells all that the algorithm keeps from here on.
#[cfg(feature = "__sim")]
macro_rules! waypoint {
    ($($kept:expr),+ $(,)?) => {
        if $crate::probe::waypoints::are_watched() {
            $crate::probe::waypoints::pass(file!(), line!(), &($(&$kept,)+));
        }
    };
}

#[cfg(not(feature = "__sim"))]
macro_rules! waypoint {
    ($($kept:expr),+ $(,)?) => {
        ()
    };
}

pub(crate) use {mutation, waypoint, witness};

/// A copy of `sector` with `checksum` at byte `at`: what a decoder that does not compare checksums
/// would take it for.
pub(crate) fn with_checksum(sector: &[u8], at: usize, checksum: u32) -> Vec<u8> {
    let mut copy = sector.to_vec();
    let place = copy.iter_mut().skip(at);
    place
        .zip(checksum.to_le_bytes())
        .for_each(|(to, from)| *to = from);
    copy
}

/// `false`, in words that no lint takes for one and the same condition.
#[cfg(not(feature = "__sim"))]
#[inline]
pub(crate) const fn never(_: &str) -> bool {
    false
}
