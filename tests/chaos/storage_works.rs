//! The storage that hangs and fails does so as the test orders, for one host alone. Another process uses the mounts: this
//! one serves them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Ended, Fate, Fault, Mode, Target};
use disklease_fixtures::sanlock::{ScratchLease, wait_until};

const LIMIT: Duration = Duration::from_secs(10);
/// For so long it is looked that nothing happens.
const A_MOMENT: Duration = Duration::from_millis(300);
const FILE: &str = "lease";
const LEN: usize = 1 << 20;

struct Storage {
    mounts: [Mount; 2],
    shared: PathBuf,
    ended: Arc<Mutex<Vec<Ended>>>,
    scratch: ScratchLease,
}

impl Storage {
    /// A file of zeros, seen by two hosts.
    fn new() -> Self {
        let scratch = ScratchLease::new();
        let shared = scratch.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::write(shared.join(FILE), vec![0; LEN]).unwrap();
        let ended: Arc<Mutex<Vec<Ended>>> = Arc::default();
        let mount = |name: &str| {
            let ended = Arc::clone(&ended);
            let tell = move |one: &Ended| ended.lock().unwrap().push(one.clone());
            Mount::new(&shared, &scratch.path().join(name), tell)
        };
        let mounts = [mount("one"), mount("other")];
        Self {
            mounts,
            shared,
            ended,
            scratch,
        }
    }

    /// Begins to write a sector of this byte.
    fn write(&self, host: usize, byte: u8, sector: usize) -> Child {
        let from = self.scratch.path().join(format!("sector{byte}"));
        std::fs::write(&from, [byte; 512]).unwrap();
        let to = self.mounts[host].path().join(FILE);
        dd(
            &from,
            &to,
            &[
                "oflag=direct",
                "conv=notrunc",
                "count=1",
                &format!("seek={sector}"),
            ],
        )
    }

    /// The whole file as a host reads it.
    fn read(&self, host: usize) -> Vec<u8> {
        let to = self.scratch.path().join(format!("read{host}"));
        let from = self.mounts[host].path().join(FILE);
        let mut reading = dd(&from, &to, &["iflag=direct", "bs=1M"]);
        assert!(succeeds(&mut reading));
        std::fs::read(to).unwrap()
    }

    fn behind(&self, sector: usize) -> u8 {
        std::fs::read(self.shared.join(FILE)).unwrap()[sector * 512]
    }

    fn set(&self, host: usize, mode: Mode) {
        self.mounts[host].gate().set(Fault {
            target: Target::Only(FILE),
            reads: false,
            writes: true,
            mode,
        });
    }

    fn held(&self, host: usize) {
        let gate = self.mounts[host].gate();
        wait_until("an I/O hangs", LIMIT, || {
            (gate.held_since_before(Instant::now()) > 0).then_some(())
        });
    }
}

fn dd(from: &Path, to: &Path, more: &[&str]) -> Child {
    let argument = |key: &str, path: &Path| format!("{key}={}", path.display());
    Command::new("dd")
        .args([argument("if", from), argument("of", to)])
        .args(["bs=512"])
        .args(more)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn succeeds(child: &mut Child) -> bool {
    let ended = wait_until("dd ends", LIMIT, || child.try_wait().unwrap());
    ended.success()
}

#[test]
fn what_one_host_has_written_the_other_one_reads() {
    let storage = Storage::new();
    assert!(succeeds(&mut storage.write(0, 7, 3)));
    let mut expected = vec![0; LEN];
    expected[3 * 512..4 * 512].fill(7);
    assert!(storage.read(1) == expected);
    assert!(succeeds(&mut storage.write(1, 8, 3)));
    expected[3 * 512..4 * 512].fill(8);
    assert!(storage.read(0) == expected);
}

#[test]
fn a_write_that_hangs_lands_when_it_may_and_nobody_else_waits() {
    let storage = Storage::new();
    storage.set(0, Mode::Hold);
    let mut hanging = storage.write(0, 7, 3);
    storage.held(0);
    // Neither this host's reads nor the other host.
    assert_eq!(storage.read(0)[3 * 512], 0);
    assert!(succeeds(&mut storage.write(1, 8, 3)));
    thread::sleep(A_MOMENT);
    assert_eq!(hanging.try_wait().unwrap(), None);
    assert_eq!(storage.behind(3), 8);

    storage.mounts[0].gate().go_on();
    assert!(succeeds(&mut hanging));
    assert_eq!(storage.behind(3), 7, "over what is newer");
    let ended = storage.ended.lock().unwrap();
    assert!(
        ended.len() == 1 && ended[0].fate == Fate::Done && ended[0].after >= A_MOMENT,
        "{ended:?}"
    );
}

#[test]
fn a_write_whose_answer_hangs_has_landed() {
    let storage = Storage::new();
    storage.set(0, Mode::HoldAnswer);
    let mut hanging = storage.write(0, 7, 3);
    storage.held(0);
    assert_eq!(storage.behind(3), 7);
    assert!(succeeds(&mut storage.write(1, 8, 3)));
    thread::sleep(A_MOMENT);
    assert_eq!(hanging.try_wait().unwrap(), None);

    // One that comes now hangs before it is done.
    storage.mounts[0].gate().go_on_into(Fault {
        target: Target::All,
        reads: false,
        writes: true,
        mode: Mode::Hold,
    });
    assert!(succeeds(&mut hanging));
    assert_eq!(storage.behind(3), 8, "it is not done again");
    let mut next = storage.write(0, 9, 3);
    storage.held(0);
    assert_eq!(storage.behind(3), 8);
    storage.mounts[0].gate().drop_held();
    assert!(!succeeds(&mut next));
    let ended = storage.ended.lock().unwrap();
    let fates: Vec<_> = ended.iter().map(|one| one.fate).collect();
    assert_eq!(fates, [Fate::Answered, Fate::Refused]);
}

#[test]
fn two_writes_of_one_host_may_hang_at_a_time() {
    let storage = Storage::new();
    storage.set(0, Mode::Hold);
    let mut hanging = [3, 4].map(|sector| storage.write(0, 7, sector));
    let gate = storage.mounts[0].gate();
    wait_until("both hang", LIMIT, || {
        (gate.held_since_before(Instant::now()) == 2).then_some(())
    });
    gate.go_on();
    assert!(hanging.iter_mut().all(succeeds));
    assert_eq!([storage.behind(3), storage.behind(4)], [7, 7]);
}

#[test]
fn a_write_that_is_dropped_never_lands() {
    let storage = Storage::new();
    storage.set(0, Mode::Hold);
    let mut hanging = storage.write(0, 7, 3);
    storage.held(0);
    storage.mounts[0].gate().drop_held();
    assert!(!succeeds(&mut hanging));
    assert_eq!(storage.behind(3), 0);
    assert!(succeeds(&mut storage.write(0, 8, 3)), "the fault is over");
}

#[test]
fn a_killed_process_may_leave_a_write_that_lands() {
    let storage = Storage::new();
    storage.set(0, Mode::Hold);
    let mut hanging = storage.write(0, 7, 3);
    storage.held(0);
    hanging.kill().unwrap();
    thread::sleep(A_MOMENT);
    assert_eq!(storage.behind(3), 0);
    storage.mounts[0].gate().go_on();
    hanging.wait().unwrap();
    wait_until("the write lands", LIMIT, || {
        (storage.behind(3) == 7).then_some(())
    });
}

#[test]
fn writes_are_late_or_fail_as_they_are_told() {
    let storage = Storage::new();
    storage.set(0, Mode::Fail);
    assert!(!succeeds(&mut storage.write(0, 7, 3)));
    assert_eq!(storage.behind(3), 0);
    storage.set(0, Mode::Delay(A_MOMENT));
    let begun = Instant::now();
    assert!(succeeds(&mut storage.write(0, 7, 3)));
    assert!(begun.elapsed() >= A_MOMENT);
    assert_eq!(storage.behind(3), 7);
}
