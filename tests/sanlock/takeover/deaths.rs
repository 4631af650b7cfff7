//! Holders of ours that die in each way there is, and sanlock, which has their disks afterwards: each is dead, and has
//! written for the last time, before.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use disklease::{Access, LockManager as _, LockRequest, Owner};
use serde_json::{Value, json};

use super::renewals::LastRenewal;
use super::{DEAD_AFTER, DISK, Directory, LIMIT, OUR_ID, SANLOCK_ID, sanlock_takes_over};
use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};
use disklease_fixtures::host_process::boottime;
use disklease_fixtures::host_process::child::{Host, text};
use disklease_fixtures::host_process::process::HostProcess;
use disklease_fixtures::sanlock::{HostState, SanlockClient, init_resource, read_resource_leader};

/// How often the guest of a holder writes.
const TICK: Duration = Duration::from_millis(20);

/// What happens to a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It is killed.
    Kill,
    /// It is stopped as it stands; its deadman kills it.
    Stop,
    /// All its I/O hangs; it kills itself.
    Hang,
}

impl Harm {
    /// How long after its last renewal a holder dies, with N = 1 s and F = 60 s.
    const fn death(self) -> Duration {
        match self {
            Self::Kill => Duration::ZERO,
            // 8N, and the grace that a holder has to stop by itself; a second more when only the kernel is left.
            Self::Hang => Duration::from_secs(48),
            Self::Stop => Duration::from_secs(49),
        }
    }
}

/// A holder whose guest goes on writing until it is killed.
struct Holder {
    process: HostProcess,
    mount: Option<Mount>,
}

impl Holder {
    /// Its guest writes the time to `written`, which lies on storage that does not hang.
    fn start(directory: &Directory, harm: Harm, written: &Path) -> Self {
        let leases = directory.leases.path();
        let mount = (harm == Harm::Hang).then(|| {
            let path = written.with_file_name("seen");
            Mount::new(leases, &path, |_| {})
        });
        let mut process = HostProcess::start("beta");
        process.join(mount.as_ref().map_or(leases, Mount::path), OUR_ID);
        let begin = json!({"do": "run a guest", "disk": DISK, "written": written});
        assert_eq!(process.ask(&begin, LIMIT), Ok(json!(1)), "the version");
        Self { process, mount }
    }

    fn suffer(&mut self, harm: Harm) {
        match harm {
            Harm::Kill => self.process.kill9(),
            Harm::Stop => self.process.stop(),
            Harm::Hang => self.mount.as_ref().unwrap().gate().set(Fault {
                target: Target::All,
                reads: true,
                writes: true,
                mode: Mode::Hold,
            }),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Threads that hang in the storage would keep its end from being taken in.
        if let Some(mount) = &self.mount {
            mount.gate().drop_held();
        }
    }
}

/// Whether the process has ended. Threads of it may still hang in the kernel, and come back to nothing.
fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
}

/// When the guest wrote for the last time.
fn last_write(written: &Path) -> Instant {
    let mut nanos = [0; 8];
    let file = File::open(written).unwrap();
    file.read_exact_at(&mut nanos, 0).unwrap();
    let ago = boottime().saturating_sub(Duration::from_nanos(u64::from_le_bytes(nanos)));
    Instant::now().checked_sub(ago).unwrap()
}

pub(crate) fn is_waited_out_by_sanlock(harm: Harm) {
    let directory = Directory::new();
    // Made before the mount, in which no file can be made.
    let lease = File::create(&directory.resource.path).unwrap();
    lease.set_len(1 << 20).unwrap();
    init_resource(&directory.resource);
    let written = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let written = &written.path().join("written");

    let daemon = directory.sanlock();
    let mut holder = Holder::start(&directory, harm, written);
    let pid = holder.process.pid();
    let lockspace = &directory.lockspace;
    daemon.wait_for_host(lockspace, OUR_ID, HostState::Live, LIMIT);
    let mut client = SanlockClient::register(&daemon);
    let refused = client.acquire(&directory.resource, LIMIT);
    assert!(matches!(refused, Err(-243 | -244)), "{refused:?}");

    let (last, died, taken_over, wrote) = thread::scope(|scope| {
        let (tell, struck) = channel();
        let resource = &directory.resource;
        let taking = scope.spawn(move || {
            struck.recv().expect("the harm");
            let taken_over = sanlock_takes_over(&mut client, resource);
            // Who writes still, does so within this.
            thread::sleep(10 * TICK);
            (taken_over, last_write(written), client)
        });
        let dying = scope.spawn(move || {
            let begun = Instant::now();
            while begun.elapsed() < DEAD_AFTER + LIMIT {
                if is_dead(pid) {
                    return Some(Instant::now());
                }
                thread::sleep(Duration::from_millis(10));
            }
            None
        });
        let last = LastRenewal::of(lockspace, OUR_ID, || {
            holder.suffer(harm);
            tell.send(()).unwrap();
        });
        let (taken_over, wrote, _client) = taking.join().expect("sanlock's client");
        (last, dying.join().unwrap(), taken_over, wrote)
    });
    let what = format!("{harm:?}");
    let died = died.unwrap_or_else(|| panic!("{what}: it lives"));
    println!(
        "time: {what}: the last write {:?}, dead {:?} after the last renewal",
        last.until(wrote),
        last.until(died)
    );
    last.judge(&what, taken_over);
    assert!(wrote < taken_over, "{what}: it wrote after that");
    assert!(died < taken_over, "{what}: it was alive then");
    // What was written in the last moment may have been seen a little late.
    let early = Duration::from_millis(500);
    assert!(last.until(died) + early > harm.death(), "{what}: too early");
    let leader = read_resource_leader(&directory.resource).expect("the lease");
    assert_eq!(leader.number("owner_id"), SANLOCK_ID);
    assert_eq!(leader.number("lver"), 2);
}

/// The side of the holder's process: takes the disk with what is done by default should it be lost, and runs a guest
/// that cares for nothing.
pub(crate) fn run_a_guest(host: &Host, command: &Value) -> Result<Value, String> {
    let request = LockRequest::new(Owner::this_process("guest"))
        .disk(text(command, "disk"), Access::Exclusive);
    let guard = host.manager().acquire(request);
    let guard = guard.map_err(|error| error.to_string())?;
    let version = guard.locks().next().unwrap().version.unwrap().get();
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(text(command, "written"))
        .unwrap();
    thread::spawn(move || {
        loop {
            let now = u64::try_from(boottime().as_nanos()).unwrap();
            written.write_all_at(&now.to_le_bytes(), 0).unwrap();
            thread::sleep(TICK);
            // Held for as long as the guest runs.
            let _ = &guard;
        }
    });
    Ok(version.into())
}
