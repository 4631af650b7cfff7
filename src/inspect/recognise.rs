//! What lies at an offset, also where its first sector is damaged.

use crate::format::{
    DblockSector, FormatErrorKind, Geometry, HostId, PROBE_LEN, RequestRecord, probe_lease,
    probe_lockspace,
};

/// Bytes to inspect: some sectors, however large they are.
pub(super) const WINDOW: usize = 4 * PROBE_LEN;

/// What lies at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A lockspace, with the sizes that its records have.
    Lockspace(Geometry),
    /// A lease, with the sizes that its leader record has.
    Lease(Geometry),
    /// A lease without a good leader record. The sector size follows from where its other records lie; the area
    /// has the size that goes with the sector size by default, or another.
    PartOfLease(Geometry),
    /// Nothing of the format, and only zeros.
    Zeros,
    /// Nothing of the format.
    Foreign { first_word: u32 },
}

/// What lies at the start of `window`, [`WINDOW`] bytes or as many as there are.
pub(super) fn recognise(window: &[u8]) -> Found {
    if let Ok(geometry) = probe_lockspace(window) {
        return Found::Lockspace(geometry);
    }
    match probe_lease(window) {
        Ok(geometry) => return Found::Lease(geometry),
        Err(error)
            if matches!(
                error.kind(),
                FormatErrorKind::Magic { .. } | FormatErrorKind::Short { .. }
            ) => {}
        // Cleared, of another version or of no possible sizes: a lease all the same.
        Err(_) => {
            let found = lease_behind(window).unwrap_or(Geometry::S512_A1M);
            return Found::PartOfLease(found);
        }
    }
    if let Some(geometry) = lockspace_behind(window) {
        return Found::Lockspace(geometry);
    }
    if let Some(geometry) = lease_behind(window) {
        return Found::PartOfLease(geometry);
    }
    if window.iter().all(|&byte| byte == 0) {
        return Found::Zeros;
    }
    let mut word = [0; 4];
    for (to, from) in word.iter_mut().zip(window) {
        *to = *from;
    }
    Found::Foreign {
        first_word: u32::from_le_bytes(word),
    }
}

/// The geometry of the lockspace whose later sectors these are.
fn lockspace_behind(window: &[u8]) -> Option<Geometry> {
    SECTOR_SIZES.into_iter().find_map(|(size, _)| {
        let mut sectors = window.chunks(size).skip(1);
        sectors.find_map(|sector| {
            let geometry = probe_lockspace(sector).ok()?;
            (geometry.sector_size() == size).then_some(geometry)
        })
    })
}

/// The geometry of the lease whose later sectors these are, with the area of the default size.
fn lease_behind(window: &[u8]) -> Option<Geometry> {
    let requested = SECTOR_SIZES.into_iter().find(|&(size, _)| {
        let request = window.get(size..).unwrap_or_default();
        RequestRecord::decode(request).is_ok()
    });
    if let Some((_, geometry)) = requested {
        return Some(geometry);
    }
    // A dblock has a checksum: nothing else is taken for one. Of large sectors all are where small
    // ones could be too, but not the other way round.
    let mut dblocks = window
        .chunks(512)
        .enumerate()
        .skip(2)
        .filter(|(_, sector)| is_dblock(sector))
        .map(|(index, _)| index.is_multiple_of(8))
        .peekable();
    dblocks.peek()?;
    if dblocks.all(|fits_large_sectors| fits_large_sectors) {
        Some(Geometry::S4K_A8M)
    } else {
        Some(Geometry::S512_A1M)
    }
}

const SECTOR_SIZES: [(usize, Geometry); 2] = [(512, Geometry::S512_A1M), (4096, Geometry::S4K_A8M)];

fn is_dblock(sector: &[u8]) -> bool {
    matches!(
        DblockSector::decode(sector, HostId::FIRST).block,
        Ok(Some(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        Dblock, LeaseVersion, LockspaceName, ResourceName, lease_image, lockspace_image,
    };

    fn lockspace(geometry: Geometry) -> Vec<u8> {
        let name = LockspaceName::new("LS").unwrap();
        let mut area = lockspace_image(geometry, &name, 10, None);
        area.truncate(WINDOW);
        area
    }

    fn lease(geometry: Geometry) -> Vec<u8> {
        let (space, name) = (
            LockspaceName::new("LS").unwrap(),
            ResourceName::new("R").unwrap(),
        );
        let mut area = lease_image(geometry, &space, &name, 0);
        area.truncate(WINDOW);
        area
    }

    #[test]
    fn whole_areas_tell_their_sizes() {
        for g in Geometry::ALL {
            assert_eq!(recognise(&lockspace(g)), Found::Lockspace(g));
            assert_eq!(recognise(&lease(g)), Found::Lease(g));
        }
    }

    #[test]
    fn areas_are_known_without_their_first_sector() {
        for g in Geometry::ALL {
            let size = g.sector_size();
            let mut area = lockspace(g);
            area[..size].fill(0);
            assert_eq!(recognise(&area), Found::Lockspace(g));

            let guessed = Geometry::for_sector_size(u32::try_from(size).unwrap()).unwrap();
            let guessed = Found::PartOfLease(guessed);
            let mut area = lease(g);
            area[..size].fill(0xa5);
            assert_eq!(recognise(&area), guessed);
            area[size..2 * size].fill(0);
            assert_eq!(
                recognise(&area),
                Found::Foreign {
                    first_word: 0xa5a5_a5a5
                }
            );
            let block = Dblock::for_version(LeaseVersion::new(3));
            block.write_to(area[2 * size..].first_chunk_mut().unwrap());
            block.write_to(area[3 * size..].first_chunk_mut().unwrap());
            assert_eq!(recognise(&area), guessed);
        }
    }

    #[test]
    fn nothing_is_told_from_something_else() {
        assert_eq!(recognise(&[]), Found::Zeros);
        assert_eq!(recognise(&[0; 700]), Found::Zeros);
        assert_eq!(recognise(&[1, 0]), Found::Foreign { first_word: 1 });
    }
}
