//! All lockspaces and leases in a file or device.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{InspectError, InspectErrorKind};
use super::lease::LeaseReport;
use super::lockspace::LockspaceReport;
use super::recognise::{Found, WINDOW, recognise};
use super::source::Source;
use crate::format::Geometry;
use crate::runtime::disk::Links;

/// Areas lie at multiples of the smallest area there is.
const STEP: u64 = 1 << 20;

/// How to inspect a file or device.
#[derive(Clone, Copy, Debug)]
pub struct FileOptions {
    offset: u64,
    timeout: Duration,
}

impl FileOptions {
    /// From the start on; a read may take ten seconds.
    #[must_use]
    pub const fn new() -> Self {
        let timeout = Duration::from_secs(10);
        Self { offset: 0, timeout }
    }

    /// Starts at this byte instead.
    #[must_use]
    pub const fn offset(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// How long one read may take.
    #[must_use]
    pub const fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

impl Default for FileOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a file or device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// The file or device.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Whether it is a block device.
    pub is_block_device: bool,
    /// Whether it was read past the page cache. If not, what other hosts wrote may be missing.
    pub is_direct: bool,
    /// What is in it, in the order of the offsets. Empty for an empty file.
    pub areas: Vec<Area>,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Area {
    /// A lockspace.
    Lockspace(LockspaceReport),
    /// A lease.
    Lease(LeaseReport),
    /// At no MiB in here lies an area of the format; each MiB starts with zeros.
    Zeros {
        /// Where the stretch starts, in bytes from the start of the file.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// At no MiB in here lies an area of the format; there is something else.
    Foreign {
        /// Where the stretch starts, in bytes from the start of the file.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// The first word of the stretch, as a little-endian number: the format has a magic number there.
        first_word: u32,
    },
}

impl Area {
    /// Where the area starts, in bytes from the start of the file.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Lockspace(lockspace) => lockspace.offset,
            Self::Lease(lease) => lease.offset,
            Self::Zeros { offset, .. } | Self::Foreign { offset, .. } => *offset,
        }
    }

    /// Where the area ends, unless the file ends earlier. Always behind its start, so that an inspection ends.
    fn end(&self) -> u64 {
        let (offset, len) = match self {
            Self::Lockspace(LockspaceReport {
                offset, geometry, ..
            })
            | Self::Lease(LeaseReport {
                offset, geometry, ..
            }) => (offset, area_len(*geometry)),
            Self::Zeros { offset, len } | Self::Foreign { offset, len, .. } => (offset, *len),
        };
        offset.saturating_add(len.max(1))
    }
}

/// Inspects all lockspaces and leases in the file or device at `path`, which may be a symbolic
/// link.
///
/// Areas are searched for at `offset` and from there on at each MiB that is not part of an area. A
/// device is read to its end; where no area lies, only the start of each MiB is.
///
/// # Errors
///
/// [`InspectError`] only if nothing can be shown. Damage is part of the report.
pub fn inspect_file(
    path: impl AsRef<Path>,
    options: FileOptions,
) -> Result<FileReport, InspectError> {
    let source = Source::open(path.as_ref(), Links::Follow, options.timeout)?;
    let (len, offset) = (source.info().len(), options.offset);
    if offset > len {
        return Err(source.error(InspectErrorKind::BehindTheEnd { offset, len }));
    }
    let mut areas = Vec::new();
    let mut at = offset;
    while at < len {
        let area = area_at(&source, at)?;
        let end = area.end().min(len);
        match (areas.last_mut(), &area) {
            (Some(Area::Zeros { len, .. }), Area::Zeros { .. })
            | (Some(Area::Foreign { len, .. }), Area::Foreign { .. }) => {
                *len = len.saturating_add(end.saturating_sub(at));
            }
            _ => areas.push(area),
        }
        at = end;
    }
    Ok(FileReport {
        path: source.info().path().to_owned(),
        len,
        is_block_device: source.info().is_block_device(),
        is_direct: source.info().is_direct(),
        areas,
    })
}

/// What lies at byte `at`.
pub(super) fn area_at(source: &Source, at: u64) -> Result<Area, InspectError> {
    let len = source.info().len().saturating_sub(at).min(STEP);
    Ok(match recognise(source.read(at, WINDOW)?.from(at)) {
        Found::Zeros => Area::Zeros { offset: at, len },
        Found::Foreign { first_word } => Area::Foreign {
            offset: at,
            len,
            first_word,
        },
        Found::Lockspace(geometry) => {
            let area = source.read_area(at, geometry)?;
            Area::Lockspace(LockspaceReport::of(&area))
        }
        Found::Lease(geometry) => Area::Lease(LeaseReport {
            geometry_is_guessed: false,
            ..LeaseReport::of(&source.read_area(at, geometry)?)
        }),
        Found::PartOfLease(default) => {
            let geometry = guess_geometry(source, at, default)?;
            Area::Lease(LeaseReport {
                geometry_is_guessed: true,
                ..LeaseReport::of(&source.read_area(at, geometry)?)
            })
        }
    })
}

/// The likely geometry of a lease of which only the sector size is known: the lease ends where the file does
/// or where another area lies.
fn guess_geometry(source: &Source, at: u64, default: Geometry) -> Result<Geometry, InspectError> {
    let file_len = source.info().len();
    let same_sectors = Geometry::ALL
        .into_iter()
        .filter(|other| other.sector_size() == default.sector_size());
    for candidate in same_sectors {
        let end = at.saturating_add(area_len(candidate));
        if end >= file_len {
            return Ok(candidate);
        }
        let next = recognise(source.read(end, WINDOW)?.from(end));
        if let Found::Lockspace(_) | Found::Lease(_) = next {
            return Ok(candidate);
        }
    }
    Ok(default)
}

fn area_len(geometry: Geometry) -> u64 {
    u64::try_from(geometry.area_size()).unwrap_or(STEP)
}
