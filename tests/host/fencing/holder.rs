//! A holder in a process of its own: it tells what it is notified of, and its guest writes for as long as it is let.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use disklease::{
    Access, FailureAction, FailureMeans, HelperProgram, LockEvent, LockGuard, LockManager,
    LockRequest, LossCallback, Owner, die_with_this_thread,
};
use rustix::process::Pid;

use super::place::{join, patiently};
use disklease_fixtures::host::{Child, SOON, child_role, disks, say, wait_for_parent};

/// How often the guest of a holder writes.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// What the guest says with each write.
pub(crate) const WROTE: &str = "wrote";

/// Starts a holder as `host`: it says "held" when it holds its disk. `how` is what it does then.
pub(crate) fn start(dir: &Path, host: u64, hangs: bool, how: &str) -> Child {
    let seen = if hangs { "seen" } else { "leases" };
    Child::start(
        "fencing::holder::entry",
        &format!("{host} {seen} {how}"),
        dir,
    )
}

pub(crate) fn disk(host: u64) -> String {
    format!("/disk/{host}")
}

/// Whether its main thread has ended. Others may still hang in the kernel, and come back to nothing.
pub(crate) fn is_dead(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
    stat.contains(") Z ") || stat.contains(") X ")
}

pub(crate) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.pid().try_into().unwrap()).unwrap()
}

/// Hears up to the word `until`, and gives when it was heard and all that was before.
pub(crate) fn hear_until(child: &Child, until: &str) -> (Instant, Vec<String>) {
    let mut before = Vec::new();
    let end = Instant::now() + 2 * SOON;
    loop {
        assert!(Instant::now() < end, "it says a lot, and not {until:?}");
        let word = child.hear(SOON);
        if word == until {
            return (Instant::now(), before);
        }
        before.push(word);
    }
}

/// A child's side; does nothing in the test run itself.
#[test]
fn entry() {
    let Some((role, dir)) = child_role() else {
        return;
    };
    let words: Vec<&str> = role.splitn(3, ' ').collect();
    let (host, leases, how) = (words[0].parse().unwrap(), dir.join(words[1]), words[2]);
    let manager = join(&leases, &dir, host, &format!("host{host}"));
    let action = || match how {
        "helper" => FailureAction::Pause(FailureMeans::ByHelper(
            HelperProgram::new("/bin/sh")
                .arg("-c")
                .arg(format!(
                    "echo $0 > {}; sleep 60",
                    dir.join("helped").display()
                ))
                .append_action(),
        )),
        "callback" => FailureAction::Callback(LossCallback::new(|_| {
            say("called");
            thread::sleep(Duration::from_secs(60));
        })),
        "ignore" => FailureAction::Ignore,
        _ => FailureAction::PowerOff,
    };
    if how == "owner" {
        return own_by_another(&manager, &disk(host));
    }
    let request = || disks(&[&disk(host)]).on_lock_failure(action());
    let guard = patiently(|| manager.acquire(request()));
    say("held");
    match how {
        // One of many that keep the machine busy.
        "writes" => write_for_ever(),
        // It goes on until it is killed.
        "stubborn" | "helper" | "callback" => {
            thread::spawn(write_for_ever);
            tell_for_ever(&guard);
        }
        "ignore" => tell_for_ever(&guard),
        "obedient" => {
            while guard.is_held() {
                say(WROTE);
                thread::sleep(TICK);
            }
            drop(guard);
            say("stopped");
            wait_for_parent();
        }
        other => panic!("{other}"),
    }
}

fn write_for_ever() {
    loop {
        say(WROTE);
        thread::sleep(TICK);
    }
}

fn tell_for_ever(guard: &LockGuard) {
    let mut was_held = true;
    loop {
        if was_held && !guard.is_held() {
            was_held = false;
            say("not held");
        }
        while let Some(event) = guard.next_event() {
            match event {
                LockEvent::Warned { .. } => say("warned"),
                LockEvent::Lost(_) => say("lost"),
                _ => {}
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The disk is held for a shell that does not end when it is asked to.
fn own_by_another(manager: &dyn LockManager, disk: &str) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap 'echo; echo child says: asked' TERM; echo; echo child says: runs; while :; do sleep 0.02; done"])
        .stdin(Stdio::null());
    let child = die_with_this_thread(&mut shell).spawn().unwrap();
    let owner = Owner::process("guest-1", child.id());
    let request = LockRequest::new(owner).disk(disk, Access::Exclusive);
    let guard = manager.acquire(request).unwrap();
    say(&format!("held for {}", child.id()));
    wait_for_parent();
    drop(guard);
}
