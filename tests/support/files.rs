//! Files changed behind the library's back.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

pub(crate) fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Writes `bytes` at `offset`, and has them on the medium when it returns.
pub(crate) fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_data().unwrap();
}

/// Copies the files of `from`, not its directories, into the new directory `to`.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            let target = to.join(entry.file_name());
            std::fs::copy(entry.path(), &target).unwrap();
            File::open(target).unwrap().sync_data().unwrap();
        }
    }
}

/// Makes the file look as if it had last been written `age` ago.
pub(crate) fn set_age(path: &Path, age: Duration) {
    let now = std::time::SystemTime::now();
    let then = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let then = then.checked_sub(age).unwrap();
    let then = Timespec {
        tv_sec: then.as_secs().try_into().unwrap(),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: then,
        last_modification: then,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
}
