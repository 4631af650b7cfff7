//! An open watchdog device. From its opening to its magic close it counts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::feeding::Feeding;
use super::ioctl;
use crate::fence::watchdog::{DeviceLack, WatchdogError, WatchdogErrorKind as Fault};
use crate::timing::Timing;
use crate::world::OsError;

/// Feeds. Any byte does but the one that lets the device be stopped.
const FOOD: &[u8] = b"\0";

/// Lets the next close stop the device.
const MAGIC: &[u8] = b"V";

/// A device that counts. Dropped without [`stop`](Self::stop) it goes on, and resets the host.
#[derive(Debug)]
pub(super) struct Device {
    file: File,
    path: PathBuf,
}

impl Device {
    /// Opens the device at `path`, sees that it can do what is needed, and sets its timeout: as wanted, or
    /// what the device makes of that, if it goes with the times. Then it counts.
    pub(super) fn open(path: &Path, timing: Timing) -> Result<(Self, Feeding), WatchdogError> {
        let refuse = |identity, kind| Err(WatchdogError::of_device(path, identity, kind));
        let Some(wish) = Feeding::wish(timing) else {
            let kind = Fault::FireTimeoutTooShort {
                fire_timeout: timing.fire_timeout().as_duration(),
                needed: Feeding::SHORTEST_FIRE_TIMEOUT,
            };
            return refuse(None, kind);
        };
        if let Some(kind) = unusable_unopened(path) {
            return refuse(attribute(path, "identity"), kind);
        }
        let file = match OpenOptions::new().write(true).open(path) {
            Ok(file) => file,
            Err(error) => return refuse(None, not_opened(&error)),
        };
        let info = match ioctl::info(&file) {
            Ok(info) => info,
            Err(errno) => {
                // Nothing is written to what may be a file of value.
                let _ = ioctl::disable(&file);
                return refuse(None, Fault::NotAWatchdog(errno.into()));
            }
        };
        let path = path.to_owned();
        let device = Self { file, path };
        match device.prepare(&info, wish, timing) {
            Ok(feeding) => Ok((device, feeding)),
            Err(kind) => {
                let kind = device.stop().err().unwrap_or(kind);
                refuse(Some(info.identity()), kind)
            }
        }
    }

    fn prepare(
        &self,
        info: &ioctl::Info,
        wish: Duration,
        timing: Timing,
    ) -> Result<Feeding, Fault> {
        if let Some(lack) = info.lack() {
            return Err(Fault::Lacks(lack));
        }
        let secs = i32::try_from(wish.as_secs()).unwrap_or(i32::MAX);
        // A device that refuses the timeout may have one that will do.
        let refused = ioctl::set_timeout(&self.file, secs).err();
        let got = ioctl::timeout(&self.file).map_err(|errno| not_fed(refused.unwrap_or(errno)))?;
        let got = Duration::from_secs(u64::try_from(got).unwrap_or(0));
        Feeding::with(got, timing).ok_or_else(|| Fault::OtherTimeout {
            asked: wish,
            got,
            at_least: Feeding::SHORTEST_TIMEOUT,
            at_most: Feeding::longest(timing),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Has the device count from the beginning.
    pub(super) fn feed(&self) -> Result<(), Fault> {
        self.write(FOOD)
    }

    /// Stops and closes the device.
    ///
    /// A child that was forked meanwhile has it open too, so that our close alone is none: the device is
    /// also disabled at once. Not each device can do that, and with one that cannot nobody here
    /// knows whether it has stopped.
    pub(super) fn stop(self) -> Result<(), Fault> {
        let may_stop = self.write(MAGIC);
        match ioctl::disable(&self.file) {
            Ok(()) => Ok(()),
            Err(errno) => {
                tracing::warn!(path = ?self.path, %errno, "the watchdog device cannot be disabled, only closed: should a process that was forked meanwhile have it open still, it counts on, and this host is reset unless that process ends soon");
                may_stop
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Fault> {
        loop {
            match rustix::io::write(&self.file, bytes) {
                Ok(1) => return Ok(()),
                Ok(_) => return Err(not_fed(Errno::IO)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(not_fed(errno)),
            }
        }
    }
}

fn not_fed(errno: Errno) -> Fault {
    Fault::NotFed(errno.into())
}

fn not_opened(error: &io::Error) -> Fault {
    match OsError::from(error) {
        busy if busy == OsError::from(Errno::BUSY) => Fault::Busy,
        error => Fault::Unusable(error),
    }
}

/// What sysfs shows against the device at `path` before it is opened, as it must be asked: once
/// opened, one that cannot be stopped counts for ever, and would reset the host; and one that counts
/// already is stopped by a close. Where there is no sysfs nothing is known of it.
fn unusable_unopened(path: &Path) -> Option<Fault> {
    if attribute(path, "nowayout").is_some_and(|value| value != "0") {
        return Some(Fault::Lacks(DeviceLack::Stop));
    }
    let counts = attribute(path, "state").is_some_and(|state| state == "active");
    counts.then_some(Fault::CountsAlready)
}

/// What sysfs shows of a watchdog device without its being opened.
fn attribute(path: &Path, name: &str) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.file_type().is_char_device() {
        return None;
    }
    let (major, minor) = (
        rustix::fs::major(metadata.rdev()),
        rustix::fs::minor(metadata.rdev()),
    );
    // `/dev/watchdog` is another name of the first one, with a number of its own.
    let directory = if (major, minor) == (10, 130) {
        PathBuf::from("/sys/class/watchdog/watchdog0")
    } else {
        PathBuf::from(format!("/sys/dev/char/{major}:{minor}"))
    };
    let value = std::fs::read_to_string(directory.join(name)).ok()?;
    Some(value.trim_end().to_owned())
}
