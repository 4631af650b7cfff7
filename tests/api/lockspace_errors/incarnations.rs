//! A process that was killed while it was joined, and its next incarnation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use disklease::lockspace::{JoinErrorKind, JoinProgress};
use disklease::{Access, LockManager as _, LockRequest, Owner};

use disklease_fixtures::host::{
    AT_ONCE, Child, N, SOON, child_role, host_id, lockspace_in, manager, options, say, scratch,
    try_join, wait_for_parent, wait_for_process_token, wait_until,
};

/// Joins, alone or with a child that lives on, and waits to be killed.
#[test]
fn child() {
    let Some((role, dir)) = child_role() else {
        return;
    };
    let tell = |event: JoinProgress| match event {
        JoinProgress::WaitingForOwner { remaining, .. } => {
            say(&format!("waits {}", remaining.as_millis()));
        }
        JoinProgress::Confirming { .. } => say("confirms"),
        _ => say("unknown"),
    };
    let name = if role == "stranger" { "beta" } else { "alpha" };
    let mut options = options(&dir, name);
    if role == "unproven" {
        options = options.runtime_dir("/proc/no/such/directory");
    }
    let joined = options
        .on_progress(tell)
        .join(lockspace_in(&dir), host_id(1))
        .unwrap();
    if role == "parent" {
        #[expect(clippy::zombie_processes, reason = "to be left behind is its part")]
        let left_behind = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        say(&left_behind.id().to_string());
    }
    say(&format!("joined {}", joined.generation()));
    wait_for_parent();
}

fn start(role: &str, dir: &Path) -> Child {
    Child::start("lockspace_errors::incarnations::child", role, dir)
}

#[test]
fn a_process_that_was_killed_is_followed_at_once_by_its_like() {
    let dir = scratch();
    for generation in 1..=2 {
        let mut life = start("alone", dir.path());
        assert_eq!(life.hear(SOON), "confirms");
        assert_eq!(life.hear(SOON), format!("joined {generation}"));
        wait_for_process_token(&lockspace_in(dir.path()), 1);
        life.kill();
    }
    // In this process, too: it is the same host, with the same directory for its process locks.
    let (took, joined) =
        disklease_fixtures::host::timed(|| try_join(dir.path(), 1, "alpha").unwrap());
    assert_eq!(joined.generation().get(), 3);
    assert!(took < 2 * N + AT_ONCE, "{took:?}");
    joined.leave().unwrap();
}

/// What lives beside it with the same id and the same name is refused by name, though on the disk it could
/// be known by its incarnation alone; also while it only claims the id.
#[test]
fn a_process_that_lives_is_refused_on_the_same_machine() {
    let dir = scratch();
    let life = start("alone", dir.path());
    assert_eq!(life.hear(SOON), "confirms");
    for joined in [false, true] {
        if joined {
            assert_eq!(life.hear(SOON), "joined 1");
        }
        let error = try_join(dir.path(), 1, "alpha").unwrap_err();
        let JoinErrorKind::HostIdInUseHere { lock, pid } = error.kind() else {
            panic!("{error}")
        };
        assert_eq!((error.host_id().get(), *pid), (1, Some(life.pid())));
        assert!(lock.starts_with(dir.path()), "{lock:?}");
    }
}

#[test]
fn a_process_that_was_killed_is_waited_for_where_its_end_is_not_proven() {
    // Another name; the same name without its process locks.
    let dir = scratch();
    let mut life = start("alone", dir.path());
    assert_eq!(life.hear(SOON), "confirms");
    assert_eq!(life.hear(SOON), "joined 1");
    life.kill();
    let stranger = start("stranger", dir.path()).hear(SOON);
    assert_waits(&stranger);
    let unproven = start("unproven", dir.path()).hear(SOON);
    assert_waits(&unproven);
}

#[test]
fn a_process_that_was_killed_is_waited_for_while_a_child_of_it_lives() {
    let dir = scratch();
    let mut life = start("parent", dir.path());
    assert_eq!(life.hear(SOON), "confirms");
    let left_behind = LeftBehind(life.hear(SOON).parse().unwrap());
    assert_eq!(life.hear(SOON), "joined 1");
    wait_for_process_token(&lockspace_in(dir.path()), 1);
    life.kill();
    assert_waits(&start("alone", dir.path()).hear(SOON));
    drop(left_behind);
    // Its end is soon seen.
    wait_until("a process lock that is free", SOON, || {
        (start("alone", dir.path()).hear(SOON) == "confirms").then_some(())
    });
}

/// The file of the process lock of host 1.
pub(crate) fn process_lock_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("run/alpha")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let is_process_lock =
        |path: &PathBuf| path.extension().is_some_and(|kind| kind == "incarnation");
    files.find(is_process_lock).unwrap()
}

/// As on a machine that was cloned with its memory: boot, lock and mark are those of the join that the disk
/// shows, but the machine knows nothing of it. Nor does it where the record was torn, or is of a version
/// that made none.
#[test]
fn a_life_that_this_machine_has_not_recorded_is_waited_for() {
    let dir = scratch();
    let mut life = start("alone", dir.path());
    assert_eq!(life.hear(SOON), "confirms");
    assert_eq!(life.hear(SOON), "joined 1");
    wait_for_process_token(&lockspace_in(dir.path()), 1);
    life.kill();
    let file = process_lock_file(dir.path());
    let recorded = std::fs::read(&file).unwrap();
    let mut torn = recorded.clone();
    torn[3] ^= 1;
    let longer = [&recorded[..], &[0]].concat();
    for record in [&[], &recorded[..11], &torn, &longer] {
        std::fs::write(&file, record).unwrap();
        assert_waits(&start("alone", dir.path()).hear(SOON));
    }
    // That of a join which has not come to its claim.
    let of_another = std::fs::read(&file).unwrap();
    assert_eq!(of_another.len(), recorded.len());
    assert_waits(&start("alone", dir.path()).hear(SOON));
    std::fs::write(&file, &recorded).unwrap();
    assert_eq!(start("alone", dir.path()).hear(SOON), "confirms");
}

/// It may live on when this process is killed, and nobody would know.
#[test]
fn a_lock_for_a_process_without_the_process_lock_takes_the_record_away() {
    let dir = scratch();
    let sleeper = || Sleeper(Command::new("sleep").arg("1000").spawn().unwrap());
    let stranger = sleeper();
    let host = manager(dir.path(), 1, "alpha");
    let child = sleeper();
    let record = || std::fs::read(process_lock_file(dir.path())).unwrap();
    assert_eq!(record().len(), 20);
    for (owner, left) in [(&child, 20), (&stranger, 0), (&child, 0)] {
        let owner = Owner::process("web", owner.0.id());
        let request = LockRequest::new(owner).disk("/a", Access::Exclusive);
        let guard = host.acquire(request).unwrap();
        assert_eq!(record().len(), left);
        guard.release().unwrap();
    }
}

/// A process that sleeps. Killed when dropped.
struct Sleeper(std::process::Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 8N + F and a second, less what it took to inspect the disk and to say so.
fn assert_waits(said: &str) {
    let millis = said
        .strip_prefix("waits ")
        .unwrap_or_else(|| panic!("{said}"));
    let millis: u64 = millis.parse().unwrap();
    assert!((60_000..=69_000).contains(&millis), "{millis} ms");
}

/// A process that nobody of ours is the parent of. Killed when dropped.
struct LeftBehind(i32);

impl Drop for LeftBehind {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.0).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}
