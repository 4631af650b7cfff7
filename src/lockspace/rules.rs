//! Rules that are easy to get wrong, each a function of its own, so that a mutant can get it wrong
//! and a test must notice.

use rustix::io::FdFlags;

use crate::probe::mutation;

/// Whether the host id may be freed: a write of ours that lands after somebody else took the freed id
/// could undo what that host wrote.
pub(super) fn may_free(is_io_in_flight: bool) -> bool {
    mutation!(LeftWithIoInFlight, true, !is_io_in_flight)
}

/// Whether this process may join anew: what is in flight of its last generation could be written over the
/// new one.
pub(super) fn may_rejoin(is_io_in_flight: bool) -> bool {
    mutation!(RejoinedWithIoInFlight, true, !is_io_in_flight)
}

/// Whether this process is the one of its host id on this machine: whether it `got_the_lock`.
pub(super) fn is_only_process(got_the_lock: bool) -> bool {
    mutation!(ProcessLockIgnored, true, got_the_lock)
}

/// The flags of the descriptor that children keep.
pub(super) fn flags_of_inherited() -> FdFlags {
    mutation!(ProcessLockNotInherited, FdFlags::CLOEXEC, FdFlags::empty())
}

/// Whether nothing more is written once the processes are gone: their I/O must end with them.
pub(super) fn ends_with_processes(io_dies_with_process: bool) -> bool {
    mutation!(NetworkIoForgotten, true, io_dies_with_process)
}
