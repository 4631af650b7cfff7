//! What a file holds, as a document.

use disklease::format::{self, Generation, HostId};
use disklease::inspect::{self, Damage};
use serde::Serialize;

use crate::view::{Geometry, HolderNote, HostNote, all, lossy, note_error, noted, view};

view! {
    Dump of report: inspect::FileReport {
        document: &'static str = "disklease dump 1",
        path: String = report.path.to_string_lossy().into_owned(),
        length: u64 = report.len,
        block_device: bool = report.is_block_device,
        direct_io: bool = report.is_direct,
        areas: Vec<Area> = all(&report.areas),
    }
}

/// A part of the file.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Area {
    Lockspace(Lockspace),
    Lease(Lease),
    Zeros {
        offset: u64,
        length: u64,
    },
    Foreign {
        offset: u64,
        length: u64,
        first_word: u32,
    },
    Unknown {
        offset: u64,
    },
}

impl From<&inspect::Area> for Area {
    fn from(area: &inspect::Area) -> Self {
        let offset = area.offset();
        match area {
            inspect::Area::Lockspace(report) => Self::Lockspace(report.into()),
            inspect::Area::Lease(report) => Self::Lease(report.into()),
            &inspect::Area::Zeros { len: length, .. } => Self::Zeros { offset, length },
            &inspect::Area::Foreign {
                len: length,
                first_word,
                ..
            } => Self::Foreign {
                offset,
                length,
                first_word,
            },
            _ => Self::Unknown { offset },
        }
    }
}

/// The fields of a record that is good, and else what is wrong with the record.
#[derive(Debug, Serialize)]
pub(crate) struct Record<T> {
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) good: Option<T>,
}

impl<'a, S, T: From<&'a S>> From<&'a Result<S, Damage>> for Record<T> {
    fn from(record: &'a Result<S, Damage>) -> Self {
        Self {
            error: record.as_ref().err().map(ToString::to_string),
            good: record.as_ref().ok().map(T::from),
        }
    }
}

view! {
    Lockspace of report: inspect::LockspaceReport {
        offset: u64 = report.offset,
        geometry: Geometry = (&report.geometry).into(),
        name: String = lossy(report.name),
        id: Option<String> = report.id.get().map(ToString::to_string),
        id_error: Option<String> = note_error(&report.id),
        damaged: bool = report.is_damaged(),
        #[serde(skip)]
        damages: Vec<(u64, Damage)> = report.damages().collect(),
        cut_at: Option<u64> = report.cut_at,
        hosts: Vec<Host> = all(&report.hosts),
    }
}

view! {
    Host of host: inspect::HostSector {
        host_id: u16 = host.host_id.get(),
        offset: u64 = host.offset,
        #[serde(flatten)]
        leader: Record<DeltaLeader> = (&host.leader).into(),
        calls: Vec<u16> = host.bitmap.iter().map(HostId::get).collect(),
        note: Option<HostNote> = noted(&host.note),
        note_error: Option<String> = note_error(&host.note),
    }
}

view! {
    DeltaLeader of leader: format::DeltaLeader {
        free: bool = leader.is_free(),
        host_name: String = lossy(leader.host_name()),
        generation: u64 = leader.generation().get(),
        timestamp: u64 = leader.timestamp_secs(),
        io_timeout_secs: u16 = leader.io_timeout_secs(),
    }
}

view! {
    Lease of report: inspect::LeaseReport {
        offset: u64 = report.offset,
        geometry: Geometry = (&report.geometry).into(),
        geometry_guessed: bool = report.geometry_is_guessed,
        damaged: bool = report.is_damaged(),
        #[serde(skip)]
        damages: Vec<(u64, Damage)> = report.damages().collect(),
        cut_at: Option<u64> = report.cut_at,
        leader: Record<PaxosLeader> = (&report.leader).into(),
        request: Record<Request> = (&report.request).into(),
        blocks: Vec<Block> = all(&report.blocks),
    }
}

view! {
    PaxosLeader of leader: format::PaxosLeader {
        lockspace: String = lossy(leader.space_name()),
        resource: String = lossy(leader.resource_name()),
        num_hosts: u16 = leader.num_hosts(),
        free: bool = leader.is_free(),
        short_hold: bool = leader.is_short_hold(),
        owner_id: Option<u16> = leader.last_owner().map(HostId::get),
        generation: u64 = leader.generation().get(),
        version: u64 = leader.version().get(),
        timestamp: u64 = leader.timestamp_secs(),
        write_id: u64 = leader.write_id(),
        write_generation: u64 = leader.write_generation().get(),
        write_timestamp: u64 = leader.write_timestamp(),
    }
}

view! {
    Request of request: format::RequestRecord {
        version: u64 = request.version.get(),
        force_mode: u32 = request.force_mode,
    }
}

view! {
    Block of block: inspect::HostBlock {
        host_id: u16 = block.host_id.get(),
        offset: u64 = block.offset,
        #[serde(flatten)]
        sector: Record<Sector> = match &block.sector {
            Ok(sector) => Record {
                error: sector.block.as_ref().err().map(ToString::to_string),
                good: Some(sector.into()),
            },
            unread => unread.into(),
        },
    }
}

view! {
    Sector of sector: format::DblockSector {
        /// `None` also where the dblock is damaged.
        ballot: Option<Ballot> = sector.block.ok().flatten().as_ref().map(Ballot::from),
        released: bool = sector.released,
        shared_generation: Option<u64> = sector.shared.map(Generation::get),
        note: Option<HolderNote> = noted(&sector.note),
        note_error: Option<String> = note_error(&sector.note),
    }
}

view! {
    Ballot of ballot: format::Dblock {
        mbal: u64 = ballot.mbal,
        bal: u64 = ballot.bal,
        version: u64 = ballot.version.get(),
        input: Option<Input> = ballot.input.as_ref().map(Input::from),
    }
}

view! {
    Input of input: format::Input {
        owner_id: u64 = input.owner,
        generation: u64 = input.generation,
        timestamp: u64 = input.timestamp,
    }
}
