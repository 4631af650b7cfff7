//! One target for each record of the format.
//!
//! Each states once more, from the words of `docs/on-disk-format.md` and in its own code, what the
//! decoder must say to any bytes: what is wrong with them, or what they mean. Then what was decoded
//! goes to bytes and back.

pub mod dblock_sector;
pub mod delta_leader;
pub mod holder_note;
pub mod host_bitmap;
pub mod host_note;
pub mod paxos_leader;
pub mod request;

use disklease::format::{Generation, HostId, NameBytes};

use crate::input::Input;

/// A sector, and whose it is said to be.
struct Case {
    host: HostId,
    seal: bool,
    sector: Vec<u8>,
}

impl Case {
    /// Bytes before the sector's own.
    const HEADER: usize = 3;

    /// From `data`; the record in question lies at byte `offset` of the sector, and no bytes are
    /// spent on those before it.
    fn new(data: &[u8], offset: usize) -> Self {
        let mut input = Input::new(data);
        let seal = input.u8() & 1 != 0;
        let host = host(input.u16());
        let mut sector = vec![0; offset];
        sector.extend_from_slice(input.rest());
        Self { host, seal, sector }
    }

    /// The input that gives this case.
    fn seed(host_id: u16, offset: usize, sector: &[u8]) -> Vec<u8> {
        // Not sealed: what is changed in it is damage. Sealed: it is another record.
        let mut seed = vec![0];
        seed.extend_from_slice(&(host_id - 1).to_le_bytes());
        seed.extend_from_slice(&sector[offset..]);
        seed
    }
}

fn host(number: u16) -> HostId {
    HostId::new(1 + u64::from(number % HostId::MAX)).unwrap()
}

fn generation_after(generation: Generation) -> Option<Generation> {
    generation.get().checked_add(1).map(Generation::new)
}

/// The name field at byte `at`.
fn name_at(record: &[u8], at: usize) -> NameBytes {
    NameBytes::new(record[at..at + 48].try_into().unwrap())
}
