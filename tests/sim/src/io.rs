//! One read or write, from its beginning to its end.

use std::task::Waker;

use disklease::__sim::world::{ReadError, SectorBuf, WriteError};

use super::clock::TrueTime;
use super::disk::SimDisk;
use super::sched::HostIx;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IoId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    Read,
    Write,
}

/// What a test's rules see of an I/O as it begins.
#[derive(Clone, Copy, Debug)]
pub struct IoView<'a> {
    pub host: HostIx,
    pub kind: IoKind,
    pub disk: SimDisk,
    pub offset: u64,
    pub len: usize,
    /// What is being written; empty for a read.
    pub bytes: &'a [u8],
}

impl IoView<'_> {
    pub fn is_write(&self) -> bool {
        self.kind == IoKind::Write
    }

    pub fn is_read(&self) -> bool {
        self.kind == IoKind::Read
    }
}

/// What the caller was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Read(ReadError),
    Write(WriteError),
}

/// An I/O in the log of a run.
#[derive(Clone, Debug)]
pub struct IoRecord {
    pub id: IoId,
    pub host: HostIx,
    pub kind: IoKind,
    pub disk: SimDisk,
    pub offset: u64,
    pub len: usize,
    pub begun: TrueTime,
    /// When its effect was on the disk, or when it looked.
    pub effect: Option<TrueTime>,
    /// When and what the caller was answered.
    pub told: Option<(TrueTime, Outcome)>,
    /// Of all that is logged of one instant, which comes first: counted when the effect came, or as long
    /// as there is none, when the caller was answered, or when it was started.
    pub order: u64,
    /// What was written.
    pub bytes: Vec<u8>,
    /// What was read.
    pub seen: Vec<u8>,
}

/// An I/O that has not been forgotten yet: somebody waits for it, or it can still happen.
pub struct Io {
    pub host: HostIx,
    /// Which life of the host began it.
    pub life: u64,
    pub kind: IoKind,
    pub disk: SimDisk,
    pub offset: u64,
    pub buf: SectorBuf,
    pub timeout: std::time::Duration,
    /// Not started yet: an earlier write of the same host to the same sector has not ended.
    pub queued: bool,
    /// Stands still until a test says otherwise.
    pub held: bool,
    /// The disk answers with an error.
    pub fails: bool,
    /// Lands or looks when it ends.
    pub effect_at_end: bool,
    /// Bytes at the beginning that a torn read has inspected already.
    pub seen_early: usize,
    /// A test has let it land, or look, already.
    pub has_happened: bool,
    pub ended: bool,
    /// What the caller is to be answered, or was answered already.
    pub outcome: Option<Outcome>,
    /// Nobody waits for it any more.
    pub abandoned: bool,
    pub waker: Option<Waker>,
}

/// All I/O that is not forgotten, oldest first. Never many, so that looking through them is quick.
#[derive(Default)]
pub struct Ios(Vec<(IoId, Io)>);

impl Ios {
    fn at(&self, id: IoId) -> Option<usize> {
        self.0.binary_search_by_key(&id, |&(id, _)| id).ok()
    }

    pub fn get(&self, id: IoId) -> Option<&Io> {
        self.at(id).map(|at| &self.0[at].1)
    }

    pub fn get_mut(&mut self, id: IoId) -> Option<&mut Io> {
        self.at(id).map(|at| &mut self.0[at].1)
    }

    /// Ids rise: a new one comes last.
    pub fn add(&mut self, id: IoId, io: Io) {
        self.0.push((id, io));
    }

    pub fn remove(&mut self, id: IoId) {
        if let Some(at) = self.at(id) {
            self.0.remove(at);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (IoId, &Io)> {
        self.0.iter().map(|(id, io)| (*id, io))
    }

    pub fn values(&self) -> impl Iterator<Item = &Io> {
        self.0.iter().map(|(_, io)| io)
    }
}

impl std::ops::Index<IoId> for Ios {
    type Output = Io;

    fn index(&self, id: IoId) -> &Io {
        self.get(id).expect("an I/O that is not forgotten")
    }
}

impl Io {
    pub fn overlaps(&self, disk: SimDisk, offset: u64, len: usize) -> bool {
        self.disk == disk
            && self.offset < offset + len as u64
            && offset < self.offset + self.buf.len() as u64
    }

    /// Whether it was started and can still land.
    pub fn is_write_in_flight(&self) -> bool {
        self.kind == IoKind::Write && !self.queued && !self.ended
    }
}
