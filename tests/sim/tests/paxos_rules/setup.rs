//! Hosts that have joined, and names for the I/O of a lease.

use disklease::format::{Dblock, DblockSector, Input, LeaseVersion};

use disklease_sim::rig::{LEASE_AT, host_id};
use disklease_sim::{First, IoRecord, IoView, Member, Rig, Sim};

/// `N` hosts that have joined as 1, 2, ... and renew.
pub fn joined<const N: usize>() -> (Rig, [Member; N]) {
    joined_in(Sim::new(First))
}

pub fn joined_in<const N: usize>(sim: Sim) -> (Rig, [Member; N]) {
    let rig = Rig::new(sim, 3);
    let members = std::array::from_fn(|n| rig.join(n as u64 + 1));
    (rig, members)
}

pub fn is_leader_write(io: &IoView<'_>) -> bool {
    io.is_write() && io.offset == LEASE_AT
}

pub fn is_leader_read(io: &IoView<'_>) -> bool {
    io.is_read() && io.offset == LEASE_AT && io.len == 512
}

/// A read of the leader and all blocks.
pub fn is_area_read(io: &IoView<'_>) -> bool {
    io.is_read() && io.offset == LEASE_AT && io.len > 512
}

pub fn is_block_write(io: &IoView<'_>) -> bool {
    io.is_write() && io.offset > LEASE_AT
}

/// The `n`th write of the own block belongs to phase `n`.
pub fn is_phase_2_write(io: &IoView<'_>) -> bool {
    is_block_write(io) && block_in(io.bytes).is_some_and(|block| block.bal == block.mbal)
}

pub fn block_in(bytes: &[u8]) -> Option<Dblock> {
    DblockSector::decode(bytes, host_id(1)).block.unwrap()
}

/// A block with an accepted input of that host.
pub fn accepted(version: u64, mbal: u64, bal: u64, owner: &Member) -> Dblock {
    Dblock {
        mbal,
        bal,
        input: Some(Input {
            owner: owner.id(),
            generation: owner.membership.generation().get(),
            timestamp: 77,
        }),
        version: LeaseVersion::new(version),
        ..Dblock::default()
    }
}

pub fn announced(version: u64, mbal: u64) -> Dblock {
    Dblock {
        mbal,
        version: LeaseVersion::new(version),
        ..Dblock::default()
    }
}

/// What this host did to the lease since entry `from` of the log.
pub fn lease_io(rig: &Rig, member: &Member, from: usize) -> Vec<IoRecord> {
    let mut log = rig.sim.log_since(from);
    log.retain(|io| io.host == member.host && io.offset >= LEASE_AT);
    log
}

/// Its writes to the lease.
pub fn lease_writes(rig: &Rig, member: &Member, from: usize) -> Vec<IoRecord> {
    let mut log = lease_io(rig, member, from);
    log.retain(|io| !io.bytes.is_empty());
    log
}
