//! Files that somebody began to create and did not finish.

use std::path::Path;
use std::time::Duration;

use disklease::libvirt::lease_name;
use disklease::{LeaseFault, LockManager as _, WaitLimit};

use super::{lease_of, shared_dir, shared_host};
use disklease_fixtures::host::{bytes_of, disks, overwrite, set_age, timed};

const AREA: usize = 1 << 20;
const OLD: Duration = Duration::from_secs(100);
/// F + 2N of the host of these tests.
const LEFTOVER_AGE: Duration = Duration::from_secs(62);

fn fault_of(disk: &str, wait: WaitLimit) -> LeaseFault {
    match shared_host().acquire(disks(&[disk]).wait(wait)) {
        Err(error) => error.fault().unwrap_or_else(|| panic!("{error}")).clone(),
        Ok(_) => panic!("{disk} was acquired"),
    }
}

#[test]
fn a_temporary_file_of_a_crash_blocks_nobody() {
    let disk = "/leftovers/temporary";
    let name = lease_name(Path::new(disk));
    for tag in ["0123456789abcdef", ""] {
        std::fs::write(shared_dir().join(format!(".{name}.{tag}.tmp")), b"half").unwrap();
    }
    drop(shared_host().acquire(disks(&[disk])).unwrap());
}

/// In real time: nothing makes a file look as if it had not been touched for longer.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "waits for a minute")]
fn an_old_leftover_is_replaced() {
    let leftovers = [
        ("empty", vec![]),
        ("zeros", vec![0; AREA]),
        ("few_zeros", vec![0; 700]),
        ("one_sector_of_zeros", vec![0; 512]),
        ("too_long", vec![0; AREA + 4096]),
    ];
    let disk = |name: &str| format!("/leftovers/old/{name}");
    for (name, content) in &leftovers {
        std::fs::write(lease_of(shared_dir(), &disk(name)), content).unwrap();
    }
    let waited = disk("waited_for");
    std::fs::write(lease_of(shared_dir(), &waited), b"").unwrap();
    let limit = WaitLimit::For(LEFTOVER_AGE + Duration::from_secs(40));
    let (took, guard) = timed(|| shared_host().acquire(disks(&[&waited]).wait(limit)));
    assert!(guard.unwrap().is_held());
    // The files are a little older than the request.
    assert!(took + Duration::from_secs(1) > LEFTOVER_AGE, "{took:?}");
    for (name, _) in leftovers {
        let path = lease_of(shared_dir(), &disk(name));
        let guard = shared_host()
            .acquire(disks(&[&disk(name)]))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(guard.is_held());
        assert_eq!(guard.verify(), Ok(()));
        assert_eq!(bytes_of(&path).len(), AREA, "{name}");
        assert_eq!(super::mode_of(&path), 0o600, "{name}");
        guard.release().unwrap();
    }
}

/// `rsync -a` of an image of zeros, soon after the lease was created: the content looks old and the
/// file does not.
#[test]
fn a_leftover_is_no_older_than_its_last_change_whatever_time_it_is_given() {
    let disk = "/leftovers/made_old";
    let path = lease_of(shared_dir(), disk);
    std::fs::write(&path, vec![0; AREA]).unwrap();
    set_age(&path, OLD);
    let fault = fault_of(disk, WaitLimit::Try);
    assert!(matches!(fault, LeaseFault::BeingCreated { .. }), "{fault}");
}

/// Emptied as soon as it was created, so that no time tells; but a host has had it.
#[test]
fn a_file_with_a_second_link_is_no_leftover() {
    for (name, len) in [("emptied", 0), ("zeroed", AREA)] {
        let disk = format!("/leftovers/second_link/{name}");
        let path = lease_of(shared_dir(), &disk);
        let guard = shared_host().acquire(disks(&[&disk])).unwrap();
        let copy = path.with_extension("zeros");
        std::fs::write(&copy, vec![0; len]).unwrap();
        std::fs::rename(&copy, &path).unwrap();
        let second = path.parent().unwrap().join(".disklease/leases");
        let second = second.join(path.file_name().unwrap());
        std::fs::remove_file(&second).unwrap();
        std::fs::hard_link(&path, &second).unwrap();
        drop(guard);
        let fault = fault_of(&disk, WaitLimit::Try);
        let refused = matches!(
            fault,
            LeaseFault::NotInitialised { .. } | LeaseFault::TooShort { .. }
        );
        assert!(refused, "{name}: {fault}");
    }
}

/// What was emptied after it had been in use may be a lease whose owner still runs; so may what is
/// cut in the middle of a record.
#[test]
fn what_was_in_use_or_is_not_empty_is_not_replaced() {
    for (name, len) in [("emptied", 0), ("cut", 100), ("cut_in_the_block", 1100)] {
        let disk = format!("/leftovers/used/{name}");
        let path = lease_of(shared_dir(), &disk);
        drop(shared_host().acquire(disks(&[&disk])).unwrap());
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(len).unwrap();
        // An hour later, as far as the storage can tell.
        let later = file.metadata().unwrap().created().unwrap() + Duration::from_secs(3600);
        file.set_modified(later).unwrap();

        let error = shared_host().acquire(disks(&[&disk])).unwrap_err();
        let fault = error.fault().unwrap_or_else(|| panic!("{name}: {error}"));
        assert!(
            matches!(fault, LeaseFault::TooShort { .. }),
            "{name}: {fault}"
        );
        assert_eq!(
            bytes_of(&path).len(),
            usize::try_from(len).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_fresh_leftover_is_waited_for() {
    let disk = "/leftovers/fresh";
    let path = lease_of(shared_dir(), disk);
    std::fs::write(&path, b"").unwrap();
    let fault = fault_of(disk, WaitLimit::Try);
    let LeaseFault::BeingCreated { remaining } = fault else {
        panic!("{fault}");
    };
    assert!(remaining > Duration::from_secs(30) && remaining <= LEFTOVER_AGE);
    assert_eq!(bytes_of(&path), [0; 0]);

    // As long as the limit allows; then it is the same refusal.
    let limit = Duration::from_millis(600);
    let (took, fault) = timed(|| fault_of(disk, WaitLimit::For(limit)));
    assert!(matches!(fault, LeaseFault::BeingCreated { .. }), "{fault}");
    assert!(took >= limit, "{took:?}");
}

#[test]
fn what_is_or_was_a_lease_is_never_replaced() {
    let host = shared_host();
    for (name, cut) in [("sector", 512), ("blocks", 8192), ("last_host", 2001 * 512)] {
        let disk = format!("/leftovers/cut/{name}");
        drop(host.acquire(disks(&[&disk])).unwrap());
        let path = lease_of(shared_dir(), &disk);
        let whole = bytes_of(&path);
        std::fs::write(&path, &whole[..cut]).unwrap();
        set_age(&path, OLD);
        let fault = fault_of(&disk, WaitLimit::Try);
        assert!(
            matches!(fault, LeaseFault::TooShort { .. }),
            "{name}: {fault}"
        );
        assert!(bytes_of(&path) == whole[..cut], "{name}");
    }
    // Without its leader, but with the block of a host that may hold it.
    let disk = "/leftovers/leader_gone";
    let guard = host.acquire(disks(&[disk])).unwrap();
    let path = lease_of(shared_dir(), disk);
    overwrite(&path, 0, &[0; 1024]);
    set_age(&path, OLD);
    let copy = "/leftovers/leader_gone_copy";
    let copied = lease_of(shared_dir(), copy);
    std::fs::copy(&path, &copied).unwrap();
    set_age(&copied, OLD);
    let before = bytes_of(&copied);
    let fault = fault_of(copy, WaitLimit::Try);
    assert!(
        matches!(fault, LeaseFault::NotInitialised { offset: 0 }),
        "{fault}"
    );
    assert!(bytes_of(&copied) == before);
    drop(guard);
}

#[test]
fn a_link_in_the_place_of_a_lease_is_refused() {
    let disk = "/leftovers/link";
    let target = shared_dir().join("target");
    std::fs::write(&target, b"").unwrap();
    set_age(&target, OLD);
    std::os::unix::fs::symlink(&target, lease_of(shared_dir(), disk)).unwrap();
    assert!(matches!(
        fault_of(disk, WaitLimit::Try),
        LeaseFault::Open(_)
    ));
    assert_eq!(bytes_of(&target), [0; 0]);

    let dangling = "/leftovers/dangling";
    std::os::unix::fs::symlink("/nowhere/at/all", lease_of(shared_dir(), dangling)).unwrap();
    assert!(matches!(
        fault_of(dangling, WaitLimit::Try),
        LeaseFault::Open(_)
    ));
}
