//! wdmd of the sanlock package, with a device that resets nobody.
//!
//! It knows one place for its socket, so it runs with a `/run` of its own, in which we reach it through `/proc`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use disklease_fixtures::host::{self, SOON, child_role, say, scratch, wait_for_parent, wait_until};
use disklease_fixtures::watchdog_device::{Event, FakeWatchdog, Traits};
use rustix::process::{Signal, kill_process};

use super::{Fault, HostWatchdog as _, in_secs, probe, refusal};

/// The smallest that goes with a fire timeout of 60 s.
const N: u64 = 3;

/// How often wdmd inspects its clients.
const INTERVAL: Duration = Duration::from_secs(10);

struct RealWdmd {
    process: Child,
    socket: PathBuf,
}

impl RealWdmd {
    fn start(device: &Path) -> Self {
        // Its copies of other tests' file systems would keep those mounted, and its copies of their
        // descriptors a lock taken.
        let script = r#"
            for fd in /proc/self/fd/*; do
                fd=${fd##*/}
                [ "$fd" -le 2 ] || eval "exec $fd>&-"
            done
            while read -r source path _; do
                case "$source $path" in
                *" ${0%/*}") ;;
                disklease-test-*) umount -l "$path" ;;
                esac
            done < /proc/self/mounts
            mount -t tmpfs none /run
            mount -t tmpfs none /dev/shm
            exec wdmd -D -H 0 -w "$0""#;
        let process = Command::new("unshare")
            .args(["--mount", "bash", "-ec", script])
            .arg(device)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = format!("/proc/{}/root/run/wdmd/wdmd.sock", process.id());
        let this = Self {
            process,
            socket: socket.into(),
        };
        wait_until("wdmd", Duration::from_secs(20), || {
            this.socket.exists().then_some(())
        });
        this
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        kill_process(pid, signal).unwrap();
    }

    fn has_ended(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.process.try_wait().unwrap().is_some() {
                return true;
            }
            sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for RealWdmd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        self.has_ended(Duration::from_secs(10));
    }
}

/// When the device was closed so that it goes on counting, if it was.
fn closed_unclean(device: &FakeWatchdog) -> Option<Instant> {
    device.with(|model| {
        let mut events = model.events();
        let unclean = events.find(|&(_, event)| event == Event::ClosedUnclean);
        unclean.map(|(at, _)| at)
    })
}

#[test]
fn it_is_fed_while_the_client_renews_and_after_it_was_stood_down() {
    let dir = scratch();
    let device = FakeWatchdog::new(dir.path(), Traits::default());
    let mut real = RealWdmd::start(device.path());
    for (io, fire) in [(1, 60), (2, 60)] {
        let error = refusal(&real.socket, io, fire);
        assert!(matches!(error, Fault::IoTimeoutTooShort { .. }), "{error}");
    }
    let error = refusal(&real.socket, 10, 30);
    assert!(matches!(error, Fault::OtherFireTimeout { .. }), "{error}");

    let mut wdmd = probe(&real.socket, N, 60).unwrap();
    wdmd.arm(in_secs(8 * N)).unwrap();
    // For longer than the first expiry, as renewals do it.
    for _ in 0..5 {
        sleep(Duration::from_secs(2 * N));
        wdmd.extend(in_secs(8 * N)).unwrap();
    }
    real.signal(Signal::TERM);
    assert!(!real.has_ended(Duration::from_secs(2)), "it is in use");
    wdmd.disarm().unwrap();
    // For longer than the expiry that it was notified of at last.
    sleep(Duration::from_secs(8 * N + 1));
    assert_eq!(closed_unclean(&device), None);
    let fed = device.events();
    let fed = fed
        .iter()
        .filter(|&&event| event == Event::KeptAlive)
        .count();
    assert!(fed >= 5, "every 10 s: {fed}");
    // Nobody uses it now.
    real.signal(Signal::TERM);
    assert!(real.has_ended(Duration::from_secs(20)));
    device.wait_for_stop();
}

#[test]
fn without_a_renewal_it_lets_the_device_run_out_in_time() {
    let dir = scratch();
    let device = FakeWatchdog::new(dir.path(), Traits::default());
    let real = RealWdmd::start(device.path());
    let mut wdmd = probe(&real.socket, N, 60).unwrap();
    wdmd.arm(in_secs(5)).unwrap();
    wdmd.extend(in_secs(8 * N)).unwrap();
    let lost = Instant::now() + Duration::from_secs(8 * N);
    let closed = wait_until("the end", Duration::from_secs(40), || {
        closed_unclean(&device)
    });
    println!("given up {:?} before the loss", lost.duration_since(closed));
    // The device, fed for the last time now, resets the host 60 s later.
    assert!(closed < lost + Duration::from_secs(3));
    assert!(closed + INTERVAL + Duration::from_secs(2) > lost);
    assert!(device.with(|model| model.is_counting()));
    wdmd.disarm().unwrap();
}

#[test]
fn a_wdmd_that_is_killed_is_missed() {
    let dir = scratch();
    let device = FakeWatchdog::new(dir.path(), Traits::default());
    let mut real = RealWdmd::start(device.path());
    let mut wdmd = probe(&real.socket, N, 60).unwrap();
    wdmd.arm(in_secs(8 * N)).unwrap();
    real.signal(Signal::STOP);
    wdmd.extend(in_secs(8 * N)).unwrap();
    sleep(Duration::from_millis(700));
    let error = wdmd.extend(in_secs(8 * N)).unwrap_err();
    let error = error.kind();
    assert!(matches!(error, Fault::Silent), "{error}");
    real.signal(Signal::CONT);
    wait_until("its answer", SOON, || wdmd.extend(in_secs(8 * N)).ok());
    real.signal(Signal::KILL);
    assert!(real.has_ended(SOON));
    let error = wdmd.extend(in_secs(8 * N)).unwrap_err();
    let error = error.kind();
    assert!(matches!(error, Fault::Gone), "{error}");
    let error = wdmd.extend(in_secs(8 * N)).unwrap_err();
    let error = error.kind();
    assert!(matches!(error, Fault::Unreachable(_)), "{error}");
    wait_until("the device's close", SOON, || closed_unclean(&device));
    wdmd.disarm().unwrap();
}

/// A process that ends while it holds: nobody has said that its guests are gone.
#[test]
fn the_death_of_the_client_resets_the_host() {
    if let Some((_, dir)) = child_role() {
        let socket = std::fs::read_to_string(dir.join("socket")).unwrap();
        let mut wdmd = probe(Path::new(&socket), N, 60).unwrap();
        wdmd.arm(in_secs(8 * N)).unwrap();
        say("armed");
        wait_for_parent();
        return;
    }
    let dir = scratch();
    let device = FakeWatchdog::new(dir.path(), Traits::default());
    let real = RealWdmd::start(device.path());
    std::fs::write(dir.path().join("socket"), real.socket.to_str().unwrap()).unwrap();
    let entry = "fence::wdmd::tests::real::the_death_of_the_client_resets_the_host";
    let mut child = host::Child::start(entry, "holder", dir.path());
    assert_eq!(child.hear(SOON), "armed");
    child.kill();
    wait_until("the end", Duration::from_secs(40), || {
        closed_unclean(&device)
    });
}
