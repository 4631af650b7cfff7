//! The system calls under an I/O, and whole transfers made of them.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::world::{OsError, SectorBuf};

/// A transfer that stopped within such a unit has met the end of a file or something broken.
const SMALLEST_SECTOR: usize = 512;

/// How an I/O ended otherwise than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Never started, and never will be: its time had passed before that.
    NotStarted,
    /// Never started, and never will be: its workers were to end.
    Stopped,
    /// Started, and not completed in time.
    TimedOut,
    EndOfFile {
        wanted: usize,
        got: usize,
    },
    Os(OsError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    /// Less than was asked for is no failure if the file ends there.
    ReadUpToEnd,
    Write,
}

/// What a worker calls; may take any time. One call may transfer less than it was asked for.
pub(super) trait RawIo: Send + Sync {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Errno>;
    /// Through to the medium.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno>;
    /// What whoever keeps the open file says of it at this moment.
    fn now(&self) -> Result<FileNow, Errno>;
}

/// What is to be known of an open file again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileNow {
    /// How many names it has.
    pub(crate) links: u32,
    /// Where it ends.
    pub(crate) end: u64,
}

impl RawIo for OwnedFd {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
        rustix::io::pread(self, into, offset)
    }

    /// The flag of the call says "to the medium", not one of the open file: an adopted descriptor
    /// may lack that, and it cannot be set later.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        rustix::io::pwritev2(self, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC)
    }

    fn now(&self) -> Result<FileNow, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let stat = rustix::fs::statx(self, c"", flags, StatxFlags::NLINK | StatxFlags::SIZE)?;
        Ok(FileNow {
            links: stat.stx_nlink,
            end: stat.stx_size,
        })
    }
}

/// Does a whole I/O of this kind.
pub(super) fn transfer(
    io: &dyn RawIo,
    kind: Kind,
    buf: &mut SectorBuf,
    offset: u64,
) -> Result<(), Failure> {
    if kind == Kind::Write {
        return write_fully(io, buf, offset);
    }
    match read_fully(io, buf, offset) {
        Err(Failure::EndOfFile { got, .. }) if kind == Kind::ReadUpToEnd => {
            buf.truncate(got);
            Ok(())
        }
        other => other,
    }
}

fn read_fully(io: &dyn RawIo, into: &mut [u8], offset: u64) -> Result<(), Failure> {
    let wanted = into.len();
    let end_of_file = |got| Err(Failure::EndOfFile { wanted, got });
    let mut got = 0_usize;
    while let Some(rest) = into.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match io.read_at(rest, position(offset, got)?) {
            Ok(0) => return end_of_file(got),
            Ok(more) => {
                got = got.saturating_add(more);
                // Going on from the middle of a sector would be refused as unaligned.
                if got < wanted && !got.is_multiple_of(SMALLEST_SECTOR) {
                    return end_of_file(got);
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

fn write_fully(io: &dyn RawIo, bytes: &[u8], offset: u64) -> Result<(), Failure> {
    let mut done = 0_usize;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match io.write_at(rest, position(offset, done)?) {
            // Whole sectors: the next call goes on, or tells the error that stopped this one.
            Ok(more) if more > 0 && more.is_multiple_of(SMALLEST_SECTOR) => {
                done = done.saturating_add(more);
            }
            Ok(_) => return Err(failed(Errno::IO)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

fn position(offset: u64, done: usize) -> Result<u64, Failure> {
    u64::try_from(done)
        .ok()
        .and_then(|done| offset.checked_add(done))
        .filter(|&position| i64::try_from(position).is_ok())
        .ok_or_else(|| failed(Errno::INVAL))
}

fn failed(errno: Errno) -> Failure {
    Failure::Os(OsError::from(errno))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Answers each call by the next of a list; `Ok(n)` transfers `n` bytes of the value 7.
    struct Script(Mutex<Vec<(Result<usize, Errno>, u64)>>);

    impl Script {
        fn new(calls: &[(Result<usize, Errno>, u64)]) -> Self {
            Self(Mutex::new(calls.iter().rev().copied().collect()))
        }

        fn next(&self, len: usize, offset: u64) -> Result<usize, Errno> {
            let (answer, expected) = self.0.lock().pop().expect("one call too many");
            assert_eq!(offset, expected);
            assert!(answer.is_err() || answer.is_ok_and(|n| n <= len));
            answer
        }
    }

    impl RawIo for Script {
        fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
            let n = self.next(into.len(), offset)?;
            into[..n].fill(7);
            Ok(n)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
            self.next(bytes.len(), offset)
        }

        fn now(&self) -> Result<FileNow, Errno> {
            Ok(FileNow { links: 1, end: 0 })
        }
    }

    /// The flag is in the call, whatever the file was opened with: the kernel here refuses a call without it.
    #[test]
    fn each_write_goes_through_to_the_medium() {
        use seccompiler::{
            SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
            SeccompRule, TargetArch, apply_filter,
        };
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let fd = OwnedFd::from(file);
        let dsync = u64::from(ReadWriteFlags::DSYNC.bits());
        let flags = SeccompCondition::new(5, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, dsync);
        let rule = SeccompRule::new(vec![flags.unwrap()]).unwrap();
        let filter = SeccompFilter::new(
            [(libc::SYS_pwritev2, vec![rule])].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap()),
            TargetArch::try_from(std::env::consts::ARCH).unwrap(),
        );
        let filter: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
        // Filters are a thread's own, and stay.
        let tried = std::thread::spawn(move || {
            apply_filter(&filter).unwrap();
            let slices = [IoSlice::new(&[7; 512])];
            let without = rustix::io::pwritev2(&fd, &slices, 0, ReadWriteFlags::empty());
            (without, write_fully(&fd, &[7; 512], 512))
        });
        let (without, ours) = tried.join().unwrap();
        assert_eq!(without, Err(Errno::PERM), "the filter is in force");
        assert!(ours.is_ok(), "{ours:?}");
    }

    fn read(calls: &[(Result<usize, Errno>, u64)], len: usize) -> Result<Vec<u8>, Failure> {
        let script = Script::new(calls);
        let mut into = vec![0; len];
        let result = read_fully(&script, &mut into, 4096);
        assert!(script.0.lock().is_empty(), "calls that were not made");
        result.map(|()| into)
    }

    fn write(calls: &[(Result<usize, Errno>, u64)], len: usize) -> Result<(), Failure> {
        let script = Script::new(calls);
        let result = write_fully(&script, &vec![7; len], 4096);
        assert!(script.0.lock().is_empty(), "calls that were not made");
        result
    }

    const EIO: Failure = Failure::Os(OsError::new(5));

    #[test]
    fn interruptions_and_short_transfers_go_on() {
        let calls = [
            (Err(Errno::INTR), 4096),
            (Ok(512), 4096),
            (Err(Errno::INTR), 4608),
            (Ok(512), 4608),
        ];
        assert_eq!(read(&calls, 1024), Ok(vec![7; 1024]));
        assert_eq!(write(&calls, 1024), Ok(()));
    }

    #[test]
    fn the_end_of_the_file_is_told_apart_from_errors() {
        let ends = |got| Err(Failure::EndOfFile { wanted: 1024, got });
        assert_eq!(read(&[(Ok(0), 4096)], 1024), ends(0));
        assert_eq!(read(&[(Ok(512), 4096), (Ok(0), 4608)], 1024), ends(512));
        assert_eq!(read(&[(Ok(700), 4096)], 1024), ends(700));
        assert_eq!(read(&[(Err(Errno::IO), 4096)], 1024), Err(EIO));
    }

    #[test]
    fn a_write_that_stops_within_a_sector_has_failed() {
        assert_eq!(write(&[(Ok(100), 4096)], 1024), Err(EIO));
        assert_eq!(write(&[(Ok(0), 4096)], 1024), Err(EIO));
        let no_space = Failure::Os(OsError::from(Errno::NOSPC));
        assert_eq!(
            write(&[(Ok(512), 4096), (Err(Errno::NOSPC), 4608)], 1024),
            Err(no_space)
        );
    }

    #[test]
    fn no_offset_overflows() {
        let script = Script::new(&[]);
        let invalid = Err(Failure::Os(OsError::from(Errno::INVAL)));
        for offset in [u64::MAX, u64::MAX - 511, 1 << 63] {
            assert_eq!(read_fully(&script, &mut [0; 512], offset), invalid);
            assert_eq!(write_fully(&script, &[0; 512], offset), invalid);
        }
    }
}
