//! The files of held leases are inspected, and read again, file system by file system: one that hangs holds up its own
//! files alone.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use disklease::libvirt::lease_name;
use disklease::{LeaseSpec, LockGuard, LockManager as _};

use tempfile::TempDir;

use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};
use disklease_fixtures::host::{
    Child, SOON, child_role, disks, manager, request, say, scratch, wait_for_parent, wait_until,
};

const HEALTHY: &str = "/healthy";
const HANGING: [&str; 2] = ["/hanging/one", "/hanging/other"];

fn name_of(disk: &str) -> String {
    lease_name(Path::new(disk)).to_string()
}

/// A host that has a disk in a directory that works, and two whose leases lie on a mount that comes to hang.
#[test]
fn holder() {
    let Some((_, dir)) = child_role() else {
        return;
    };
    let host = manager(&dir.join("leases"), 1, "holder");
    let space = *host.lockspace().name();
    let spec = |disk| {
        let seen = dir.join("seen").join(name_of(disk));
        LeaseSpec::new(space, lease_name(Path::new(disk)), seen, 0)
    };
    let hanging = HANGING.map(|disk| host.acquire(request().lease(spec(disk))).unwrap());
    let healthy = host.acquire(disks(&[HEALTHY])).unwrap();
    say("holds");
    let loss = wait_until("a loss", SOON * 2, || healthy.loss());
    say(&format!("{loss:?}"));
    wait_for_parent();
    let losses = hanging.each_ref().map(LockGuard::loss);
    assert_eq!(losses, [None, None]);
}

/// A holder, and the mount.
struct Scene {
    child: Child,
    mount: Mount,
    leases: PathBuf,
    _dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = scratch();
        let [leases, others] = ["leases", "others"].map(|name| dir.path().join(name));
        for (place, disks_there) in [(&leases, &[HEALTHY][..]), (&others, &HANGING)] {
            fs::create_dir(place).unwrap();
            drop(
                manager(place, 2, "maker")
                    .acquire(disks(disks_there))
                    .unwrap(),
            );
        }
        let mount = Mount::new(&others, &dir.path().join("seen"), |_| {});
        let child = Child::start("inspection::holder", "holder", dir.path());
        assert_eq!(child.hear(SOON), "holds");
        Self {
            child,
            mount,
            leases,
            _dir: dir,
        }
    }

    fn lease(&self) -> PathBuf {
        self.leases.join(name_of(HEALTHY))
    }
}

fn end(mut scene: Scene) {
    scene.mount.gate().go_on();
    assert!(scene.child.ended_well());
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The holder goes first, and nothing of it is to hang then.
        self.mount.gate().drop_held();
    }
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_mount_that_hangs_holds_up_no_look_at_another() {
    let scene = Scene::new();
    let gate = scene.mount.gate();
    gate.hold_looks();
    wait_until("a look that hangs", SOON, || {
        (gate.looks_held() > 0).then_some(())
    });
    let first = scene.lease();
    let second = scene
        .leases
        .join(".disklease/leases")
        .join(name_of(HEALTHY));
    fs::remove_file(&first).unwrap();
    wait_until("the first link to be put back", SOON, || {
        first.exists().then_some(())
    });
    // Again and again: one that is gone may be put back before the other is.
    let lost = wait_until("a loss", SOON, || {
        let _ = (fs::remove_file(&first), fs::remove_file(&second));
        scene.child.try_hear(Duration::from_millis(20))
    });
    assert_eq!(lost, "LeaseReplaced");
    assert!(gate.looks_held() > 0);
    end(scene);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn reads_that_hang_hold_up_none_of_a_lease_on_another_file_system() {
    let scene = Scene::new();
    let gate = scene.mount.gate();
    gate.set(Fault {
        target: Target::All,
        reads: true,
        writes: false,
        mode: Mode::Hold,
    });
    wait_until("two reads that hang", SOON, || {
        (gate.held_since_before(Instant::now()) >= 2).then_some(())
    });
    let lease = scene.lease();
    let len = usize::try_from(fs::metadata(&lease).unwrap().len()).unwrap();
    // In place: it is the same file.
    let file = fs::File::options().write(true).open(&lease).unwrap();
    file.write_all_at(&vec![0; len], 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(scene.child.hear(SOON), "LeaseOverwritten");
    assert!(gate.held_since_before(Instant::now()) >= 2);
    end(scene);
}
