//! Real sanlock daemons side by side, for tests.
//!
//! Each [`SanlockDaemon`] is a host of its own: own run directory, own name, no watchdog, no privileges. The
//! default run directory of the machine is never touched. A [`SanlockClient`] is a process registered with one
//! daemon that acquires and releases leases. Everything that waits has a time limit and panics past it.
//!
//! Needs the programs of the packages `sanlock` and `python3-sanlock`; panics where they are missing, because
//! an interoperability test that silently does not run proves nothing.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test program includes the kit and uses a part of it"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the daemons are real processes in real time"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test code: a panic is how it fails"
)]

mod client;
mod command;
mod daemon;
mod direct;
mod lease;
mod wait;

pub(crate) use client::{Owner, SanlockClient};
pub(crate) use daemon::{Host, HostState, SanlockDaemon, StartedJoin};
pub(crate) use direct::{
    DumpLine, Leader, dump, init_lockspace, init_resource, read_lockspace_leader,
    read_resource_leader,
};
pub(crate) use lease::{Geometry, Lockspace, Resource, ScratchLease};
pub(crate) use wait::{end, wait_until};

/// What a client operation came to: sanlock's own number (-243 and the like) or a negated `errno` (-17).
pub(crate) type SanlockResult<T> = Result<T, i32>;
