//! The machines' watchdog: it resets a machine that has not renewed for 8N + F and was not known to have stopped.
//!
//! This is assumption 3 of the failure model, played by the test for both sides. disklease has no fences yet, and
//! sanlock's own (wdmd and a device) is not for a machine that runs the test: so whatever was stopped at a random
//! instant, perhaps between a question and its write, goes on before 8N + F or not at all, and I/O that the storage
//! holds ends with its machine. A reset kills processes and drops that I/O.
//!
//! It inspects the host's sector behind all mounts, so it sees a renewal when others could, never earlier; and it
//! resets a little early, because nothing is instantaneous.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use disklease::format::{DeltaLeader, HostId};
use serde_json::json;

use super::history::now;
use super::machine::{Body, Machine};
use super::place::Place;

const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long before 8N + F a machine is reset.
const EARLY: Duration = Duration::from_millis(500);
/// How long before that nothing that was stopped is let go any more.
const TOO_LATE: Duration = Duration::from_millis(200);
/// A machine that is seen in the lockspace for the first time has written there before, but not longer ago: 2N, in
/// which nobody else may show, and as much again.
const JOINED_WITHIN: Duration = Duration::from_secs(4);
const SECTOR: u64 = 512;
const ALIGNMENT: usize = 4096;

/// The last sign of life of a machine, as the disk shows it.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    host_id: u64,
    sector: Vec<u8>,
    /// The last change of the sector came after this, in ns since the boot.
    pub(super) from: u64,
    /// When the last look began.
    looked: u64,
    /// The machine has stopped by itself where it can do no harm, and is not to be reset for now.
    pub(super) is_excused: bool,
    /// Its guests have let go, but the storage held some I/O of it when that was seen: when the machine is to be
    /// reset if it still does.
    doom: Option<(u64, Instant)>,
    was_joined: bool,
}

/// The sectors of the lockspace, from behind all mounts.
pub(crate) struct Sectors(File);

impl Sectors {
    pub(crate) fn open(place: &Place) -> Self {
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).expect("open flags");
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .custom_flags(direct)
            .open(place.lockspace());
        Self(file.expect("the lockspace"))
    }

    pub(crate) fn read(&self, host_id: u64) -> Vec<u8> {
        let len = SECTOR as usize;
        let mut buffer = vec![0; len + ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        let sector = &mut buffer[start..start + len];
        self.0
            .read_exact_at(sector, (host_id - 1) * SECTOR)
            .expect("the lockspace");
        sector.to_vec()
    }
}

/// Watches until `end`.
pub(crate) fn watch(place: &Place, machines: &[Machine], end: &AtomicBool) {
    let sectors = Sectors::open(place);
    while !end.load(Ordering::Acquire) {
        for machine in machines {
            machine.look(&sectors);
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

impl Machine {
    fn look(&self, sectors: &Sectors) {
        let Some((life, host_id, state)) = self.membership() else {
            *self.lock_pulse() = Pulse::default();
            return;
        };
        let begun = now();
        let sector = sectors.read(host_id);
        let ended = now();
        let mut pulse = self.lock_pulse();
        if pulse.host_id != host_id {
            // What this incarnation has written there, it has written since it began; the last of it not long ago.
            pulse.host_id = host_id;
            pulse.from = self.born().max(begun - nanos(JOINED_WITHIN));
            self.note_change(host_id, &sector, self.born(), ended);
        } else if pulse.sector != sector {
            pulse.from = pulse.looked;
            self.note_change(host_id, &sector, pulse.from, ended);
        }
        pulse.sector = sector;
        pulse.looked = begun;

        let deadline = self.deadline(&pulse);
        if pulse.was_joined && !state.is_joined() && self.has_io_since_before(Instant::now()) {
            pulse.doom = Some((deadline, Instant::now()));
        }
        pulse.was_joined = state.is_joined();
        if let Some((_, since)) = pulse.doom
            && !self.has_io_since_before(since)
        {
            pulse.doom = None;
        }
        let renewal_due = Some(deadline).filter(|_| state.is_joined() && !pulse.is_excused);
        let io_due = pulse.doom.map(|(doom, _)| doom);
        drop(pulse);
        let due = [renewal_due, io_due].into_iter().flatten().min();
        if let Some(due) = due.filter(|&due| now() >= due) {
            let late = Duration::from_nanos(now() - due);
            self.note(
                "reset",
                json!({"host": host_id, "state": format!("{state:?}"), "late_ms": late.as_millis() as u64}),
            );
            self.kill_life(life, "reset");
        }
    }

    fn note_change(&self, host_id: u64, sector: &[u8], from: u64, to: u64) {
        let leader = HostId::new(host_id)
            .ok()
            .and_then(|id| DeltaLeader::decode(sector, id).ok());
        let fields = json!({
            "host": host_id,
            "from": from,
            "to": to,
            "generation": leader.map(|leader| leader.generation().get()),
            "free": leader.map(|leader| leader.is_free()),
        });
        self.note("renewed", fields);
    }

    fn deadline(&self, pulse: &Pulse) -> u64 {
        pulse.from + nanos(self.place.stopped_by()) - nanos(EARLY)
    }

    fn has_io_since_before(&self, instant: Instant) -> bool {
        match self.kind {
            super::machine::Kind::OursBare => false,
            _ => self.mount().gate().held_since_before(instant) > 0,
        }
    }

    /// How long the machine has given no sign of life.
    pub(crate) fn silent_for(&self) -> Duration {
        Duration::from_nanos(now().saturating_sub(self.lock_pulse().from))
    }

    /// The instant after which the last sign of life came, in ns since the boot.
    pub(super) fn renewed_at(&self) -> u64 {
        self.lock_pulse().from
    }

    /// Does `work` with the life that runs if it is `life` still and there is time left to go on.
    pub(super) fn in_time(&self, life: u64, work: impl FnOnce(&mut Body)) -> bool {
        let mut body = self.lock_body();
        let is_same = body.life() == Some(life);
        let pulse = self.lock_pulse();
        let doom = pulse.doom.map_or(u64::MAX, |(doom, _)| doom);
        let deadline = doom.min(self.deadline(&pulse));
        let is_late = !pulse.is_excused && now() + nanos(TOO_LATE) >= deadline;
        drop(pulse);
        if is_same && !is_late {
            work(&mut body);
        }
        is_same && !is_late
    }

    /// Says whether the watchdog lets the machine alone for now.
    pub(crate) fn excuse(&self, is_excused: bool) {
        self.lock_pulse().is_excused = is_excused;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("584 years")
}
