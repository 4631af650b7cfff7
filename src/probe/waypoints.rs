//! Points at which an algorithm tells all that it keeps from there on.
//!
//! An explorer that finds two hosts with the same need follow only one of them. What is told must
//! be complete: each variable that is used later, if only in some wrong variant, and was not made
//! later. Counters that only end an endless loop may be left out.

use std::cell::{Cell, RefCell};
use std::fmt;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static PASSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Waypoints are told from now on, or no more. Of the thread.
pub fn watch_waypoints(watch: bool) {
    WATCHED.set(watch);
    PASSED.take();
}

/// The last waypoint that was passed since it was last asked, with all that the algorithm kept.
#[must_use]
pub fn take_waypoint() -> Option<String> {
    PASSED.take()
}

#[inline]
pub(crate) fn are_watched() -> bool {
    WATCHED.get()
}

/// The algorithm stands in this line, and keeps this.
pub(crate) fn pass(file: &str, line: u32, kept: &dyn fmt::Debug) {
    PASSED.set(Some(format!("{file}:{line}: {kept:?}")));
}
