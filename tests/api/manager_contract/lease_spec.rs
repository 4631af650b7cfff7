//! Leases that lie where their user says.

use std::path::Path;

use disklease::format::{Geometry, LockspaceName, ResourceName, lease_image};
use disklease::{AcquireErrorKind, LeaseFault, LeaseSpec, LockManager as _, OpenError, WaitLimit};

use super::{shared_dir, shared_host};
use disklease_fixtures::host::{bytes_of, disks, overwrite, request};

const MIB: u64 = 1 << 20;

fn space() -> LockspaceName {
    LockspaceName::new("__LIBVIRT__DISKS__").unwrap()
}

fn resource(name: &str) -> ResourceName {
    ResourceName::new(name).unwrap()
}

/// A file with the leases `names`, one behind the other.
fn file_of_leases(path: &Path, names: &[&str]) {
    let image = |name: &&str| lease_image(Geometry::S512_A1M, &space(), &resource(name), 2000);
    std::fs::write(path, names.iter().flat_map(image).collect::<Vec<_>>()).unwrap();
}

#[test]
fn leases_in_one_file_are_locked_each_for_itself() {
    let path = shared_dir().join("three");
    file_of_leases(&path, &["one", "two", "three"]);
    let spec = |name, n| LeaseSpec::new(space(), resource(name), &path, n * MIB);
    let manager = shared_host();
    let outer = request()
        .lease(spec("three", 2))
        .lease(spec("one", 0))
        .disk("/lease_spec/disk", disklease::Access::Exclusive);
    let outer = manager.acquire(outer).unwrap();
    assert_eq!(outer.locks().count(), 3);
    let two = manager.acquire(request().lease(spec("two", 1))).unwrap();
    assert!(outer.is_held() && two.is_held());
    for (name, n) in [("one", 0), ("two", 1), ("three", 2)] {
        let error = manager.acquire(request().lease(spec(name, n))).unwrap_err();
        assert!(
            matches!(error.kind(), AcquireErrorKind::HeldHere),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
    outer.release().unwrap();
    two.release().unwrap();
}

#[test]
fn two_names_of_one_lease_in_one_request_are_refused_at_once() {
    let manager = shared_host();
    let disk = "/lease_spec/names";
    drop(manager.acquire(disks(&[disk])).unwrap());
    let name = disklease::libvirt::lease_name(Path::new(disk));
    let second_name = shared_dir().join("second_name");
    std::fs::hard_link(shared_dir().join(name.to_string()), &second_name).unwrap();
    let dotted = shared_dir().join(".").join(name.to_string());
    let doubled = format!("{}//{name}", shared_dir().display()).into();
    for other in [second_name, dotted, doubled] {
        for wait in [WaitLimit::Try, WaitLimit::Forever] {
            let both = disks(&[disk]).lease(LeaseSpec::new(space(), name, &other, 0));
            let error = manager.acquire(both.wait(wait)).unwrap_err();
            assert!(
                matches!(error.kind(), AcquireErrorKind::NamedTwice { .. }),
                "{other:?}: {error}"
            );
        }
        drop(manager.acquire(disks(&[disk])).unwrap());
    }
}

#[test]
fn a_lease_of_another_lockspace_is_refused_without_a_look_at_it() {
    let other = LockspaceName::new("other").unwrap();
    let spec = LeaseSpec::new(other, resource("one"), "/nonexistent", 0);
    let error = shared_host().acquire(request().lease(spec)).unwrap_err();
    assert_eq!(
        *error.kind(),
        AcquireErrorKind::OtherLockspace {
            asked_for: other,
            joined: space()
        }
    );
    assert!(error.to_string().contains("\"other\""), "{error}");
}

// One name in this process is one lease: each test has names of its own.
#[test]
fn what_is_no_lease_of_that_name_is_refused_and_left_as_it_is() {
    let manager = shared_host();
    let path = shared_dir().join("foreign");
    file_of_leases(&path, &["misplaced"]);
    let before = bytes_of(&path);
    let ask = |name, offset: u64| {
        let spec = LeaseSpec::new(space(), resource(name), &path, offset);
        let error = manager.acquire(request().lease(spec)).unwrap_err();
        error.fault().unwrap_or_else(|| panic!("{error}")).clone()
    };
    let fault = ask("elsewhere", 0);
    assert!(matches!(fault, LeaseFault::Foreign { .. }), "{fault}");
    assert!(fault.to_string().contains("\"misplaced\""), "{fault}");
    // Behind its end, across it, in its middle, at no sector, beyond all that a file can have.
    for offset in [
        MIB,
        MIB - 512,
        512,
        1024,
        4096,
        100,
        u64::MAX / 2 - 511,
        u64::MAX - 511,
        u64::MAX,
    ] {
        let fault = ask("misplaced", offset);
        assert!(
            matches!(
                fault,
                LeaseFault::TooShort { .. }
                    | LeaseFault::NotInitialised { .. }
                    | LeaseFault::Damaged { .. }
                    | LeaseFault::Misaligned { .. }
                    | LeaseFault::Unreadable { .. }
            ),
            "{offset}: {fault:?}"
        );
    }
    assert_eq!(bytes_of(&path), before);

    overwrite(&path, 0, &0x1128_2016_u32.to_le_bytes());
    assert_eq!(ask("misplaced", 0), LeaseFault::Cleared { offset: 0 });
    let long = vec![0; Geometry::S512_A1M.area_size()];
    overwrite(&path, 0, &long);
    assert_eq!(
        ask("misplaced", 0),
        LeaseFault::NotInitialised { offset: 0 }
    );
    assert!(
        bytes_of(&path) == long,
        "a lease that its user placed is not replaced"
    );
}

#[test]
fn an_offset_in_the_middle_of_a_sector_is_refused() {
    let path = shared_dir().join("shifted");
    file_of_leases(&path, &["misaligned"]);
    let spec = LeaseSpec::new(space(), resource("misaligned"), &path, 17);
    let error = shared_host().acquire(request().lease(spec)).unwrap_err();
    let Some(&LeaseFault::Misaligned { offset, needed }) = error.fault() else {
        panic!("{error}");
    };
    assert!(offset == 17 && needed.is_power_of_two() && needed >= 512);
}

#[test]
fn what_is_no_file_is_refused() {
    let manager = shared_host();
    let dir = shared_dir();
    let link = dir.join("link");
    file_of_leases(&dir.join("linked"), &["linked"]);
    std::os::unix::fs::symlink(dir.join("linked"), &link).unwrap();
    for (path, kind) in [
        (dir.clone(), "a directory"),
        (dir.join("missing"), "does not exist"),
        (link, "symbolic link"),
        ("/proc/self/oom_score_adj".into(), "O_DIRECT"),
        ("/dev/null".into(), "a character device"),
    ] {
        let spec = LeaseSpec::new(space(), resource("linked"), &path, 0);
        let error = manager.acquire(request().lease(spec)).unwrap_err();
        let Some(LeaseFault::Open(open)) = error.fault() else {
            panic!("{error}");
        };
        assert_eq!(OpenError::path(open), path);
        assert!(error.to_string().contains(kind), "{error}");
    }
}

/// Two places that look like two disks may be one, such as a loop device and the file under it. On
/// the disk this process is one host: it would take its own lease from itself.
#[test]
fn a_lease_is_held_once_by_whatever_disk_it_is_reached() {
    let manager = shared_host();
    let (one, other) = (shared_dir().join("by_one"), shared_dir().join("by_other"));
    for path in [&one, &other] {
        file_of_leases(path, &["twice"]);
    }
    let spec = |path: &Path| request().lease(LeaseSpec::new(space(), resource("twice"), path, 0));
    let guard = manager.acquire(spec(&one)).unwrap();
    let error = manager.acquire(spec(&other)).unwrap_err();
    assert!(
        matches!(error.kind(), AcquireErrorKind::HeldHere),
        "{error}"
    );
    guard.release().unwrap();
    for wait in [WaitLimit::Try, WaitLimit::Forever] {
        let other = LeaseSpec::new(space(), resource("twice"), &other, 0);
        let both = spec(&one).lease(other).wait(wait);
        let error = manager.acquire(both).unwrap_err();
        assert!(
            matches!(error.kind(), AcquireErrorKind::NamedTwice { .. }),
            "{error}"
        );
    }
    drop(manager.acquire(spec(&other)).unwrap());
}
