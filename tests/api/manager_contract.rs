//! What every lock manager promises, and what the one with leases promises beyond it.

mod both;
mod exclusion;
mod lease_spec;
mod loss;
mod precondition;
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
