//! Changes to the sectors of an image, as an input tells them.

use crate::bytes::{self, HOLDER_NOTE, HOST_NOTE};
use crate::input::Input;

/// More than one input needs.
const EDITS_MAX: usize = 12;

/// What a sector is for, which says where its checksums are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The delta leader of a host, its note and its bitmap.
    Delta,
    /// The leader of a lease.
    Leader,
    /// The request for a lease.
    Request,
    /// The block of a host in a lease, and its note.
    Block,
}

/// A sector that may be changed.
#[derive(Clone, Debug)]
pub struct Site {
    pub kind: Kind,
    /// Where it begins on the disk or in the file.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

const WRITE: u8 = 0;
const FLIP: u8 = 1;
const FILL: u8 = 2;
const SEAL_RECORD: u8 = 0x40;
const SEAL_NOTE: u8 = 0x80;

/// Changes `sites` as `input` says, until it is used up.
pub fn apply(input: &mut Input<'_>, sites: &mut [Site]) {
    for _ in 0..EDITS_MAX {
        if input.is_used_up() {
            return;
        }
        let site = usize::from(input.u8()) % sites.len();
        let op = input.u8();
        match op & 3 {
            WRITE | FLIP | FILL => {
                let sector = &mut sites[site].bytes;
                let at = usize::from(input.u16()) % sector.len();
                let place = &mut sector[at..];
                let len = place.len().min(usize::from(input.u8()) + 1);
                let place = &mut place[..len];
                if op & 3 == FILL {
                    place.fill(input.u8());
                } else {
                    for (to, &from) in place.iter_mut().zip(input.bytes(len)) {
                        *to = if op & 3 == FLIP { *to ^ from } else { from };
                    }
                }
            }
            _ => {
                let from = sites[usize::from(input.u8()) % sites.len()].bytes.clone();
                let len = from.len().min(sites[site].bytes.len());
                sites[site].bytes[..len].copy_from_slice(&from[..len]);
            }
        }
        seal(&mut sites[site], op);
    }
}

fn seal(site: &mut Site, op: u8) {
    let sector = &mut site.bytes;
    if op & SEAL_RECORD != 0 {
        match site.kind {
            Kind::Delta | Kind::Leader => bytes::seal_leader(sector),
            Kind::Block => bytes::seal_dblock(sector),
            Kind::Request => {}
        }
    }
    if op & SEAL_NOTE != 0 {
        match site.kind {
            Kind::Delta => bytes::seal_note(sector, HOST_NOTE),
            Kind::Block => bytes::seal_note(sector, HOLDER_NOTE),
            Kind::Leader | Kind::Request => {}
        }
    }
}

/// The bytes of an input that overwrite `site` at `at`; `sealed`: and put the checksum right.
///
/// # Panics
///
/// If `bytes` are none or more than 256.
#[must_use]
pub fn write(site: u8, at: u16, bytes: &[u8], sealed: bool) -> Vec<u8> {
    let [low, high] = at.to_le_bytes();
    let len = u8::try_from(bytes.len() - 1).unwrap();
    let op = if sealed { WRITE | SEAL_RECORD } else { WRITE };
    let mut edit = vec![site, op, low, high, len];
    edit.extend_from_slice(bytes);
    edit
}

/// The same for flipping bits.
///
/// # Panics
///
/// As [`write`].
#[must_use]
pub fn flip(site: u8, at: u16, bits: &[u8], sealed: bool) -> Vec<u8> {
    let mut edit = write(site, at, bits, sealed);
    edit[1] |= FLIP;
    edit
}

/// Some edits that suit any image: damage and forgery of each kind.
#[must_use]
pub fn samples(sites: u8) -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    for site in 0..sites {
        samples.push(flip(site, 0, &[1], false));
        samples.push(write(site, 0, &[0; 256], false));
        // The words that come first and at 32 and 152 in all records that matter.
        samples.push(write(site, 0, &u64::MAX.to_le_bytes(), true));
        samples.push(write(site, 32, &7_u64.to_le_bytes(), true));
        samples.push(write(site, 152, &0_u64.to_le_bytes(), true));
    }
    samples
}
