use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::libvirt::LeaseDirectory;

#[test]
#[ignore = "is to be process 1: run by another test"]
fn joined_by_process_1() {
    assert_eq!(std::process::id(), 1);
    let dir = tempfile::tempdir().unwrap();
    let n = Duration::from_secs(1);
    let path = LeaseDirectory::new(dir.path()).create_lockspace(n).unwrap();
    let options = Lockspace::options(Watchdog::None).io_timeout(n);
    let options = options.runtime_dir(dir.path().join("run"));
    let joined = options.clone().join(&path, HostId::FIRST);
    let error = joined.unwrap_err();
    assert!(matches!(error.kind(), JoinErrorKind::DeadmanOfInit));
    let joined = options.without_deadman().join(&path, HostId::FIRST);
    joined.unwrap().leave().unwrap();
}

/// It would survive its timer, and take others to be safe from it.
#[test]
fn process_1_of_a_container_is_told_that_no_timer_can_kill_it() {
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--user", "--map-root-user", "--pid", "--fork"])
            .stdout(Stdio::null());
        unshare
    };
    if !unshare()
        .arg("true")
        .status()
        .is_ok_and(|ended| ended.success())
    {
        // No namespaces are available here, so no process 1 either.
        return;
    }
    let ended = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored"])
        .arg("lockspace::join::tests::joined_by_process_1")
        .status()
        .unwrap();
    assert!(ended.success(), "{ended}");
}
