//! A keeper by itself: the test tells it of renewals, and then of none.
//!
//! A run that stands still is killed by its own timer before its keeper has anything to do.

use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

use super::place::{Place, Running, below, children, ended_within, wait_until};

const GUARD: u64 = 1;
const DEADLINE: u64 = 2;
const ARMED: u64 = 4;
const START: u64 = 9;

/// As `control.rs` of the command has it.
const LEN: usize = 40;

/// It holds the disk by then, and nothing would end its command.
#[test]
fn a_keeper_that_stands_still_before_it_is_armed_is_not_waited_for() {
    let place = Place::new();
    let other = place.start(2, "echo ready; sleep 300");
    let options = ["--wait", "100", "--contain", "none"];
    let running = Running::spawn(&mut place.command(1, &options, &["echo", "started"]));
    wait_until("the guardian is there", || {
        let keeper = children(running.pid());
        keeper
            .first()
            .is_some_and(|keeper| !children(*keeper).is_empty())
    });
    let [keeper, _] = running.chain();
    // Plenty for it to say so: then the run waits for the lock.
    std::thread::sleep(Duration::from_secs(2));
    kill_process(keeper, Signal::STOP).unwrap();
    other.send(Signal::TERM);
    assert_ne!(other.ended().code, Some(0));
    let ended = running.ended();
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.stderr.contains("cannot be guarded"), "{ended:?}");
    assert_eq!(ended.stdout, "");
    place.assert_free();
}

struct Keeper {
    child: Child,
    control: UnixStream,
    guardian: UnixStream,
}

impl Keeper {
    /// With a command that runs.
    fn start(options: &[&str]) -> Self {
        let (control, theirs) = UnixStream::pair().unwrap();
        let (guardian, of_guardian) = UnixStream::pair().unwrap();
        for socket in [&control, &guardian] {
            socket
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_disklease"));
        command.arg("__keeper").args(options);
        let child = command
            .args([
                "--",
                "sh",
                "-c",
                "exec >/dev/null 2>&1; trap '' TERM; sleep 300 & wait",
            ])
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        drop(command);
        let keeper = Self {
            child,
            control,
            guardian,
        };
        let of_guardian = OwnedFd::from(of_guardian);
        say(&keeper.control, [GUARD, 0, 0], Some(&of_guardian));
        drop(of_guardian);
        // Which process it is, and that it waits.
        hear(&keeper.control);
        hear(&keeper.guardian);
        keeper
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Tells it to kill, and the kernel to kill it, so many milliseconds from now.
    fn tell(&self, kill: u64, die: u64) {
        let now = clock_gettime(ClockId::Boottime);
        let now = u64::try_from(Duration::try_from(now).unwrap().as_millis()).unwrap();
        let nanos = |millis: u64| (now + millis) * 1_000_000;
        say(&self.control, [DEADLINE, nanos(kill), nanos(die)], None);
        assert_eq!(hear(&self.control), ARMED);
    }

    /// Gives all below it.
    fn run(&self) -> Vec<Pid> {
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        say(&self.guardian, [START, 0, 0], Some(&null));
        wait_until("the command runs", || below(self.pid()).len() >= 3);
        below(self.pid())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        disklease_fixtures::command::end(&mut self.child);
    }
}

fn say(socket: &UnixStream, fields: [u64; 3], fd: Option<&OwnedFd>) {
    let mut bytes = fields.map(u64::to_le_bytes).concat();
    bytes.resize(LEN, 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds;
    if let Some(fd) = fd {
        fds = [fd.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let said = sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut ancillary,
        SendFlags::empty(),
    );
    assert_eq!(said, Ok(LEN));
}

/// What kind of message comes next.
fn hear(mut socket: &UnixStream) -> u64 {
    let mut bytes = [0; LEN];
    socket.read_exact(&mut bytes).unwrap();
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn a_keeper_kills_when_it_is_not_told_anew_and_is_killed_where_it_cannot() {
    std::thread::scope(|scope| {
        for options in [&["--is-init"][..], &[]] {
            for is_stopped in [false, true] {
                scope.spawn(move || kills_or_is_killed(options, is_stopped));
            }
        }
    });
}

fn kills_or_is_killed(options: &[&str], is_stopped: bool) {
    let (early, late) = (10_000, 13_000);
    let keeper = Keeper::start(options);
    keeper.tell(early, 60_000);
    let family = keeper.run();
    // Told anew in time.
    let told = Instant::now();
    let (kill, die) = if is_stopped {
        (60_000, late)
    } else {
        (late, 60_000)
    };
    keeper.tell(kill, die);
    if is_stopped {
        kill_process(keeper.pid(), Signal::STOP).unwrap();
    }
    ended_within(Duration::from_secs(45), &family);
    let took = told.elapsed();
    println!("measured: {options:?} {is_stopped}: all had ended {took:?} later");
    let least = Duration::from_millis(late);
    assert!(took >= least, "{options:?} {is_stopped}: {took:?}");
}
