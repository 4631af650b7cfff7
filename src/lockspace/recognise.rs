//! Finding out whether a file or device holds the lockspace that is asked for.

use std::time::Duration;

use super::error::JoinErrorKind;
use crate::delta_lease::LockspaceArea;
use crate::format::{FormatError, HostId, LockspaceId, LockspaceName, probe_lockspace};
use crate::runtime::disk::{Disk, StorageWorld};
use crate::runtime::executor::block_on;
use crate::world::{SectorBuf, World};

/// How much is read to find out what a lockspace is.
const PROBE_LEN: usize = 4096;

/// Finds out what lies at `offset` of `disk`, and that it is the lockspace `name`.
pub(super) fn recognise(
    disk: Disk,
    offset: u64,
    name: LockspaceName,
    wanted: Option<LockspaceId>,
    timeout: Duration,
) -> Result<LockspaceArea<Disk>, JoinErrorKind> {
    let info = disk.info().clone();
    if !info.may_begin_at(offset) {
        return Err(JoinErrorKind::Misaligned {
            offset,
            needed: info.io_alignment(),
        });
    }
    let available = info.len().saturating_sub(offset);
    let too_short = |needed: usize| JoinErrorKind::TooShort {
        offset,
        needed: u64::try_from(needed).unwrap_or(u64::MAX),
        available,
    };
    let fits = |needed: usize| u64::try_from(needed).is_ok_and(|needed| needed <= available);
    if !fits(PROBE_LEN) {
        return Err(too_short(PROBE_LEN));
    }
    let read = |offset, len| {
        let read = StorageWorld.read(&disk, offset, SectorBuf::zeroed(len), timeout);
        block_on(read).map_err(|error| JoinErrorKind::Unreadable { offset, error })
    };
    let first = read(offset, PROBE_LEN)?;
    let geometry = probe_lockspace(&first).map_err(|error| match error {
        FormatError::Magic { found: 0, .. } => JoinErrorKind::NotInitialised { offset },
        FormatError::Magic { .. } => JoinErrorKind::NotALockspace { offset, error },
        error => JoinErrorKind::Damaged { offset, error },
    })?;
    if !fits(geometry.area_size()) {
        return Err(too_short(geometry.area_size()));
    }
    let needed = info.io_alignment();
    if usize::try_from(needed).is_ok_and(|needed| needed > geometry.sector_size()) {
        return Err(JoinErrorKind::SectorsTooSmall { geometry, needed });
    }
    if let Some(expected) = wanted {
        let at = offset.saturating_add(geometry.lockspace_id_offset());
        let found = LockspaceId::read_from(&read(at, geometry.sector_size())?).present();
        if found != Some(expected) {
            return Err(JoinErrorKind::OtherLockspace { expected, found });
        }
    }
    let area = LockspaceArea {
        disk,
        offset,
        geometry,
        name,
        scanned_hosts: geometry.max_hosts(),
    };
    // The first host's sector says whose lockspace it is, whether or not anybody uses that id.
    if let Ok(first_host) = HostId::new(1) {
        area.decode_sector(&first, first_host)?;
    }
    Ok(area)
}
