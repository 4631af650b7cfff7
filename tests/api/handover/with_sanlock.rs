//! State strings between us and a real sanlock daemon.

use std::process::Command;

use disklease::libvirt::{HoldState, lease_name, parse_state};
use disklease::{LockManager as _, SuspendedLocks};

use super::party::{DISK, LIMIT, Place};
use disklease_fixtures::host_process::{IO_TIMEOUT_SECS, disk, join};
use disklease_fixtures::sanlock::{Lockspace, SanlockClient, SanlockDaemon};

/// sanlock's own number for a version that is not the lease's.
const ACQUIRE_LVER: &str = "-240";

struct Setting {
    place: Place,
    daemon: SanlockDaemon,
    client: SanlockClient,
}

impl Setting {
    fn new() -> Self {
        let place = Place::new();
        let daemon = SanlockDaemon::start("sanlock1");
        let leases = disklease::LeaseDirectory::new(place.path());
        let lockspace = Lockspace::new("__LIBVIRT__DISKS__", leases.lockspace_path());
        let joined = daemon.add_lockspace(&lockspace, 1, IO_TIMEOUT_SECS, LIMIT);
        assert_eq!(joined, Ok(()), "{}", daemon.log());
        let client = SanlockClient::register(&daemon);
        Self {
            place,
            daemon,
            client,
        }
    }

    /// `sanlock client ...` for the registered process; what it printed.
    fn sanlock(&self, arguments: &[&str]) -> String {
        let pid = self.client.pid().to_string();
        let output = Command::new("sanlock")
            .arg("client")
            .args(arguments)
            .args(["-p", &pid])
            .env("SANLOCK_RUN_DIR", self.daemon.run_dir())
            .env("SANLOCK_PRIVILEGED", "0")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).unwrap()
    }

    /// What the daemon says that the process holds.
    fn inquire(&self) -> String {
        let told = self.sanlock(&["inquire"]);
        let of_lease = |line: &&str| line.contains("__LIBVIRT__DISKS__");
        let line = told.lines().find(of_lease);
        line.unwrap_or_else(|| panic!("{told:?}"))
            .trim_matches([' ', '"'])
            .to_owned()
    }
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs sanlock")]
fn state_strings_go_both_ways_and_a_guest_that_ran_elsewhere_is_refused() {
    let mut setting = Setting::new();
    let leases = disklease::LeaseDirectory::new(setting.place.path());
    let ours = join(&leases, 2, "ours2");
    let lockspace = Lockspace::new("__LIBVIRT__DISKS__", leases.lockspace_path());
    let name = lease_name(DISK.as_ref()).to_string();
    let path = leases.lease_path(DISK.as_ref());
    let resource = lockspace.resource(&name, path.clone(), 0);

    // Ours to sanlock: it takes the lease by our string, and by no other version.
    let guard = ours.acquire(disk(DISK)).unwrap();
    let state = guard.suspend().unwrap();
    let text = state.to_string();
    let other_version = text.replace(":0:1", ":0:7");
    let refused = setting.sanlock(&["acquire", "-r", &other_version]);
    assert!(refused.contains(ACQUIRE_LVER), "{refused:?}");
    let taken = setting.sanlock(&["acquire", "-r", &text]);
    let held = setting.client.held().unwrap();
    assert_eq!(held, std::slice::from_ref(&name), "{taken:?}");

    // While it runs there, and when it ran there, it does not go on here.
    let error = ours.resume(&state, disk(DISK)).unwrap_err();
    let shown = error.to_string();
    for part in ["host 1 \"sanlock1\"", "has it since"] {
        assert!(shown.contains(part), "{shown}");
    }

    // Sanlock's to us.
    let told = setting.inquire();
    println!("sanlock says: {told}");
    let read = parse_state(told.as_bytes()).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].name.to_string(), name);
    assert_eq!(read[0].places[0].path, path);
    assert!(matches!(read[0].hold, HoldState::Version(version) if version.get() == 2));
    let theirs: SuspendedLocks = told.parse().unwrap();
    assert_eq!(theirs.to_string(), told);
    assert_eq!(setting.client.release(&resource), Ok(()));
    let error = ours.resume(&state, disk(DISK)).unwrap_err();
    let shown = error.to_string();
    for part in [
        "at version 2, not at 1",
        "host 1 \"sanlock1\"",
        "had it since",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    // A guest that sanlock suspended goes on here, by the string alone.
    let owner = disklease::Owner::this_process("guest");
    let guard = ours
        .resume(&theirs, disklease::LockRequest::new(owner))
        .unwrap();
    assert!(guard.is_held());
    let version = guard.locks().next().unwrap().version.unwrap();
    assert_eq!(version.get(), 3);
}
