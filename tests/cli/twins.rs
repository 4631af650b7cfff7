//! Machines that were cloned: `disklease run` with the same host id and the same host name, for the same
//! disk, started at the same instant. Whatever comes of it, never do two commands run at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use disklease::LeaseDirectory;
use tempfile::TempDir;

use super::run::place::{DISK, Running};
use disklease_fixtures::command::{Ended, command, scratch};
use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};

/// Notes that it runs, and whether another does; with what is in `$0` for all of a pair.
const JOB: &str = "
    mkdir $0/running || echo two at once >> $0/broken
    echo >> $0/ran
    sleep 2
    rmdir $0/running
";

/// The lease directory of two clones, with a lease for the disk.
struct Pair(TempDir);

impl Pair {
    fn new() -> Self {
        let pair = Self(scratch());
        let leases = LeaseDirectory::new(pair.leases());
        leases.create_lockspace(Duration::from_secs(1)).unwrap();
        let mut first = pair.run(&pair.leases(), "first", 2, "host2");
        let ended = Running::spawn(first.arg("true")).ended();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        pair
    }

    fn leases(&self) -> PathBuf {
        self.0.path().join("leases")
    }

    /// A run that keeps its process locks in `runtime`. The command is to be added.
    fn run(&self, leases: &Path, runtime: &str, id: u64, name: &str) -> Command {
        let mut run = command(&["run", "--io-timeout", "1", "--watchdog", "none"]);
        run.args(["--single-host", "--host-name", name, "--disk", DISK])
            .args(["--host-id", &id.to_string()])
            .arg("--lease-dir")
            .arg(leases)
            .arg("--runtime-dir")
            .arg(self.0.path().join(runtime))
            .current_dir(self.0.path())
            .arg("--");
        run
    }

    /// Both are started at once, and see the leases below these paths.
    fn both(&self, seen: [&Path; 2], runtimes: [&str; 2]) -> [Ended; 2] {
        let job = |n: usize| {
            let mut run = self.run(seen[n], runtimes[n], 1, "clone");
            run.args(["sh", "-c", JOB]).arg(self.0.path());
            run
        };
        let started = [job(0), job(1)].map(|mut run| Running::spawn(&mut run));
        let ended = started.map(Running::ended);
        let broken = fs::read_to_string(self.0.path().join("broken"));
        assert!(broken.is_err(), "{broken:?} {ended:?}");
        let ran = fs::read_to_string(self.0.path().join("ran"));
        assert!(ran.is_ok(), "neither has run: {ended:?}");
        ended
    }
}

/// Pairs side by side, each on a thread of its own. Gives what all of them said.
fn pairs(count: usize, both: impl Fn() -> [Ended; 2] + Sync) -> Vec<Ended> {
    thread::scope(|scope| {
        let pairs: Vec<_> = (0..count).map(|_| scope.spawn(&both)).collect();
        let ended = pairs.into_iter().map(|pair| pair.join().unwrap());
        ended.flatten().collect()
    })
}

fn say(ended: &[Ended], what: &str) -> usize {
    let said = ended.iter().filter(|ended| ended.stderr.contains(what));
    said.count()
}

const TWIN: &str = "another host with the same name \"clone\"";

#[test]
fn of_clones_that_start_at_once_one_runs() {
    let ended = pairs(5, || {
        let pair = Pair::new();
        let leases = pair.leases();
        pair.both([&leases, &leases], ["a", "b"])
    });
    assert!(say(&ended, TWIN) > 0, "{ended:?}");
}

/// With 100 ms for each I/O both have looked before either has written, each time.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn of_clones_on_slow_storage_one_runs() {
    let ended = pairs(4, || {
        let pair = Pair::new();
        let mounts = ["seen-a", "seen-b"].map(|path| {
            let mount = Mount::new(&pair.leases(), &pair.0.path().join(path), |_| {});
            mount.gate().set(Fault {
                target: Target::All,
                reads: true,
                writes: true,
                mode: Mode::Delay(Duration::from_millis(100)),
            });
            mount
        });
        pair.both([mounts[0].path(), mounts[1].path()], ["a", "b"])
    });
    assert!(say(&ended, TWIN) > 0, "{ended:?}");
}

/// With one runtime directory it is not left to the disk.
#[test]
fn of_two_processes_of_one_machine_one_is_refused_by_name() {
    let ended = pairs(3, || {
        let pair = Pair::new();
        let leases = pair.leases();
        pair.both([&leases, &leases], ["a", "a"])
    });
    let said = say(&ended, "is in use on this machine by process");
    assert_eq!(said, 3, "{ended:?}");
}
