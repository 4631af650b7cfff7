//! When a host renewed for the last time, as the disk shows it.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::thread;
use std::time::{Duration, Instant};

use super::{DEAD_AFTER, LIMIT, SLACK};
use disklease_fixtures::host_process::IO_TIMEOUT;
use disklease_fixtures::sanlock::Lockspace;

/// How often a sector is inspected.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

const SECTOR: usize = 512;
/// How many sectors are read at once.
const SECTORS: usize = 8;

/// What is read at once, where direct I/O wants it. A buffered read would be of no use: a page that is being looked
/// at may not be given up when the sector is written, and what it shows is seconds old then.
#[repr(align(4096))]
struct Sectors([u8; SECTORS * SECTOR]);

/// When a host renewed for the last time: between two reads of its sector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastRenewal {
    /// The renewal before it was still on the disk.
    not_before: Instant,
    /// It was on the disk.
    not_after: Instant,
}

impl LastRenewal {
    /// Watches the host's sector while `harm` ends the host, and until nothing can change any more.
    pub(crate) fn of(lockspace: &Lockspace, host_id: u64, harm: impl FnOnce()) -> Self {
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
        let file = File::options()
            .read(true)
            .custom_flags(direct)
            .open(&lockspace.path)
            .unwrap();
        let at = SECTOR * usize::try_from(host_id - 1).unwrap();
        let mut sectors = Box::new(Sectors([0; SECTORS * SECTOR]));
        let mut look = || {
            file.read_exact_at(&mut sectors.0, lockspace.offset)
                .unwrap();
            sectors.0[at..at + SECTOR].to_vec()
        };
        let mut harm = Some(harm);
        let mut seen: Option<Self> = None;
        let begun = Instant::now();
        let mut looked = begun;
        let mut shown = look();
        loop {
            assert!(begun.elapsed() < LIMIT, "the host renews, or never does");
            thread::sleep(LOOK_INTERVAL);
            let now = Instant::now();
            let now_shown = look();
            if now_shown != shown {
                shown = now_shown;
                seen = Some(Self {
                    not_before: looked,
                    not_after: Instant::now(),
                });
            }
            looked = now;
            match &seen {
                // A renewal was seen, so that there is a last one, and the next is due a second later.
                Some(seen) if harm.is_some() && seen.not_after.elapsed() > IO_TIMEOUT => {
                    harm.take().unwrap()();
                }
                // What was under way at the harm has long ended.
                Some(seen) if harm.is_none() && seen.not_after.elapsed() > 4 * IO_TIMEOUT => break,
                _ => {}
            }
        }
        seen.unwrap()
    }

    /// `taken_over` is not too early, nor much too late.
    pub(crate) fn judge(&self, what: &str, taken_over: Instant) {
        let at_most = taken_over.duration_since(self.not_before);
        let at_least = taken_over.duration_since(self.not_after);
        println!("time: {what}: taken over {at_least:?} to {at_most:?} after the last renewal");
        assert!(at_most > DEAD_AFTER, "{what}: {at_most:?}: two owners");
        assert!(
            at_least < DEAD_AFTER + SLACK,
            "{what}: {at_least:?}: too late"
        );
    }

    /// How long after the last renewal that was, at least.
    pub(crate) fn until(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.not_after)
    }
}
