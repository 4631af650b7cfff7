//! What a refusal by another host tells, and what becomes of it.

use std::time::Duration;

use disklease::{LockManager as _, OwnerSeen, WaitLimit};

use disklease_fixtures::host::{
    AT_ONCE, Child, SOON, child_role, disks, manager, say, scratch, timed, wait_for_parent,
    wait_until,
};

const DISK: &str = "/refusal/disk";

/// The other host: holds the disk until its parent lets it go.
#[test]
fn child() {
    let Some((_, dir)) = child_role() else { return };
    let host = manager(&dir, 2, "beta");
    let guard = host.acquire(disks(&[DISK])).unwrap();
    say("held");
    wait_for_parent();
    guard.release().unwrap();
    host.lockspace().clone().leave().unwrap();
}

#[test]
fn a_refusal_names_the_holder_and_ends_when_it_releases() {
    let dir = scratch();
    let mut child = Child::start("manager_contract::refusal::child", "holder", dir.path());
    let host = manager(dir.path(), 1, "alpha");
    assert_eq!(child.hear(SOON), "held");

    let (took, refused) = timed(|| host.acquire(disks(&[DISK])).map(drop));
    assert!(took < AT_ONCE, "{took:?}");
    let text = refused.unwrap_err().to_string();
    let guest = format!("for guest \"guest-1\", process {}", child.pid());
    for part in [DISK, "host 2 \"beta\" (generation 1)", &guest] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }

    // Seen to renew, it is known to be alive.
    let holder = wait_until("the holder is seen to renew", SOON, || {
        let error = host.acquire(disks(&[DISK])).unwrap_err();
        let holder = error.holder().unwrap_or_else(|| panic!("{error}")).clone();
        matches!(holder.seen, OwnerSeen::Alive { .. }).then_some(holder)
    });
    assert_eq!(holder.host_id.get(), 2);
    assert_eq!(holder.generation.get(), 1);
    assert_eq!(holder.host_name.text(), b"beta");
    assert_eq!(holder.version.get(), 1);
    let note = holder.note.as_ref().unwrap();
    assert_eq!((note.pid, note.guest_uuid), (child.pid(), Some([7; 16])));
    assert!(holder.to_string().contains("alive: it renewed"), "{holder}");

    let limit = Duration::from_millis(700);
    let (took, refused) = timed(|| {
        host.acquire(disks(&[DISK]).wait(WaitLimit::For(limit)))
            .map(drop)
    });
    assert!(refused.unwrap_err().is_held());
    assert!(took >= limit && took < limit + AT_ONCE, "{took:?}");

    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| host.acquire(disks(&[DISK]).wait(WaitLimit::For(SOON))));
        child.let_go();
        let guard = waiter.join().unwrap().unwrap();
        assert_eq!(guard.locks().next().unwrap().version.unwrap().get(), 2);
    });
    assert!(child.ended_well());

    // A host that has left for good is remembered by nothing.
    host.acquire(disks(&[DISK])).unwrap().release().unwrap();
    host.lockspace().clone().leave().unwrap();
}

#[test]
fn a_holder_that_was_killed_is_told_from_one_that_lives() {
    let dir = scratch();
    let mut child = Child::start("manager_contract::refusal::child", "holder", dir.path());
    let host = manager(dir.path(), 1, "alpha");
    assert_eq!(child.hear(SOON), "held");
    child.kill();
    // More than 8N after its last renewal: from then on it can at most be dead.
    let (silent, takeable) = wait_until("its silence", SOON, || {
        let error = host.acquire(disks(&[DISK])).unwrap_err();
        match error.holder().unwrap_or_else(|| panic!("{error}")).seen {
            OwnerSeen::Silent {
                for_at_least,
                takeable_in,
            } if for_at_least > Duration::from_secs(8) => {
                assert!(
                    error.to_string().contains("the lease can be taken in"),
                    "{error}"
                );
                Some((for_at_least, takeable_in))
            }
            _ => None,
        }
    });
    // 8N + F and a second.
    let total = (silent + takeable).as_secs_f64();
    assert!((68.9..69.1).contains(&total), "{total}");
}
