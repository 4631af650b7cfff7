//! What becomes of each I/O: it begins, lands or looks, and ends; its caller is answered, or gives up.

use std::time::Duration;

use disklease::__sim::world::{OsError, ReadError, SectorBuf, WriteError};

use super::choice::On;
use super::clock::TrueTime;
use super::disk::{Plan, SimDisk};
use super::io::{Io, IoId, IoKind, IoRecord, IoView, Outcome};
use super::mutations::Mutation;
use super::sched::{Core, Event, HostIx};

/// EIO.
const IO_ERROR: OsError = OsError::new(5);

/// Up to this many bytes of what a read saw are kept in the log.
const SEEN_MAX: usize = 64 << 10;

impl Core {
    /// Takes an I/O in. It begins at once, unless an earlier write is in its way.
    #[allow(clippy::too_many_arguments, reason = "all that an I/O is")]
    pub fn submit(
        &mut self,
        host: HostIx,
        kind: IoKind,
        disk: SimDisk,
        offset: u64,
        buf: SectorBuf,
        timeout: Duration,
        plan: Option<Plan>,
    ) -> IoId {
        let life = self.hosts[host.0].life;
        let in_the_way = !Mutation::SectorWrittenAgain.is_on()
            && kind == IoKind::Write
            && self.ios.values().any(|io| {
                io.host == host
                    && io.life == life
                    && io.kind == IoKind::Write
                    && !io.ended
                    && io.overlaps(disk, offset, buf.len())
            });
        let id = IoId(self.new_id());
        let io = Io {
            host,
            life,
            kind,
            disk,
            offset,
            buf,
            timeout,
            queued: true,
            held: false,
            fails: false,
            effect_at_end: false,
            seen_early: 0,
            has_happened: false,
            ended: false,
            outcome: None,
            abandoned: false,
            waker: None,
        };
        self.ios.add(id, io);
        let ends_at = if in_the_way {
            None
        } else {
            self.begin(id, plan)
        };
        // The host's own clock measures its patience.
        let clock = self.hosts[host.0].clock;
        let until = clock.reaches(
            clock
                .shows(self.now)
                .saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)),
        );
        // Most I/O is known to end in time.
        if ends_at.is_none_or(|end| end >= until) {
            self.at(until, Event::Deadline(id));
        }
        id
    }

    /// Begins an I/O. Gives the time at which it will end, unless it is held.
    fn begin(&mut self, id: IoId, plan: Option<Plan>) -> Option<TrueTime> {
        let (now, order) = (self.now, self.next_order());
        let io = self.ios.get_mut(id).unwrap();
        io.queued = false;
        let view = IoView {
            host: io.host,
            kind: io.kind,
            disk: io.disk,
            offset: io.offset,
            len: io.buf.len(),
            bytes: if io.kind == IoKind::Write {
                &io.buf
            } else {
                &[]
            },
        };
        if let Some(log) = &mut self.log {
            log.push(IoRecord {
                id,
                host: view.host,
                kind: view.kind,
                disk: view.disk,
                offset: view.offset,
                len: view.len,
                begun: now,
                effect: None,
                told: None,
                order,
                bytes: view.bytes.to_vec(),
                seen: Vec::new(),
            });
        }
        let caught = self
            .rules
            .iter_mut()
            .find_map(|rule| rule.catches(id, &view));
        let host = io.host;
        io.held = caught.is_some() || self.hosts[host.0].io_hangs;
        if io.held {
            return None;
        }
        let cut_off = self.hosts[io.host.0].cut_off.or(self.outages[io.disk.0]);
        let is_read = io.kind == IoKind::Read;
        let (disk, offset) = (io.disk, io.offset);
        self.pull_triggers(host, false, is_read, disk, offset);
        let io = &self.ios[id];
        let mut chooser = On(&mut *self.chooser, io.host.stream());
        let faults = self.faults.for_io(is_read, io.disk, io.offset);
        let plan = match (plan, cut_off.filter(|&(until, _)| now < until)) {
            (Some(plan), _) => plan,
            (None, Some((until, how))) => faults.plan_cut_off(&mut chooser, how, until.since(now)),
            (None, None) if is_read => {
                faults.plan_read(&mut chooser, io.buf.len() / 512, io.timeout)
            }
            (None, None) => faults.plan_write(&mut chooser, io.timeout),
        };
        self.schedule(id, plan);
        Some(now.after(plan.end))
    }

    /// Tells those who wait for such an I/O. Whether it is the last that any of them has waited for.
    pub fn pull_triggers(
        &mut self,
        host: HostIx,
        is_call: bool,
        is_read: bool,
        disk: SimDisk,
        offset: u64,
    ) -> bool {
        let mut is_last = false;
        for trigger in &mut self.triggers {
            if (trigger.host, trigger.is_call) == (host, is_call)
                && trigger.left > 0
                && trigger.at.hits(is_read, disk, offset)
            {
                trigger.left -= 1;
                if trigger.left == 0 {
                    is_last = true;
                    if let Some(waker) = trigger.waker.take() {
                        waker.wake();
                    }
                }
            }
        }
        is_last
    }

    /// Lets a started I/O go the way of `plan`, counted from now.
    pub fn schedule(&mut self, id: IoId, plan: Plan) {
        let io = self.ios.get_mut(id).unwrap();
        io.held = false;
        io.fails = plan.fails;
        io.effect_at_end = plan.effect == Some(plan.end);
        let now = self.now;
        if let Some((when, chunks)) = plan.early_part {
            self.at(now.after(when), Event::EarlyPart(id, chunks));
        }
        match plan.effect {
            Some(effect) if effect != plan.end => self.at(now.after(effect), Event::Effect(id)),
            _ => {}
        }
        self.at(now.after(plan.end), Event::End(id));
    }

    fn record(&mut self, id: IoId, change: impl FnOnce(&mut IoRecord)) {
        if let Some(log) = &mut self.log
            && let Some(record) = log.iter_mut().rev().find(|record| record.id == id)
        {
            change(record);
        }
    }

    pub fn look(&mut self, id: IoId, first_chunks: Option<usize>) {
        let Some(io) = self.ios.get_mut(id) else {
            return;
        };
        // What the early part of a torn read has seen stays seen.
        let (from, to) = match first_chunks {
            Some(chunks) => (0, chunks * 512),
            None => (io.seen_early, io.buf.len()),
        };
        io.seen_early = to;
        let offset = io.offset + from as u64;
        self.disks[io.disk.0].read(offset, &mut io.buf[from..to]);
    }

    pub fn take_effect(&mut self, id: IoId) {
        let now = self.now;
        match self.ios[id].kind {
            IoKind::Read => {
                self.look(id, None);
                // Scans of a whole lockspace are large and many, and no history tells what they saw.
                if self.log.is_some() && self.ios[id].buf.len() <= SEEN_MAX {
                    let seen = self.ios[id].buf.to_vec();
                    self.record(id, |record| record.seen = seen);
                }
            }
            IoKind::Write => {
                let io = self.ios.get_mut(id).unwrap();
                if io.has_happened {
                    return;
                }
                io.has_happened = true;
                self.landed_late += u64::from(io.outcome.is_some() || io.abandoned);
                let io = &self.ios[id];
                self.disks[io.disk.0].write(io.offset, &io.buf);
            }
        }
        let order = self.next_order();
        self.record(id, |record| {
            record.effect = Some(now);
            record.order = order;
        });
    }

    /// The storage answers: nothing more will happen to the disk by this I/O.
    pub fn end(&mut self, id: IoId) {
        if self.ios[id].effect_at_end {
            self.take_effect(id);
        }
        let io = self.ios.get_mut(id).unwrap();
        io.ended = true;
        let past_end = io.offset + io.buf.len() as u64 > self.disks[io.disk.0].len;
        let outcome = match io.kind {
            IoKind::Read if io.fails => Outcome::Read(ReadError::Failed(IO_ERROR)),
            IoKind::Read if past_end => Outcome::Read(ReadError::EndOfFile {
                wanted: io.buf.len(),
                got: self.disks[io.disk.0].len.saturating_sub(io.offset) as usize,
            }),
            IoKind::Write if io.fails || past_end => Outcome::Write(WriteError::Failed(IO_ERROR)),
            _ => Outcome::Done,
        };
        let (host, life) = (io.host, io.life);
        let (disk, offset, len) = (io.disk, io.offset, io.buf.len());
        let was_write = io.kind == IoKind::Write;
        self.tell(id, outcome);
        if was_write {
            self.begin_next(host, life, disk, offset, len);
        }
    }

    /// The write that waited longest for a place that has become free, if there is one.
    fn begin_next(&mut self, host: HostIx, life: u64, disk: SimDisk, offset: u64, len: usize) {
        let next = self.ios.iter().find(|(_, io)| {
            io.host == host && io.life == life && io.queued && io.overlaps(disk, offset, len)
        });
        if let Some((id, _)) = next {
            self.begin(id, None);
        }
    }

    pub fn give_up(&mut self, id: IoId) {
        let io = &self.ios[id];
        let outcome = match io.kind {
            IoKind::Read => Outcome::Read(ReadError::TimedOut(io.timeout)),
            IoKind::Write if io.queued => Outcome::Write(WriteError::NotStarted(io.timeout)),
            IoKind::Write => Outcome::Write(WriteError::TimedOut(io.timeout)),
        };
        if io.queued {
            self.ios.get_mut(id).unwrap().ended = true;
        }
        self.tell(id, outcome);
    }

    fn tell(&mut self, id: IoId, outcome: Outcome) {
        let now = self.now;
        let io = self.ios.get_mut(id).unwrap();
        if io.outcome.is_none() {
            io.outcome = Some(outcome);
            if let Some(waker) = io.waker.take() {
                waker.wake();
            }
            let order = self.next_order();
            self.record(id, |record| {
                record.told = Some((now, outcome));
                if record.effect.is_none() {
                    record.order = order;
                }
            });
        }
        self.forget_if_over(id);
    }

    pub fn forget_if_over(&mut self, id: IoId) {
        if self.ios.get(id).is_some_and(|io| io.ended && io.abandoned) {
            self.ios.remove(id);
        }
    }

    /// Nobody waits for this I/O any more. It goes on, if it was started.
    pub fn abandon(&mut self, id: IoId) {
        let Some(io) = self.ios.get_mut(id) else {
            return;
        };
        io.abandoned = true;
        if io.queued {
            io.ended = true;
        }
        self.forget_if_over(id);
    }
}
