//! Hosts that go by another fire timeout do not share a lockspace.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use disklease::lockspace::{JoinProgress, LockspaceOptions};
use disklease::{JoinErrorKind, LossReason};

use disklease_fixtures::host::{
    AT_ONCE, Child, N, SOON, child_role, host_id, lockspace_in, options, say, scratch, timed,
    try_join, wait_for_parent, wait_until,
};

/// Host 1, in a process of its own. Its role: its N and its F, in seconds.
#[test]
fn child() {
    let Some((role, dir)) = child_role() else {
        return;
    };
    let (io, fire) = role.split_once(' ').unwrap();
    let secs = |text: &str| Duration::from_secs(text.parse().unwrap());
    let joined = options(&dir, "alpha")
        .io_timeout(secs(io))
        .fire_timeout(secs(fire))
        .join(lockspace_in(&dir), host_id(1))
        .unwrap();
    say("joined");
    wait_for_parent();
    joined.leave().unwrap();
}

fn start(dir: &Path, io: u64, fire: u64) -> Child {
    let child = Child::start(
        "lockspace_errors::fire_timeouts::child",
        &format!("{io} {fire}"),
        dir,
    );
    assert_eq!(child.hear(SOON), "joined");
    child
}

/// Options of host 2, and when it says that it waits for which host with which fire timeout, and for
/// how much longer.
fn host_2(dir: &Path, fire: u64) -> (LockspaceOptions, Receiver<(Instant, JoinProgress)>) {
    let (tell, heard) = channel();
    let options = options(dir, "beta")
        .fire_timeout(Duration::from_secs(fire))
        .on_progress(move |event| {
            if matches!(event, JoinProgress::WaitingForHost { .. }) {
                tell.send((Instant::now(), event)).unwrap();
            }
        });
    (options, heard)
}

#[test]
fn a_host_that_lives_is_refused_however_rarely_it_renews() {
    for io in [1, 3] {
        let dir = scratch();
        let mut child = start(dir.path(), io, 61);
        let (took, refused) = timed(|| try_join(dir.path(), 2, "beta"));
        let error = refused.unwrap_err();
        let &JoinErrorKind::FireTimeoutDiffers {
            other,
            theirs,
            ours,
        } = error.kind()
        else {
            panic!("{error}");
        };
        assert_eq!(
            (other, theirs.as_secs(), ours.as_secs()),
            (host_id(1), 61, 60)
        );
        // It renews after 2N of its own, which is seen after 2N of ours.
        let until_seen = 2 * N + 2 * Duration::from_secs(io) + 2 * N;
        assert!(took < until_seen + SOON, "{took:?}");
        assert!(child.ended_well());
        // Nor does the refused host leave its id owned.
        let (took, joined) = timed(|| try_join(dir.path(), 2, "beta"));
        assert_eq!(joined.unwrap().generation().get(), 2);
        assert!(took < 2 * N + AT_ONCE, "{took:?}");
    }
}

#[test]
fn a_host_that_was_killed_is_waited_out() {
    let dir = scratch();
    let mut child = start(dir.path(), 1, 1);
    child.kill();
    let (options, heard) = host_2(dir.path(), 2);
    let begun = Instant::now();
    let joined = options.join(lockspace_in(dir.path()), host_id(2)).unwrap();
    // 8N + F and a second, by its N and the longer F.
    let dead_after = Duration::from_secs(8 + 2 + 1);
    assert!(begun.elapsed() > dead_after, "{:?}", begun.elapsed());
    assert!(joined.is_held());
    let (when, event) = heard.try_recv().unwrap();
    let JoinProgress::WaitingForHost {
        host_id: other,
        fire_timeout,
        remaining,
        ..
    } = event
    else {
        panic!("{event:?}");
    };
    assert_eq!((other, fire_timeout.as_secs()), (host_id(1), 1));
    // It was silent before, too, and that counts.
    assert!(remaining < dead_after, "{remaining:?}");
    assert!(when + remaining >= begun + dead_after);
    assert!(begun.elapsed() < dead_after + 2 * N + SOON);
    joined.leave().unwrap();
}

/// While a host waits it may lose its own id, like any that has joined.
#[test]
fn who_loses_his_id_meanwhile_is_told_why() {
    let dir = scratch();
    let mut child = start(dir.path(), 1, 1);
    child.kill();
    let path = lockspace_in(dir.path());
    let (options, heard) = host_2(dir.path(), 600);
    let joining = {
        let path = path.clone();
        std::thread::spawn(move || options.join(path, host_id(2)))
    };
    heard.recv_timeout(SOON).unwrap();
    std::fs::remove_file(&path).unwrap();
    wait_until("the loss", SOON, || joining.is_finished().then_some(()));
    let lost = joining.join().unwrap();
    let error = lost.unwrap_err();
    let JoinErrorKind::Lost(reason) = error.kind() else {
        panic!("{error}");
    };
    assert_eq!(
        (error.host_id(), reason),
        (host_id(2), &LossReason::LockspaceReplaced)
    );
    assert!(error.to_string().contains("removed or replaced"), "{error}");
}
