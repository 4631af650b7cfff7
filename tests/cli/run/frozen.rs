//! A run that is frozen together with its command, as `docker pause` does it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::place::{LIMIT, Place, Running, ended_within};

/// A control group of the second version, thawed and removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` where none can be made.
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = words.next()?;
            (words.next()? == "cgroup2").then_some(path)
        });
        let path = Path::new(mount?).join(format!("disklease-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).ok()?;
        path.join("cgroup.freeze").exists().then_some(Self(path))
    }

    fn freeze(&self) {
        fs::write(self.0.join("cgroup.freeze"), "1").unwrap();
        let began = Instant::now();
        let is_frozen = || fs::read_to_string(self.0.join("cgroup.events")).unwrap();
        while !is_frozen().contains("frozen 1") {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "it does not freeze"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.freeze"), "0");
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let began = Instant::now();
        while fs::remove_dir(&self.0).is_err() && began.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn what_is_frozen_with_its_run_does_not_write_after_the_thaw() {
    thread::scope(|scope| {
        for contain in ["pidns", "none"] {
            scope.spawn(|| freeze(contain));
        }
    });
}

fn freeze(contain: &str) {
    let Some(cgroup) = Cgroup::new(contain) else {
        println!("NOT TESTED: no control group of the second version can be made here");
        return;
    };
    let place = Place::new();
    // What is below the command, and writes nothing, ends too.
    let script = "sleep 300 & echo x > log; echo ready; echo $$ $!; while :; do echo x >> log; sleep 0.01; done";
    let options = ["--fire-timeout", "4", "--contain", contain];
    let run = place.command(1, &options, &["sh", "-c", script]);
    let mut inside = std::process::Command::new("sh");
    inside
        .args(["-c", "echo $$ > \"$0\"; exec \"$@\""])
        .arg(cgroup.0.join("cgroup.procs"))
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(place.path());
    let running = Running::spawn(&mut inside);
    assert_eq!(running.line(), "ready");
    let mut family = running.processes(&running.line());
    let command = family[0];
    family.extend(running.chain());
    cgroup.freeze();
    // It gets the disk when the time of the first has ended; that one thaws while it runs.
    let thaw = format!(
        "stat -c %s log; echo 0 > {}; sleep 1; stat -c %s log",
        cgroup.0.join("cgroup.freeze").display()
    );
    let options = ["--fire-timeout", "4", "--wait", "50"];
    let ended = place.run(2, &options, &["sh", "-c", &thaw]);
    let sizes: Vec<_> = ended.stdout.lines().collect();
    assert_eq!((ended.code, sizes.len()), (Some(0), 2), "{ended:?}");
    assert_eq!(
        sizes[0], sizes[1],
        "{contain}: it has written beside another: {ended:?}"
    );
    ended_within(Duration::ZERO, &[command]);
    // Nobody is left to end the rest but one that was frozen too.
    ended_within(LIMIT, &family);
}
