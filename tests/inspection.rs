//! The files of held leases are inspected once a second, file system by file system: one that hangs holds up its own
//! files alone.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test, of real processes in real time"
)]

mod storage;
mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use disklease::libvirt::lease_name;
use disklease::{LeaseSpec, LockManager as _};

use storage::Mount;
use support::{
    Child, SOON, child_role, disks, manager, request, say, scratch, wait_for_parent, wait_until,
};

const HEALTHY: &str = "/healthy";
const HANGING: &str = "/hanging";

fn name_of(disk: &str) -> String {
    lease_name(Path::new(disk)).to_string()
}

/// A host that has a disk in a directory that works, and one whose lease lies on a mount that comes to hang.
#[test]
fn holder() {
    let Some((_, dir)) = child_role() else {
        return;
    };
    let host = manager(&dir.join("leases"), 1, "holder");
    let seen = dir.join("seen").join(name_of(HANGING));
    let space = *host.lockspace().name();
    let spec = LeaseSpec::new(space, lease_name(Path::new(HANGING)), seen, 0);
    let hanging = host.acquire(request().lease(spec)).unwrap();
    let healthy = host.acquire(disks(&[HEALTHY])).unwrap();
    say("holds");
    let loss = wait_until("a loss", SOON * 2, || healthy.loss());
    say(&format!("{loss:?}"));
    wait_for_parent();
    assert!(hanging.is_held(), "{:?}", hanging.loss());
}

#[test]
fn a_mount_that_hangs_holds_up_no_look_at_another() {
    let dir = scratch();
    let [leases, others] = ["leases", "others"].map(|name| dir.path().join(name));
    for (place, disk) in [(&leases, HEALTHY), (&others, HANGING)] {
        fs::create_dir(place).unwrap();
        drop(manager(place, 2, "maker").acquire(disks(&[disk])).unwrap());
    }
    let mount = Mount::new(&others, &dir.path().join("seen"), |_| {});
    let mut child = Child::start("holder", "holder", dir.path());
    assert_eq!(child.hear(SOON), "holds");
    mount.gate().hold_looks();
    wait_until("a look that hangs", SOON, || {
        (mount.gate().looks_held() > 0).then_some(())
    });
    let first = leases.join(name_of(HEALTHY));
    let second = leases.join(".disklease/leases").join(name_of(HEALTHY));
    fs::remove_file(&first).unwrap();
    wait_until("the first link to be put back", SOON, || {
        first.exists().then_some(())
    });
    // Again and again: one that is gone may be put back before the other is.
    let lost = wait_until("a loss", SOON, || {
        let _ = (fs::remove_file(&first), fs::remove_file(&second));
        child.try_hear(Duration::from_millis(20))
    });
    assert_eq!(lost, "LeaseReplaced");
    assert!(mount.gate().looks_held() > 0);
    mount.gate().go_on();
    assert!(child.ended_well());
}
