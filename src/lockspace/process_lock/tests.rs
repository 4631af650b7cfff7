use std::process::{Command, Stdio};

use super::*;

fn take(dir: &Path, host: u64) -> Result<Option<ProcessLock>, InUseHere> {
    let name = LockspaceName::new("LS").unwrap();
    let host = HostId::new(host).unwrap();
    ProcessLock::take(Some(dir), Path::new("/a/b"), &name, host)
}

fn token(dir: &Path, host: u64) -> u32 {
    take(dir, host).unwrap().unwrap().token()
}

/// Children that other tests of this process start meanwhile inherit the lock, and live on.
fn token_soon(dir: &Path, host: u64) -> u32 {
    take_soon(dir, host).token()
}

/// Both locks. A child of another test may have a copy for a moment.
fn take_soon(dir: &Path, host: u64) -> ProcessLock {
    let end = clock::now() + Duration::from_secs(30);
    loop {
        match take(dir, host) {
            Ok(Some(lock)) if lock.token() != 0 => return lock,
            _ => assert!(clock::now() < end, "the lock is not given back"),
        }
        block_on(StorageWorld.sleep(POLL_INTERVAL));
    }
}

#[test]
fn is_held_by_one_process_at_a_time_for_each_host_id() {
    let dir = tempfile::tempdir().unwrap();
    let first = take(dir.path(), 1).unwrap().unwrap();
    let refused = take(dir.path(), 1).unwrap_err();
    assert_eq!(refused.pid, Some(std::process::id()));
    assert!(refused.lock.starts_with(dir.path()));
    assert_ne!(token(dir.path(), 2), 0);
    let token = first.token();
    drop(first);
    assert_eq!(
        token_soon(dir.path(), 1),
        token,
        "the file's own token stays"
    );
}

#[test]
fn a_child_that_lives_on_takes_the_proof_away_and_refuses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let lock = take(dir.path(), 1).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    drop(lock);
    let without_proof = take(dir.path(), 1).unwrap().unwrap();
    assert_eq!(without_proof.token(), 0);
    assert!(take(dir.path(), 1).is_err(), "it is a process of its own");
    drop(without_proof);
    child.kill().unwrap();
    child.wait().unwrap();
    token_soon(dir.path(), 1);
}

/// A process that sleeps, with this file or nothing as its input. Killed when dropped.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn start(input: Stdio) -> Self {
        let mut sleep = Command::new("sleep");
        Self(sleep.arg("60").stdin(input).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_has_inherited_the_lock_if_it_has_that_very_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |lock: &ProcessLock| {
        let fd = lock.inherited.as_ref().unwrap().file.as_raw_fd();
        std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap()
    };
    let lock = take_soon(dir.path(), 1);
    let inherited = path(&lock);
    drop(lock);
    // One that has nothing of it, and one that has a file of the same name.
    let stranger = Sleeper::start(Stdio::null());
    let namesake = Sleeper::start(File::open(&inherited).unwrap().into());
    std::fs::remove_file(&inherited).unwrap();
    let lock = take_soon(dir.path(), 1);
    let child = Sleeper::start(Stdio::null());
    for is_removed in [false, true] {
        if is_removed {
            std::fs::remove_file(&inherited).unwrap();
            let its = std::fs::read_link(format!("/proc/{}/fd/0", namesake.0.id()));
            assert_eq!(its.unwrap(), path(&lock));
        }
        assert!(lock.is_inherited_by(child.0.id()));
        assert!(!lock.is_inherited_by(stranger.0.id()));
        assert!(!lock.is_inherited_by(namesake.0.id()));
    }
}

#[test]
fn a_file_that_was_replaced_has_another_token() {
    let dir = tempfile::tempdir().unwrap();
    let first = take(dir.path(), 1).unwrap().unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_ne!(token(dir.path(), 1), first.token());
}

#[test]
fn the_file_has_the_last_join_that_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let run = |number| Incarnation::new([number; 16]);
    let mut earlier = None;
    for number in [1, 2] {
        let lock = take_soon(dir.path(), 1);
        assert_eq!(lock.earlier(), earlier);
        lock.record(run(number).unwrap());
        assert_eq!(lock.earlier(), earlier, "as it was found");
        earlier = run(number);
    }
    let lock = take_soon(dir.path(), 1);
    assert_eq!(lock.earlier(), run(2));
    lock.revoke();
    drop(lock);
    assert_eq!(take_soon(dir.path(), 1).earlier(), None);
}

/// A forked child that runs no other program has such copies.
#[test]
fn the_exclusive_lock_ends_with_its_process_or_by_it_whoever_has_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let mut lock = take(dir.path(), 1).unwrap().unwrap();
    let copy = lock.exclusive.file.try_clone().unwrap();
    lock.exclusive.pid = 0;
    drop(lock);
    assert!(take(dir.path(), 1).is_err(), "not by the child");
    drop(copy);
    let lock = take(dir.path(), 1).unwrap().unwrap();
    let copy = lock.exclusive.file.try_clone().unwrap();
    drop(lock);
    assert!(take(dir.path(), 1).is_ok());
    drop(copy);
}

#[test]
fn no_directory_is_no_proof() {
    assert!(take(Path::new("/proc/nothing/here"), 1).unwrap().is_none());
}
