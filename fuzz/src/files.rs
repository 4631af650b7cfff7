//! Files as `dump` and `status` read them, in memory.

pub mod inspect;
pub mod recognise;
pub mod status;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, process};

use disklease::format::NoteState;
use disklease::inspect::{Area, FileReport, HostSector};

use crate::edits::Site;
use crate::shown;

/// A directory of this process, where possible in memory. Who runs a target removes what is left.
fn directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = match env::var_os("TMPDIR") {
        Some(given) => PathBuf::from(given),
        None if memory.is_dir() => memory.to_owned(),
        None => env::temp_dir(),
    };
    let directory = parent.join(format!("disklease-fuzz-{}", process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// A file with the same bytes before each input.
struct Template {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
}

impl Template {
    fn new(path: PathBuf, bytes: Vec<u8>) -> Self {
        fs::write(&path, &bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        Self { path, file, bytes }
    }

    fn len(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap()
    }

    /// Puts `sites` in place and cuts the file to `len`.
    fn change(&self, sites: &[Site], len: u64) {
        for site in sites {
            self.file.write_all_at(&site.bytes, site.offset).unwrap();
        }
        if len != self.len() {
            self.file.set_len(len).unwrap();
        }
    }

    /// Takes back what [`Self::change`] did.
    fn restore(&self, sites: &[Site], len: u64) {
        if len != self.len() {
            let start = usize::try_from(len).unwrap();
            self.file.write_all_at(&self.bytes[start..], len).unwrap();
        }
        for site in sites {
            let start = usize::try_from(site.offset).unwrap();
            let original = &self.bytes[start..start + site.bytes.len()];
            self.file.write_all_at(original, site.offset).unwrap();
        }
    }

    fn written_at(&self) -> (u64, SystemTime) {
        let now = self.file.metadata().unwrap();
        (now.len(), now.modified().unwrap())
    }
}

/// What is true of any report on any file: its areas lie one behind the other, from the first offset to
/// the end, and each has its places inside of itself.
fn is_in_order(report: &FileReport, from: u64) {
    let mut at = from;
    for area in &report.areas {
        assert_eq!(area.offset(), at);
        let len = match area {
            Area::Lockspace(lockspace) => {
                let len = u64::try_from(lockspace.geometry.area_size()).unwrap();
                let cut = (at + len > report.len).then_some(report.len);
                assert_eq!(lockspace.cut_at, cut);
                shown::name(lockspace.name);
                let mut last = 0;
                for host in &lockspace.hosts {
                    assert!(host.host_id.get() > last);
                    last = host.host_id.get();
                    let offset = lockspace.geometry.delta_offset(host.host_id);
                    assert_eq!(host.offset, at + offset);
                    assert!(host.offset < report.len && offset < len);
                    host.leader.as_ref().err().iter().for_each(|damage| {
                        shown::one_line(*damage);
                    });
                }
                let damaged = lockspace.hosts.iter().any(HostSector::is_damaged);
                let damaged = damaged || matches!(lockspace.id, NoteState::Damaged(_));
                assert_eq!(lockspace.is_damaged(), damaged || cut.is_some());
                len
            }
            Area::Lease(lease) => {
                let len = u64::try_from(lease.geometry.area_size()).unwrap();
                let cut = (at + len > report.len).then_some(report.len);
                assert_eq!(lease.cut_at, cut);
                let mut last = 0;
                for block in &lease.blocks {
                    assert!(block.host_id.get() > last);
                    last = block.host_id.get();
                    let offset = lease.geometry.dblock_offset(block.host_id);
                    assert_eq!(block.offset, at + offset);
                    assert!(block.offset < report.len && offset < len);
                    assert_eq!(lease.block(block.host_id), Some(block));
                }
                for damage in [lease.leader.err(), lease.request.err()].iter().flatten() {
                    shown::one_line(damage);
                }
                len
            }
            Area::Zeros { len, .. } | Area::Foreign { len, .. } => {
                assert!(*len > 0 && at + len <= report.len);
                *len
            }
            other => panic!("{other:?}"),
        };
        at = (at + len).min(report.len);
    }
    assert_eq!(at, report.len);
}
