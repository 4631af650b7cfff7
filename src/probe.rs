//! Hooks for the tests of the algorithms: mutants, and points at which an algorithm tells its state. Without
//! the private feature `__sim` none of them is in the crate.
//!
//! Each rule of the protocol that a programmer could get wrong stands in one place, in the `rules.rs` of its
//! layer, and there `mutation!(Name, wrong, right)` is the switch that gets it wrong. A simulator that does not
//! find the mutant cannot be relied upon to find the next mistake. `tests/sim` has the list of names.
//!
//! `waypoint!(a, b)` tells that nothing but `a` and `b` is kept from there on: an explorer of all schedules then
//! knows which of them have led to the same.
//!
//! Both are of the thread: a simulation with all its hosts runs on one, and several may run side by side.

/// `mutation!(Name, wrong, right)`: the one value or the other. `mutation!(Name)`: whether the rule at this
/// place is to be got wrong.
macro_rules! mutation {
    ($name:ident) => {
        $crate::probe::is_wrong(stringify!($name))
    };
    ($name:ident, $wrong:expr, $right:expr $(,)?) => {
        if $crate::probe::is_wrong(stringify!($name)) {
            $wrong
        } else {
            $right
        }
    };
}

/// Tells all that the algorithm keeps from here on.
///
/// What is passed on must be complete: each variable that is used later, if only in some mutant, and was not made
/// later. Counters that only end an endless loop may be left out.
macro_rules! waypoint {
    ($($kept:expr),+ $(,)?) => {
        #[cfg(feature = "__sim")]
        if $crate::probe::are_waypoints_watched() {
            $crate::probe::pass_waypoint(file!(), line!(), &($(&$kept,)+));
        }
    };
}

pub(crate) use {mutation, waypoint};

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
pub(crate) const fn is_wrong(_: &str) -> bool {
    false
}

#[cfg(feature = "__sim")]
pub use hooks::*;

#[cfg(feature = "__sim")]
mod hooks {
    use std::cell::{Cell, RefCell};
    use std::fmt;

    thread_local! {
        /// Whether `WRONG` has any: asked in hot places, and nearly always not.
        static IS_ANY_WRONG: Cell<bool> = const { Cell::new(false) };
        static WRONG: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
        static ARE_WATCHED: Cell<bool> = const { Cell::new(false) };
        static PASSED: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    /// Gets the rules of these names wrong on this thread, and no others. Leaves there the names of before.
    pub fn swap_wrong(names: &mut Vec<&'static str>) {
        IS_ANY_WRONG.set(!names.is_empty());
        WRONG.with_borrow_mut(|wrong| std::mem::swap(wrong, names));
    }

    /// Whether the rule of this name is got wrong on this thread.
    #[inline]
    #[must_use]
    pub fn is_wrong(name: &str) -> bool {
        IS_ANY_WRONG.get() && WRONG.with_borrow(|names| names.contains(&name))
    }

    /// Waypoints are passed on from now on, or no more.
    pub fn watch_waypoints(watch: bool) {
        ARE_WATCHED.set(watch);
        PASSED.take();
    }

    /// The last waypoint that was passed since it was last asked, with all that the algorithm kept.
    #[must_use]
    pub fn take_waypoint() -> Option<String> {
        PASSED.take()
    }

    #[inline]
    pub(crate) fn are_waypoints_watched() -> bool {
        ARE_WATCHED.get()
    }

    /// The algorithm stands in this line, and keeps this.
    pub(crate) fn pass_waypoint(file: &str, line: u32, kept: &dyn fmt::Debug) {
        PASSED.set(Some(format!("{file}:{line}: {kept:?}")));
    }
}
