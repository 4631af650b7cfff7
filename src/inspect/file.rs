//! All lockspaces and leases in a file or device.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::area::Area;
use super::error::LookError;
use super::lease::LeaseLook;
use super::lockspace::LockspaceLook;
use super::recognise::{Found, Sizes, WINDOW, recognise};
use super::source::Source;
use crate::format::Geometry;
use crate::runtime::disk::Links;

/// Areas begin at multiples of the smallest area there is.
const STEP: u64 = 1 << 20;

/// How to inspect a file or device.
#[derive(Clone, Copy, Debug)]
pub struct LookOptions {
    offset: u64,
    timeout: Duration,
}

impl LookOptions {
    /// From the start on; a read may take ten seconds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            offset: 0,
            timeout: Duration::from_secs(10),
        }
    }

    /// Begins at this byte instead.
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

impl Default for LookOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a file or device shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileLook {
    /// The file or device.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Whether it is a block device.
    pub is_block_device: bool,
    /// Whether it was read past the page cache. If not, what other hosts wrote may not be seen.
    pub is_direct: bool,
    /// What is in it, in the order in which it lies there. Empty for an empty file.
    pub areas: Vec<Area>,
}

/// Inspects all lockspaces and leases in the file or device at `path`, which may be a symbolic
/// link.
///
/// Areas are searched for at `offset` and from there on at each MiB that is not part of an area. A
/// device is read to its end; of bytes in which no area begins only the beginning of each MiB is.
///
/// # Errors
///
/// [`LookError`] only if nothing can be shown. Damage is part of what is shown.
pub fn look(path: impl AsRef<Path>, options: LookOptions) -> Result<FileLook, LookError> {
    let source = Source::open(path.as_ref(), Links::Follow, options.timeout)?;
    let info = source.info();
    let len = info.len();
    if options.offset > len {
        return Err(LookError::BehindTheEnd {
            path: info.path().to_owned(),
            offset: options.offset,
            len,
        });
    }
    let mut areas = Vec::new();
    let mut at = options.offset;
    while at < len {
        let (area, area_len) = area_at(&source, at)?;
        let end = at.saturating_add(area_len).min(len);
        match (areas.last_mut(), &area) {
            (Some(Area::Zeros { len, .. }), Area::Zeros { .. })
            | (Some(Area::Foreign { len, .. }), Area::Foreign { .. }) => {
                *len = len.saturating_add(end.saturating_sub(at));
            }
            _ => areas.push(area),
        }
        at = end;
    }
    Ok(FileLook {
        path: info.path().to_owned(),
        len,
        is_block_device: info.is_block_device(),
        is_direct: info.is_direct(),
        areas,
    })
}

/// What is at byte `at`, and how long it is. More than nothing, so that an inspection ends.
pub(super) fn area_at(source: &Source, at: u64) -> Result<(Area, u64), LookError> {
    let file_len = source.info().len();
    let left = file_len.saturating_sub(at);
    let window = source.read(at, WINDOW)?;
    let len = left.min(STEP);
    match recognise(window.from(at)) {
        Found::Zeros => Ok((Area::Zeros { offset: at, len }, STEP)),
        Found::Foreign { first_word } => {
            let foreign = Area::Foreign {
                offset: at,
                len,
                first_word,
            };
            Ok((foreign, STEP))
        }
        Found::Lockspace(sizes) => {
            let (geometry, _) = settle(source, at, sizes)?;
            let chunk = source.read(at, geometry.area_size())?;
            let cut = cut_at(at, geometry, file_len);
            let look = LockspaceLook::of(&chunk, at, geometry, cut);
            Ok((Area::Lockspace(look), area_len(geometry)))
        }
        Found::Lease(sizes) => {
            let sizes = settle(source, at, sizes)?;
            let chunk = source.read(at, sizes.0.area_size())?;
            let cut = cut_at(at, sizes.0, file_len);
            let look = LeaseLook::of(&chunk, at, sizes, cut);
            Ok((Area::Lease(look), area_len(sizes.0)))
        }
    }
}

/// The geometry, and whether it is a guess. Where the area's size is not known it ends where the
/// file does or where another area begins.
fn settle(source: &Source, at: u64, sizes: Sizes) -> Result<(Geometry, bool), LookError> {
    let guessed = match sizes {
        Sizes::Told(geometry) => return Ok((geometry, false)),
        Sizes::Guessed(geometry) => geometry,
    };
    let file_len = source.info().len();
    let same_sectors = Geometry::ALL
        .into_iter()
        .filter(|other| other.sector_size() == guessed.sector_size());
    for candidate in same_sectors {
        let end = at.saturating_add(area_len(candidate));
        if end >= file_len {
            return Ok((candidate, true));
        }
        let next = source.read(end, WINDOW)?;
        if let Found::Lockspace(Sizes::Told(_)) | Found::Lease(Sizes::Told(_)) =
            recognise(next.from(end))
        {
            return Ok((candidate, true));
        }
    }
    Ok((guessed, true))
}

fn area_len(geometry: Geometry) -> u64 {
    u64::try_from(geometry.area_size())
        .unwrap_or(STEP)
        .max(STEP)
}

fn cut_at(at: u64, geometry: Geometry, file_len: u64) -> Option<u64> {
    (at.saturating_add(area_len(geometry)) > file_len).then_some(file_len)
}
