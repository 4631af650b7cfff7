//! What every lock manager promises, and what the one with leases promises beyond it.

#![allow(
    clippy::disallowed_methods,
    reason = "guards are waited for by real threads and real processes"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]

#[path = "manager_contract/as_left.rs"]
mod as_left;
#[path = "manager_contract/both.rs"]
mod both;
#[path = "manager_contract/exclusion.rs"]
mod exclusion;
#[path = "manager_contract/lease_spec.rs"]
mod lease_spec;
#[path = "manager_contract/loss.rs"]
mod loss;
#[path = "manager_contract/refusal.rs"]
mod refusal;

use std::path::PathBuf;
use std::sync::OnceLock;

use disklease::PaxosManager;

/// The directory of the host that the tests share.
fn shared_dir() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| disklease_fixtures::host::shared_dir("manager_contract"))
}

/// One host for all tests that lose nothing: a join takes seconds. Each test has disks of its own.
fn shared_host() -> &'static PaxosManager {
    static HOST: OnceLock<PaxosManager> = OnceLock::new();
    HOST.get_or_init(|| disklease_fixtures::host::manager(shared_dir(), 1, "alpha"))
}
