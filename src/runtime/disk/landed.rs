//! Whether what a process has written, that has ended, is on its disk.
//!
//! On a network file system the end of a process is not the end of its writes: NFS lets a killed
//! process go at once, and sends what it wrote when the server is back, 20 s later and more. Neither
//! `fsync` nor `syncfs` of another process waits for its direct writes; a buffered read does.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstatfs, statfs};
use rustix::io::Errno;

use super::info::lies_on_block_devices;
use crate::world::OsError;

/// Whether no write to `path` outlives the process that asked for it, as far as is known now. Of one
/// that is not there, that goes for its directory. May hang, as the storage does.
#[must_use]
pub fn writes_end_with_process(path: &Path) -> bool {
    let mut there = path;
    loop {
        match rustix::fs::stat(there) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice => {
                return true;
            }
            Ok(_) => {
                let fs_type = statfs(there).map(|fs| u64::try_from(fs.f_type));
                return matches!(fs_type, Ok(Ok(fs_type)) if lies_on_block_devices(fs_type));
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(_) => return false,
        }
        match there.parent() {
            Some(parent) => there = parent,
            None => return false,
        }
    }
}

/// Why it is not known that all writes are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLanded {
    /// The file cannot be opened.
    CannotOpen(OsError),
    /// Its storage has failed: writes may be on their way still.
    Failed(OsError),
}

/// Comes back when what processes of this host, which have ended, have written to the file at `path`
/// is on its disk, or can never be there. May hang for as long as the storage does.
///
/// # Errors
///
/// It is not known. May be asked again.
pub fn await_writes(path: &Path) -> Result<(), NotLanded> {
    // What is no file is not waited for, and becomes nobody's terminal.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        // Whatever is written to a file that was removed changes no disk.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::STALE) => return Ok(()),
        Err(errno @ (Errno::IO | Errno::TIMEDOUT)) => return Err(NotLanded::Failed(os(errno))),
        Err(errno) => return Err(NotLanded::CannotOpen(os(errno))),
    };
    let failed = |errno| NotLanded::Failed(os(errno));
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    let fs = fstatfs(&file).map_err(failed)?;
    let ends_with_process = u64::try_from(fs.f_type).is_ok_and(lies_on_block_devices);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || ends_with_process {
        return Ok(());
    }
    wait(&file).map_err(failed)
}

/// For what was written through the page cache, and then for what went past it.
fn wait(file: impl AsFd) -> Result<(), Errno> {
    match rustix::fs::fdatasync(&file) {
        // There is no such thing here; and what was removed needs none.
        Ok(()) | Err(Errno::INVAL | Errno::ROFS | Errno::OPNOTSUPP) => {}
        Err(Errno::STALE) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    match rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut [0_u8; 1][..], 0)) {
        Ok(_) | Err(Errno::STALE) => Ok(()),
        Err(errno) => Err(errno),
    }
}

const fn os(errno: Errno) -> OsError {
    OsError(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_under_way_to_a_local_file_or_to_what_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk");
        assert_eq!(await_writes(&file), Ok(()));
        for content in [&b""[..], b"content"] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(await_writes(&file), Ok(()));
            assert_eq!(wait(std::fs::File::open(&file).unwrap()), Ok(()));
        }
        for other in [dir.path(), &file.join("below"), Path::new("/dev/null")] {
            assert_eq!(await_writes(other), Ok(()), "{other:?}");
        }
        let itself = dir.path().join("itself");
        std::os::unix::fs::symlink(&itself, &itself).unwrap();
        let error = NotLanded::CannotOpen(os(Errno::LOOP));
        assert_eq!(await_writes(&itself), Err(error));
    }

    #[test]
    fn of_a_file_that_is_not_there_its_directory_tells() {
        // Of the kernel's own: nobody knows of a block device under it.
        assert!(!writes_end_with_process(Path::new(
            "/proc/no-such-process/disk"
        )));
        assert!(writes_end_with_process(Path::new(
            "/dev/no-such-directory/disk"
        )));
        assert!(!writes_end_with_process(Path::new("disk")));
    }
}
