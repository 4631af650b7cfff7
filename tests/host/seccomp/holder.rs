//! A holder in a process of its own, which closes its filter when it has its locks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use disklease::{
    Access, HostId, LeaseDirectory, LockEvent, LockGuard, LockManager as _, LockRequest, Owner,
    PaxosManager, die_with_this_thread,
};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::filter;
use super::lists::of_words;
use crate::fencing::place;
use disklease_fixtures::host::{Child, child_role, options, say};

/// What a holder is to be, and under which filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder<'a> {
    /// The lists of calls that it may make, with `+` between them.
    pub(crate) lists: &'a str,
    /// One that is not let though it is on a list.
    pub(crate) without: Option<&'a str>,
    /// Its number, that of its disks.
    pub(crate) host: u64,
    /// Whether it sees its storage through the mount.
    pub(crate) hangs: bool,
    /// What it does.
    pub(crate) how: &'a str,
}

impl Holder<'_> {
    /// Starts it. It says for which process it holds its disks when its filter is closed.
    pub(crate) fn start(self, dir: &Path) -> Child {
        let seen = if self.hangs { "seen" } else { "leases" };
        let Self {
            lists, host, how, ..
        } = self;
        let without = self.without.unwrap_or("none");
        let role = format!("{host} {seen} {lists} {without} {how}");
        Child::start("seccomp::holder::entry", &role, dir)
    }
}

/// The two disks of a host.
pub(crate) fn disks_of(host: u64) -> [String; 2] {
    [format!("/disk/{host}"), format!("/disk/{host}/second")]
}

/// A child's side; does nothing in the test run itself.
#[test]
fn entry() {
    let Some((role, dir)) = child_role() else {
        return;
    };
    let words: Vec<&str> = role.split(' ').collect();
    let [host, seen, lists, without, how] = words[..] else {
        panic!("{role}");
    };
    let mut calls: Vec<_> = of_words(lists)
        .into_iter()
        .flat_map(super::lists::List::calls)
        .collect();
    assert!(without == "none" || calls.contains(&without), "{without}");
    calls.retain(|call| *call != without);
    live(&dir, host.parse().unwrap(), seen, &calls, how);
    // Nothing of the test harness is to run under the filter.
    std::process::exit(0);
}

fn live(dir: &Path, host: u64, seen: &str, calls: &[&str], how: &str) {
    let leases = dir.join(seen);
    let mut options = options(dir, &format!("host{host}")).fire_timeout(place::F);
    if how != "growing" {
        options = options.lease_threads(2);
    }
    let lockspace = options
        .join(
            leases.join("__LIBVIRT__DISKS__"),
            HostId::new(host).unwrap(),
        )
        .unwrap();
    let manager = PaxosManager::new(lockspace, LeaseDirectory::new(&leases)).unwrap();
    let is_owned = how == "owned";
    let (pid, owner) = if is_owned {
        let pid = start_owner();
        (pid, Owner::process("guest-1", pid))
    } else {
        (std::process::id(), Owner::this_process("guest-1"))
    };
    let [first, second] = disks_of(host);
    let request = |disk| LockRequest::new(owner.clone()).disk(disk, Access::Exclusive);
    let mut wanted = request(first);
    if how == "callback" {
        wanted = wanted.on_lost(|_| say("called"));
    }
    let guard = manager.acquire(wanted).unwrap();
    let second = manager.acquire(request(second)).unwrap();

    let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
    // By its edges: it stays readable after a loss.
    let edges = EventFlags::IN | EventFlags::ET;
    epoll::add(&epoll, guard.event_fd(), EventData::new_u64(EVENT), edges).unwrap();
    let stdin = std::io::stdin();
    epoll::add(&epoll, &stdin, EventData::new_u64(LET_GO), EventFlags::IN).unwrap();
    // To see what is called, by `strace -f -e trace='!…'`.
    if std::env::var_os("DISKLEASE_SECCOMP_OPEN").is_none() {
        filter::close(calls);
    }
    say(&format!("held for {pid}"));

    tell_until_let_go(&guard, &epoll, how);
    // Its own threads end when a lockspace is left.
    let threads_may_end = calls.contains(&"exit");
    let manager = std::mem::ManuallyDrop::new(manager);
    match how {
        "growing" => {
            let both = [guard, second].map(|guard| std::thread::spawn(|| guard.release().unwrap()));
            for release in both {
                release.join().unwrap();
            }
            say("released");
            // Until threads that are idle have ended.
            wait(&epoll, Duration::from_secs(12));
        }
        "stops" => drop((guard, second)),
        "spared" => {
            drop((guard, second));
            say("stopped");
            while !wait(&epoll, Duration::from_secs(1)).contains(&LET_GO) {}
        }
        _ => {
            drop(guard);
            second.release().unwrap();
            say("released");
        }
    }
    if threads_may_end {
        drop(std::mem::ManuallyDrop::into_inner(manager));
    }
}

const EVENT: u64 = 1;
const LET_GO: u64 = 2;

/// What has happened, if anything does within `limit`.
fn wait(epoll: &impl std::os::fd::AsFd, limit: Duration) -> Vec<u64> {
    let limit = rustix::event::Timespec::try_from(limit).unwrap();
    let mut events = Vec::with_capacity(4);
    match epoll::wait(
        epoll,
        rustix::buffer::spare_capacity(&mut events),
        Some(&limit),
    ) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => panic!("{error}"),
    }
    events
        .iter()
        .map(|event: &epoll::Event| event.data.u64())
        .collect()
}

/// The event loop of a monitor, until the parent lets it go; or until the loss for one that stops then.
fn tell_until_let_go(guard: &LockGuard, epoll: &impl std::os::fd::AsFd, how: &str) {
    let mut was_held = true;
    loop {
        let events = wait(epoll, Duration::from_millis(20));
        if was_held && !guard.is_held() {
            was_held = false;
            say("not held");
        }
        if events.contains(&EVENT) {
            while let Some(event) = guard.next_event() {
                match event {
                    LockEvent::Warned { .. } => say("warned"),
                    LockEvent::Renewed => say("renewed"),
                    LockEvent::Lost(reason) => {
                        say(&format!("lost: {reason:?}"));
                        if matches!(how, "stops" | "spared") {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        }
        if events.contains(&LET_GO) {
            return;
        }
    }
}

/// A process to hold locks for, which does not end when it is asked to.
fn start_owner() -> u32 {
    let mut shell = Command::new("sh");
    let script = "trap 'echo; echo child says: asked' TERM; while :; do sleep 0.02; done";
    shell.args(["-c", script]).stdin(Stdio::null());
    die_with_this_thread(&mut shell).spawn().unwrap().id()
}
