//! Guests that are suspended, resumed, and handed over between real processes; each step fails once,
//! and what is left is right.

mod party;
mod steps;
mod suspended;
mod with_sanlock;

pub(crate) use party::serve as host_process;
