//! What the manager with leases compares when locks are resumed or accepted.

use disklease::{AcquireErrorKind, LeaseFault, LockManager as _, TokenError};

use super::{shared_dir, shared_host};
use disklease_fixtures::host::{disks, request};

/// All or nothing, also in what is left for the next try.
#[test]
fn a_resume_that_one_disk_forbids_leaves_the_others_as_they_were() {
    let host = shared_host();
    // In the order in which they are taken, the one that is in the way must not be the first.
    let names: Vec<_> = (0..4).map(|n| format!("/as_left/all/{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for in_the_way in &names {
        let state = host.acquire(disks(&names)).unwrap().suspend().unwrap();
        host.acquire(disks(&[in_the_way]))
            .unwrap()
            .release()
            .unwrap();
        let refused = host.resume(&state, disks(&names)).unwrap_err();
        let AcquireErrorKind::VersionConflict(change) = refused.kind() else {
            panic!("{refused}");
        };
        let locked = refused.locked().unwrap().to_string();
        assert!(locked.contains(in_the_way), "{refused}");
        assert_eq!(change.taken_by.as_ref().unwrap().host_id.get(), 1);
        // Each of the others goes on by itself.
        for name in names.iter().filter(|name| *name != in_the_way) {
            let text = state.to_string();
            let md5 = disklease::libvirt::lease_name((*name).as_ref()).to_string();
            let one = text.split(' ').find(|lease| lease.contains(&md5)).unwrap();
            let one = one.parse().unwrap();
            host.resume(&one, disks(&[name]))
                .unwrap()
                .release()
                .unwrap();
        }
    }
}

#[test]
fn a_state_is_for_its_own_locks_all_of_them_and_no_others() {
    let host = shared_host();
    let (one, two) = ("/as_left/own/1", "/as_left/own/2");
    let state = host.acquire(disks(&[one, two])).unwrap().suspend().unwrap();
    for names in [
        &[one][..],
        &[one, "/as_left/own/3"],
        &[one, two, "/as_left/own/3"],
    ] {
        let refused = host.resume(&state, disks(names)).unwrap_err();
        assert!(
            matches!(refused.kind(), AcquireErrorKind::OtherLocks),
            "{refused}"
        );
    }
    // A shared lock has no version.
    let shared = state.to_string().replace(":0:1", ":0:SH").parse().unwrap();
    let refused = host.resume(&shared, disks(&[one, two])).unwrap_err();
    assert!(
        matches!(refused.kind(), AcquireErrorKind::VersionUnknown),
        "{refused}"
    );
    // Without names, by the paths of the state.
    host.resume(&state, request()).unwrap().release().unwrap();
}

#[test]
fn what_does_not_fit_into_a_token_is_not_offered() {
    let host = shared_host();
    let names: Vec<_> = (0..30).map(|n| format!("/as_left/many/{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let few = host.acquire(disks(&names[..20])).unwrap();
    let offer = few.offer().unwrap();
    assert!(offer.token().to_bytes().len() < 256);
    let token = offer.token().clone();
    let guard = offer.cancel();
    guard.release().unwrap();
    let refused = host.accept(&token, disks(&names[..19])).unwrap_err();
    assert!(
        matches!(refused.kind(), AcquireErrorKind::OtherLocks),
        "{refused}"
    );
    let refused = host.accept(&token, disks(&names[..20])).unwrap_err();
    assert!(
        matches!(refused.kind(), AcquireErrorKind::NotHandedOver { .. }),
        "{refused}"
    );

    let many = host.acquire(disks(&names)).unwrap();
    let refused = many.offer().unwrap_err();
    assert_eq!(refused.reason, TokenError::TooMany { locks: 30 });
    assert!(refused.guard.is_held());
}

/// What has to be as it was left is neither made anew nor repaired.
#[test]
fn a_lease_that_is_expected_is_not_made_anew() {
    let host = shared_host();
    for is_emptied in [false, true] {
        let disk = format!("/as_left/gone/{is_emptied}");
        let state = host.acquire(disks(&[&disk])).unwrap().suspend().unwrap();
        let name = disklease::libvirt::lease_name(disk.as_ref()).to_string();
        let path = shared_dir().join(&name);
        std::fs::remove_file(shared_dir().join(".disklease/leases").join(&name)).unwrap();
        std::fs::remove_file(&path).unwrap();
        if is_emptied {
            // As if somebody had started to create one, long ago.
            let file = std::fs::File::create(&path).unwrap();
            let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(300);
            file.set_modified(long_ago).unwrap();
        }
        let refused = host.resume(&state, disks(&[&disk])).unwrap_err();
        let fault = refused.fault().unwrap_or_else(|| panic!("{refused}"));
        // Whoever would repair it waits for it to be old enough.
        let is_repaired = matches!(fault, LeaseFault::BeingCreated { .. });
        assert!(!is_repaired, "{refused}");
        let len = std::fs::metadata(&path).ok().map(|file| file.len());
        assert_eq!(len, is_emptied.then_some(0), "{refused}");
        // For others that use this directory.
        let _ = std::fs::remove_file(&path);
    }
}
