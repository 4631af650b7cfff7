//! A life that ends with I/O under way: the next one does not begin before that has ended.

use std::path::Path;
use std::time::{Duration, Instant};

use disklease::{JoinError, LeaveError, Lockspace};

use crate::storage::Mount;
use crate::storage::gate::{Fault, Mode, Target};
use crate::support::{SOON, host_id, lockspace_in, options, scratch, wait_until};

const WRITES_HANG: Fault = Fault {
    target: Target::All,
    reads: false,
    writes: true,
    mode: Mode::Hold,
};

fn join(dir: &Path, lockspace: &Path) -> Result<Lockspace, JoinError> {
    let options = options(dir, "alpha").fire_timeout(Duration::from_secs(2));
    options.join(lockspace, host_id(1))
}

/// `end` a life in which writes hang; then nobody joins until they have ended.
fn ends_with_a_write_under_way(end: impl FnOnce(&Path, &Path, &Mount)) {
    let dir = scratch();
    let behind = dir.path().join("behind");
    std::fs::create_dir(&behind).unwrap();
    let lockspace = lockspace_in(&behind);
    let mount = Mount::new(&behind, &dir.path().join("mount"), |_| {});
    let path = mount.path().join(lockspace.file_name().unwrap());
    end(dir.path(), &path, &mount);
    let error = join(dir.path(), &path).unwrap_err();
    assert!(matches!(error, JoinError::IoInFlight { .. }), "{error}");
    mount.gate().go_on();
    let joined = wait_until("the join", SOON, || match join(dir.path(), &path) {
        Ok(joined) => Some(joined),
        Err(JoinError::IoInFlight { .. }) => None,
        Err(other) => panic!("{other}"),
    });
    joined.leave().unwrap();
}

#[test]
fn no_life_begins_while_a_write_of_a_claim_that_failed_is_under_way() {
    ends_with_a_write_under_way(|dir, path, mount| {
        mount.gate().set(WRITES_HANG);
        let error = join(dir, path).unwrap_err();
        assert!(!matches!(error, JoinError::IoInFlight { .. }), "{error}");
    });
}

#[test]
fn no_life_begins_while_a_renewal_of_the_one_that_left_is_under_way() {
    ends_with_a_write_under_way(|dir, path, mount| {
        let joined = join(dir, path).unwrap();
        mount.gate().set(WRITES_HANG);
        wait_until("a renewal that hangs", SOON, || {
            (mount.gate().held_since_before(Instant::now()) > 0).then_some(())
        });
        let error = joined.leave().unwrap_err();
        assert!(matches!(error, LeaveError::IoInFlight), "{error}");
    });
}
