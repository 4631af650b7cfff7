//! A new host claims a host id in a lockspace whose sectors were changed in places.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use disklease::__sim::delta_lease::{
    ClaimError, ClaimProgress, Claimant, DeltaLease, DeltaRecord, DeltaSectorErrorKind,
    EarlierIncarnation,
};
use disklease::__sim::world::World;
use disklease::format::DeltaLeader;

use super::start::{Ended, LEFT, STARTS, put, stay};
use crate::bytes::{LEADER_CHECKED, LEADER_LEN};
use crate::edits;
use crate::input::Input;
use crate::shown;
use disklease_sim::rig::{SPACE, host_id, names, secs};
use disklease_sim::{First, IoKind, IoRecord, Member, Rig, Sim, SimWorld};

/// A name that no host had before.
const STRANGER: &str = "another";

const PROTECTED: usize = LEADER_CHECKED + 4;

/// How an id is claimed.
struct Case {
    id: u64,
    /// Whether host 1 renews; otherwise it has crashed, as host 2 has.
    owner_lives: bool,
    name: String,
    io_secs: u64,
    /// Whether the earlier incarnation of the id is proven to have ended.
    is_proven: bool,
    /// Whether the process token is that of the hosts which were here before.
    same_mark: bool,
}

impl Case {
    fn new(input: &mut Input<'_>) -> Self {
        // Lives, or has crashed; has crashed; was never used; was given back.
        let id = input.one_of(&[1, 2, 3, LEFT]);
        let options = input.u8();
        let option = |bit: u8| options & bit != 0;
        let (owner_lives, same_name, same_mark) = (!option(1), option(2), !option(8));
        // The proof is the caller's: there is none against a host that lives.
        let is_proven = option(4) && !(owner_lives && id == 1);
        let name = if same_name {
            format!("host-{id}")
        } else {
            STRANGER.to_owned()
        };
        Self {
            id,
            owner_lives,
            name,
            io_secs: input.one_of(&[10, 5, 30]),
            is_proven,
            same_mark,
        }
    }

    fn claimant(&self, rig: &Rig, members: &[Member]) -> Claimant {
        let mut claimant = rig.claimant(self.id, &self.name, self.io_secs);
        let earlier = members.iter().find(|member| member.id() == self.id);
        if let Some(earlier) = earlier.filter(|_| self.is_proven) {
            claimant.earlier_incarnation =
                EarlierIncarnation::ProvenEnded(earlier.membership.incarnation());
        }
        if !self.same_mark {
            claimant.process_token += 1;
        }
        claimant
    }

    /// Whether the id may be taken without waiting for its owner.
    fn may_take(&self) -> bool {
        self.is_proven && self.name != STRANGER && self.same_mark
    }

    /// Whether the id's owner renews meanwhile.
    fn is_contended(&self) -> bool {
        self.owner_lives && self.id == 1
    }
}

/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let case = Case::new(&mut input);
    let (_, start) = &STARTS[1];
    let before = start.delta_sites();
    let mut sites = before.clone();
    edits::apply(&mut input, &mut sites);
    let sim = Sim::new(First);
    let _ended = Ended(sim.clone());
    let (rig, members) = start.again(&sim);
    let owner = &members[0];
    put(&rig, &sites);
    if case.owner_lives {
        sim.spawn(owner.host, stay(owner.clone()));
    }

    let (_, world) = rig.add_host();
    let waits = Rc::new(Cell::new(0_u32));
    let (seen, clock) = (waits.clone(), world.clone());
    let progress = move |progress: ClaimProgress| {
        let until = match progress {
            ClaimProgress::WaitingForOwner { until, .. } => {
                seen.set(seen.get() + 1);
                until
            }
            ClaimProgress::Confirming { until } => until,
            other => panic!("{other:?}"),
        };
        assert!(until > clock.now());
    };
    let begun = world.now();
    let claimed = sim.run(&rig.claim_telling(&world, case.claimant(&rig, &members), progress));
    let took = world.now().since(begun);

    let wrote = writes_are_in_place(&sim, &world, case.id);
    let place = usize::try_from(case.id - 1).unwrap();
    let (space, _) = names();
    let found = DeltaRecord::decode(&sites[place].bytes, host_id(case.id), &space);
    let found = match found {
        Ok(found) => found,
        Err(wrong) => {
            let ClaimError::Sector(error) = claimed.unwrap_err() else {
                panic!("{wrong}")
            };
            let place = (host_id(case.id), Rig::delta_at(case.id));
            assert_eq!((error.host, error.offset), place);
            assert_eq!(*error.kind(), DeltaSectorErrorKind::Format(wrong));
            assert!(!wrote);
            return;
        }
    };
    match claimed {
        Ok(lease) => {
            case.is_owned(&rig, &lease);
            if case.is_contended() {
                assert!(before[0].bytes != sites[0].bytes, "its owner lives");
            } else {
                assert_eq!(
                    lease.generation().get(),
                    found.leader.generation().get() + 1
                );
                case.took_long_enough(&rig, &found, waits.get(), took);
            }
            let is_forged = is_forged(&before[0].bytes, &sites[0].bytes);
            if case.id == 1 && !case.may_take() && !is_forged {
                assert!(!owner.is_held(), "it was taken from a host that lives");
            }
        }
        Err(error) => {
            shown::one_line(&error);
            let on_disk = DeltaLeader::decode(&sector(&rig, case.id), host_id(case.id));
            let is_ours = |leader: DeltaLeader| {
                leader.host_name().text() == case.name.as_bytes() && !leader.is_free()
            };
            assert!(!wrote || !on_disk.is_ok_and(is_ours), "{error}");
        }
    }
}

/// Only the sector of `id` is written, with good records of that host. True if it was at all.
fn writes_are_in_place(sim: &Sim, world: &SimWorld, id: u64) -> bool {
    let of_claimant = |io: &IoRecord| io.host == world.host && io.kind == IoKind::Write;
    let writes: Vec<_> = sim.log_since(0).into_iter().filter(of_claimant).collect();
    for io in &writes {
        assert_eq!(
            (io.offset, io.len),
            (Rig::delta_at(id), SPACE.sector_size())
        );
        let written = DeltaRecord::decode(&io.bytes, host_id(id), &names().0).unwrap();
        assert_eq!(written.leader.owner_id(), id);
    }
    !writes.is_empty()
}

impl Case {
    fn is_owned(&self, rig: &Rig, lease: &DeltaLease) {
        let on_disk = rig.delta(self.id);
        assert_eq!(on_disk.leader.host_name().text(), self.name.as_bytes());
        assert_eq!(on_disk.leader.generation(), lease.generation());
        assert!(!on_disk.leader.is_free() && on_disk.note.is_some());
    }

    /// 2N of what stood there, if anything did; and as long as its owner may have lived.
    fn took_long_enough(&self, rig: &Rig, found: &DeltaRecord, waits: u32, took: Duration) {
        let on_disk = u64::from(found.leader.io_timeout_secs());
        let n = if (1..=255).contains(&on_disk) {
            on_disk
        } else {
            self.io_secs
        };
        let mut least = secs(n * 2);
        if waits > 0 {
            least += dead_after(found, rig.fire_timeout.as_secs());
        }
        assert!(took >= least, "{took:?}, not {least:?}");
        let takes_at_once = found.leader.is_free() || self.may_take();
        assert!(takes_at_once || waits == 1);
    }
}

/// How long a host with this sector may go on without being seen to, for hosts with this fire
/// timeout: 8N + F and a margin, by the longest that field and note allow.
fn dead_after(found: &DeltaRecord, own: u16) -> Duration {
    let field = found.leader.io_timeout_secs();
    let field = if (1..=255).contains(&field) {
        field
    } else {
        255
    };
    let (n, f) = match &found.note {
        Some(note) if note.io_timeout_secs <= 255 => (note.io_timeout_secs, note.fire_timeout_secs),
        Some(note) => (0, note.fire_timeout_secs),
        None => (0, 60),
    };
    let f = if f <= 600 { f.max(own) } else { own };
    let stopped = secs(u64::from(field.max(n)) * 8 + u64::from(f));
    stopped + (stopped / 200).max(secs(1))
}

/// Whether the change is more than damage to one thing: a right checksum over other bytes, or io
/// timeout and note together.
fn is_forged(old: &[u8], new: &[u8]) -> bool {
    let differ = |range: std::ops::Range<usize>| old[range.clone()] != new[range];
    differ(0..PROTECTED) || differ(PROTECTED..LEADER_LEN) && differ(LEADER_LEN..256)
}

fn sector(rig: &Rig, id: u64) -> Vec<u8> {
    let mut sector = Vec::new();
    rig.patch(Rig::delta_at(id), 512, |bytes| sector = bytes.to_vec());
    sector
}

/// Each id in each way, unchanged and with the usual changes.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for id in 0..4 {
        for options in 0..16 {
            seeds.push(vec![id, options, options % 3]);
        }
        for sample in edits::samples(4) {
            seeds.push([&[id, id, 0][..], &sample].concat());
        }
    }
    // An owner that has crashed, with a short N in the field that no checksum covers.
    seeds.push([&[0, 1, 0][..], &edits::write(0, 174, &[1, 0], false)].concat());
    seeds
}
