//! An open watchdog device. From its opening to its magic close it counts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::feeding::Feeding;
use super::ioctl;
use crate::fence::watchdog::{DeviceLack, WatchdogError};
use crate::timing::Timing;
use crate::world::OsError;

/// Feeds. Any byte does but the one that lets the device be stopped.
const FOOD: &[u8] = b"\0";

/// Lets the next close stop the device.
const MAGIC: &[u8] = b"V";

/// One that counts. Dropped without [`stop`](Self::stop) it goes on, and resets the host.
#[derive(Debug)]
pub(super) struct Device {
    file: File,
    path: PathBuf,
}

impl Device {
    /// Opens it, sees that it can do what is needed, and sets its timeout: as wanted, or what the
    /// device makes of that, if it goes with the times. Then it counts.
    pub(super) fn open(path: &Path, timing: Timing) -> Result<(Self, Feeding), WatchdogError> {
        let Some(wish) = Feeding::wish(timing) else {
            return Err(WatchdogError::DeviceTooCoarse {
                path: path.to_owned(),
                fire_timeout: timing.fire_timeout().as_duration(),
                needed: Feeding::SHORTEST_FIRE_TIMEOUT,
            });
        };
        if cannot_be_stopped(path) {
            return Err(WatchdogError::DeviceLacks {
                path: path.to_owned(),
                identity: identity_in_sysfs(path),
                lack: DeviceLack::Stop,
            });
        }
        if attribute(path, "state").is_some_and(|state| state == "active") {
            return Err(WatchdogError::DeviceCounts {
                path: path.to_owned(),
                identity: identity_in_sysfs(path),
            });
        }
        let file = OpenOptions::new().write(true).open(path);
        let file = file.map_err(|error| not_opened(path, &error))?;
        let info = ioctl::info(&file).map_err(|errno| {
            // Nothing is written to what may be a file of value.
            let _ = ioctl::disable(&file);
            WatchdogError::NotAWatchdog {
                path: path.to_owned(),
                error: OsError::from(errno),
            }
        })?;
        let device = Self {
            file,
            path: path.to_owned(),
        };
        match device.prepare(&info, wish, timing) {
            Ok(feeding) => Ok((device, feeding)),
            Err(error) => {
                device.stop()?;
                Err(error)
            }
        }
    }

    fn prepare(
        &self,
        info: &ioctl::Info,
        wish: Duration,
        timing: Timing,
    ) -> Result<Feeding, WatchdogError> {
        let identity = info.identity();
        let lack = if !info.has_magic_close() {
            Some(DeviceLack::MagicClose)
        } else if !info.takes_keepalive() {
            Some(DeviceLack::Keepalive)
        } else if !info.can_set_timeout() {
            Some(DeviceLack::Timeout)
        } else {
            None
        };
        if let Some(lack) = lack {
            return Err(WatchdogError::DeviceLacks {
                path: self.path.clone(),
                identity,
                lack,
            });
        }
        let secs = i32::try_from(wish.as_secs()).unwrap_or(i32::MAX);
        // One that refuses it may have a timeout that will do.
        let refused = ioctl::set_timeout(&self.file, secs).err();
        let got =
            ioctl::timeout(&self.file).map_err(|errno| self.not_fed(refused.unwrap_or(errno)))?;
        let got = Duration::from_secs(u64::try_from(got).unwrap_or(0));
        Feeding::with(got, timing).ok_or_else(|| WatchdogError::DeviceTimeout {
            path: self.path.clone(),
            identity,
            asked: wish,
            got,
            at_least: Feeding::shortest(),
            at_most: Feeding::longest(timing),
        })
    }

    /// Has it count from the beginning.
    pub(super) fn feed(&self) -> Result<(), WatchdogError> {
        self.write(FOOD)
    }

    /// Stops and closes it.
    ///
    /// A child that was forked meanwhile has it open too, so that our close alone is none: it is
    /// also told to stop at once. Not each device can do that, and with one that cannot nobody here
    /// knows whether it has stopped.
    pub(super) fn stop(self) -> Result<(), WatchdogError> {
        let may_stop = self.write(MAGIC);
        match ioctl::disable(&self.file) {
            Ok(()) => Ok(()),
            Err(errno) => {
                tracing::warn!(path = ?self.path, %errno, "the watchdog device cannot be disabled, only closed: should a process that was forked meanwhile have it open still, it counts on, and this host is reset unless that process ends soon");
                may_stop
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), WatchdogError> {
        loop {
            match rustix::io::write(&self.file, bytes) {
                Ok(1) => return Ok(()),
                Ok(_) => return Err(self.not_fed(Errno::IO)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.not_fed(errno)),
            }
        }
    }

    fn not_fed(&self, errno: Errno) -> WatchdogError {
        WatchdogError::DeviceNotFed {
            path: self.path.clone(),
            error: OsError::from(errno),
        }
    }
}

fn not_opened(path: &Path, error: &io::Error) -> WatchdogError {
    let path = path.to_owned();
    let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    if errno == Errno::BUSY.raw_os_error() {
        return WatchdogError::DeviceBusy { path };
    }
    WatchdogError::DeviceUnusable {
        path,
        error: OsError::new(errno),
    }
}

/// Whether the kernel tells that the device at `path`, once opened, counts for ever. To be asked
/// before: a look would reset the host. Where there is no sysfs nothing is known of it.
fn cannot_be_stopped(path: &Path) -> bool {
    let nowayout = attribute(path, "nowayout");
    nowayout.is_some_and(|value| value != "0")
}

/// What the kernel tells that the device is called.
fn identity_in_sysfs(path: &Path) -> String {
    attribute(path, "identity").unwrap_or_default()
}

/// What the kernel tells of a watchdog device without its being opened.
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
