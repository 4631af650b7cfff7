//! Taking a host id, and giving it back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use disklease::__sim::delta_lease::{
    ClaimError, ClaimProgress, Claimant, DeltaReleaseErrorKind, DeltaSectorError,
    DeltaSectorErrorKind, EarlierIncarnation, release,
};
use disklease::__sim::world::{ReadError, World, WriteError};
use disklease::format::{DeltaLeader, FormatErrorKind, Generation, HostName, LockspaceName};
use disklease::timing::{IoTimeout, Timing};

use super::hosts::TICK;
use disklease_sim::rig::{SPACE, incarnation, secs, timing};
use disklease_sim::{First, HostIx, IoKind, Rig, Sim, SimWorld};

fn rig() -> Rig {
    Rig::new(Sim::new(First), 3)
}

/// Lets host "other" own host id 1 with this io timeout, and never renew it.
fn owned_by_other(rig: &Rig, io_secs: u64) {
    let (_, world) = rig.add_host();
    rig.join_on(&world, rig.claimant(1, "other", io_secs));
}

/// The waits that a claim announced: of the owner's death, of the confirmation.
fn waits(rig: &Rig, world: &SimWorld, io_secs: u64) -> (Duration, Rc<RefCell<Vec<ClaimProgress>>>) {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let into = heard.clone();
    let begun = rig.sim.now();
    let claim = rig.claim_telling(world, rig.claimant(1, "me", io_secs), move |progress| {
        into.borrow_mut().push(progress);
    });
    rig.sim.run(&claim).unwrap();
    (rig.sim.now().since(begun), heard)
}

fn writes_since(rig: &Rig, from: usize) -> usize {
    rig.sim
        .log_since(from)
        .iter()
        .filter(|io| io.kind == IoKind::Write)
        .count()
}

/// A free id is taken in 2N, by the N that stands in the sector, whatever our own is: read, write,
/// wait, read.
#[test]
fn a_free_id_is_taken_in_2n_of_the_n_on_disk() {
    for (own, on_disk) in [(10, 10), (30, 10)] {
        let rig = rig();
        let (_, world) = rig.add_host();
        let (took, heard) = waits(&rig, &world, own);
        assert_eq!(took, secs(2 * on_disk));
        assert!(matches!(
            heard.borrow()[..],
            [ClaimProgress::Confirming { .. }]
        ));
        let kinds: Vec<_> = rig.sim.log_since(0).iter().map(|io| io.kind).collect();
        assert_eq!(kinds, [IoKind::Read, IoKind::Write, IoKind::Read]);
        assert_eq!(
            u64::from(rig.delta(1).leader.io_timeout_secs()),
            own,
            "ours from now on"
        );
    }
}

/// Where our own N is much shorter than the one in the sector, the claim is renewed while it is
/// confirmed: else the lease would have expired before it is ours, or look dead to others.
#[test]
fn a_claim_with_a_short_n_is_renewed_until_it_is_confirmed() {
    let rig = rig();
    let (_, world) = rig.add_host();
    let begun = rig.sim.now();
    let claim = rig.claim(&world, rig.claimant(1, "me", 1));
    let delta = rig.sim.run(&claim).unwrap();
    assert_eq!(rig.sim.now().since(begun), secs(20));
    let writes = writes_since(&rig, 0);
    assert_eq!(
        writes, 10,
        "one write, then one every 2 s before the last look"
    );
    let member = rig.member(&world, delta);
    let now = world.now();
    assert!(member.membership.expiry().is_held(now));
    assert_eq!(member.membership.generation(), Generation::new(1));
}

/// Each join is one generation more, also under the name that stands there already.
#[test]
fn each_join_raises_the_generation() {
    let rig = rig();
    let (_, world) = rig.add_host();
    for generation in 1..=3 {
        let member = rig.join_on(&world, rig.claimant(1, "me", 10));
        assert_eq!(member.membership.generation(), Generation::new(generation));
        let (membership, delta) = (member.membership.clone(), member.delta.borrow().clone());
        let me = world.clone();
        rig.sim
            .run_on(world.host, async move {
                release(&me, &membership, &delta).await
            })
            .unwrap();
        assert!(rig.delta(1).leader.is_free());
        assert_eq!(
            rig.delta(1).leader.generation(),
            Generation::new(generation),
            "kept"
        );
    }
}

/// The own name is no proof that the earlier life is over. It is waited for like a stranger, unless
/// it is proven to be over and the sector shows the same boot, the same process token, which only a renewal
/// writes (INV-TOKEN), and the join that is proven over (INV-RECORDED).
#[test]
fn an_earlier_incarnation_is_waited_for_unless_it_is_proven_ended() {
    let taken = |process_token, renewed, edit: &dyn Fn(&mut Claimant)| {
        let rig = rig();
        let (_, world) = rig.add_host();
        let mut claimant = rig.claimant(1, "me", 10);
        claimant.process_token = process_token;
        let member = rig.join_on(&world, claimant);
        if renewed {
            let me = member.clone();
            rig.sim
                .run_on(world.host, async move { me.renew().await })
                .unwrap();
        }
        let mut again = rig.claimant(1, "me", 10);
        again.earlier_incarnation =
            EarlierIncarnation::ProvenEnded(member.membership.incarnation());
        edit(&mut again);
        let begun = rig.sim.now();
        let lease = rig.sim.run(&rig.claim(&world, again)).unwrap();
        assert_eq!(lease.generation(), Generation::new(2));
        rig.sim.now().since(begun)
    };
    let short = secs(20);
    let long = timing(10, 60).dead_after() + TICK + short;
    let as_is = |_: &mut Claimant| {};
    assert_eq!(taken(99, true, &as_is), short, "the proof fits");
    assert_eq!(taken(98, true, &as_is), long, "another mark");
    assert_eq!(taken(0, true, &as_is), long, "no mark");
    let unmarked = |again: &mut Claimant| again.process_token = 0;
    assert_eq!(taken(0, true, &unmarked), long, "no mark on either side");
    let rebooted = |again: &mut Claimant| again.boot_id = [8; 16];
    assert_eq!(taken(99, true, &rebooted), long, "another boot");
    assert_eq!(
        taken(99, false, &as_is),
        long,
        "a claim that was never renewed"
    );
    let renamed = |again: &mut Claimant| again.host_name = HostName::new("other").unwrap();
    assert_eq!(taken(99, true, &renamed), long, "another name");
    let of_another = |again: &mut Claimant| {
        again.earlier_incarnation = EarlierIncarnation::ProvenEnded(incarnation(77));
    };
    assert_eq!(
        taken(99, true, &of_another),
        long,
        "another join is proven over"
    );
    let unproven = |again: &mut Claimant| again.earlier_incarnation = EarlierIncarnation::MayRun;
    assert_eq!(taken(99, true, &unproven), long, "no proof");
}

/// A claim that could not be read back is inspected again: given up, it would be waited out by everybody.
#[test]
fn a_claim_that_cannot_be_read_back_is_looked_at_again() {
    let claimed = |fault: &dyn Fn(&Rig, HostIx)| {
        let rig = rig();
        let (host, world) = rig.add_host();
        let begun = rig.sim.now();
        let claim = rig.claim(&world, rig.claimant(1, "me", 10));
        rig.sim.run_for(secs(19));
        fault(&rig, host);
        (rig.sim.run(&claim), rig.sim.now().since(begun))
    };
    let fails = |rig: &Rig, host| {
        for _ in 0..5 {
            rig.sim.fail_next(host, false, |io| io.is_read());
        }
    };
    let (lease, took) = claimed(&fails);
    assert_eq!(lease.unwrap().generation(), Generation::new(1));
    assert!(took >= secs(22) && took < secs(30), "{took:?}");
    // It is confirmed, or given up, long before it would expire.
    let hangs = |rig: &Rig, host| rig.sim.hang_io(host);
    let (lease, took) = claimed(&hangs);
    assert!(matches!(lease, Err(ClaimError::Sector(_))), "{lease:?}");
    assert!(took >= secs(60) && took <= secs(71), "{took:?}");
}

/// An id that another host owns is taken after more than 8N + F and a margin of silence, by the owner's N as
/// it stands on the disk, and 2N more; never earlier.
#[test]
fn a_silent_stranger_is_waited_for_by_its_own_io_timeout() {
    for (owner, own) in [(20, 5), (5, 20), (10, 10)] {
        let rig = rig();
        owned_by_other(&rig, owner);
        let (_, world) = rig.add_host();
        let begun = rig.sim.now();
        let (took, heard) = waits(&rig, &world, own);
        assert_eq!(
            took,
            timing(owner, 60).dead_after() + TICK + secs(2 * owner)
        );
        assert_eq!(heard.borrow().len(), 2);
        let write = rig
            .sim
            .log_since(0)
            .into_iter()
            .rfind(|io| io.kind == IoKind::Write)
            .unwrap();
        assert!(write.begun.since(begun) > timing(owner, 60).stopped_by() + secs(1));
    }
}

/// No checksum covers the io timeout in the record. Where our note says more, that counts; where
/// there is nothing, the longest there is.
#[test]
fn a_damaged_io_timeout_makes_the_wait_longer_never_shorter() {
    for (field, with_note, counts) in [(1_u8, true, 20), (0, false, 255), (0, true, 255)] {
        let rig = rig();
        owned_by_other(&rig, 20);
        rig.patch(Rig::delta_at(1), 4096, |sector| {
            sector[174] = field;
            sector[175] = 0;
            if !with_note {
                sector[200..256].fill(0);
            }
        });
        let (_, world) = rig.add_host();
        let heard = Rc::new(RefCell::new(None));
        let into = heard.clone();
        let begun = disklease_sim::rig::host_now(&world);
        rig.claim_telling(&world, rig.claimant(1, "me", 10), move |progress| {
            into.borrow_mut().get_or_insert(progress);
        });
        rig.sim.run_until(|| heard.borrow().is_some());
        let Some(ClaimProgress::WaitingForOwner { until, .. }) = *heard.borrow() else {
            panic!()
        };
        assert_eq!(until.since(begun), timing(counts, 60).dead_after());
    }
}

/// Silence must be shown by a read that began after it was long enough: a slow read that only ends
/// later shows too little.
#[test]
fn the_last_look_begins_after_the_owners_time() {
    let rig = rig();
    owned_by_other(&rig, 10);
    let (_, world) = rig.add_host();
    rig.sim
        .set_faults(disklease_sim::Faults::latency(secs(6), secs(6)));
    let from = rig.sim.log_len();
    waits(&rig, &world, 10);
    let log = rig.sim.log_since(from);
    let first_shown = log[0].told.unwrap().0;
    let write = log.iter().position(|io| io.kind == IoKind::Write).unwrap();
    assert!(log[write - 1].begun > first_shown.after(timing(10, 60).dead_after()));
}

/// Whatever changes in the sector is a sign of life: the claim ends at the next look, and nothing
/// is written.
#[test]
fn a_claim_ends_as_soon_as_the_owner_shows_life() {
    let rig = rig();
    owned_by_other(&rig, 10);
    let (_, world) = rig.add_host();
    let from = rig.sim.log_len();
    let claim = rig.claim(&world, rig.claimant(1, "me", 10));
    rig.sim.run_for(secs(101));
    let renewed = rig.delta(1).leader.renewed(123_456, 10);
    rig.put_delta(1, &renewed);
    let changed = rig.sim.now();
    let error = rig.sim.run(&claim).unwrap_err();
    assert!(
        matches!(error, ClaimError::InUse { generation, .. } if generation == Generation::new(1))
    );
    assert!(rig.sim.now().since(changed) <= secs(10));
    assert_eq!(writes_since(&rig, from), 0);
}

/// There is no other host that could be named.
#[test]
fn a_claim_that_is_cleared_is_said_to_be() {
    let rig = rig();
    let never = rig.delta(1).leader;
    let (_, world) = rig.add_host();
    let claim = rig.claim(&world, rig.claimant(1, "me", 10));
    rig.sim.run_for(secs(10));
    assert!(!rig.delta(1).leader.is_free());
    rig.put_delta(1, &never);
    let error = rig.sim.run(&claim).unwrap_err().to_string();
    assert!(
        error.contains("it shows that nobody ever had the id"),
        "{error}"
    );
}

/// An id that becomes free is taken at the next look, without waiting for anybody's death.
#[test]
fn a_claim_goes_on_at_once_when_the_id_becomes_free() {
    let rig = rig();
    owned_by_other(&rig, 10);
    let (_, world) = rig.add_host();
    let claim = rig.claim(&world, rig.claimant(1, "me", 10));
    rig.sim.run_for(secs(35));
    let freed = rig.delta(1).leader.released();
    rig.put_delta(1, &freed);
    let at = rig.sim.now();
    assert_eq!(
        rig.sim.run(&claim).unwrap().generation(),
        Generation::new(2)
    );
    assert_eq!(rig.sim.now().since(at), secs(5 + 20));
}

fn is_not_written(error: &ClaimError) -> bool {
    matches!(error, ClaimError::Sector(error) if matches!(error.kind(), DeltaSectorErrorKind::Write(_)))
}

/// A sector that is damaged, that belongs to another lockspace or that is not there is an error,
/// and nothing is written.
#[test]
fn a_sector_that_cannot_be_believed_is_an_error() {
    type Change = fn(&Rig);
    let spoil: [(Change, fn(&DeltaSectorError) -> bool); 4] = [
        (
            |rig| rig.patch(Rig::delta_at(1), 4096, |sector| sector[60] ^= 1),
            |e| {
                e.offset == 0
                    && matches!(e.kind(), DeltaSectorErrorKind::Format(e) if matches!(e.kind(), FormatErrorKind::Checksum { .. }))
            },
        ),
        (
            |rig| {
                rig.put_delta(
                    1,
                    &DeltaLeader::free(SPACE, &LockspaceName::new("X").unwrap(), 10),
                )
            },
            |e| matches!(e.kind(), DeltaSectorErrorKind::Format(e) if matches!(e.kind(), FormatErrorKind::LockspaceName { .. })),
        ),
        (
            |rig| rig.patch(Rig::delta_at(1), 4096, |sector| sector.fill(0)),
            |e| matches!(e.kind(), DeltaSectorErrorKind::Format(e) if matches!(e.kind(), FormatErrorKind::Magic { .. })),
        ),
        (
            |rig| rig.sim.core.borrow_mut().disks[0].len = 512,
            |e| {
                matches!(
                    e.kind(),
                    DeltaSectorErrorKind::Read(ReadError::EndOfFile { got: 512, .. })
                )
            },
        ),
    ];
    for (change, expected) in spoil {
        let rig = rig();
        change(&rig);
        let (_, world) = rig.add_host();
        let error = rig
            .sim
            .run(&rig.claim(&world, rig.claimant(1, "me", 10)))
            .unwrap_err();
        assert!(
            matches!(&error, ClaimError::Sector(e) if expected(e)),
            "{error}"
        );
        assert_eq!(writes_since(&rig, 0), 0);
    }
}

/// A claim that fails after its write frees nothing: another claimant may have come since, and be
/// confirmed when that write lands.
#[test]
fn a_claim_that_fails_after_its_write_leaves_the_id_as_it_is() {
    for look_fails in [true, false] {
        let rig = rig();
        let (host, world) = rig.add_host();
        let claim = rig.claim(&world, rig.claimant(1, "me", 10));
        if look_fails {
            let begun = rig.sim.now();
            rig.sim.run_for(secs(19));
            while rig.sim.now().since(begun) < secs(60) {
                rig.sim.fail_next(host, false, |io| io.is_read());
            }
        } else {
            // All writes fail, though they have landed.
            let begun = rig.sim.now();
            while rig.sim.now().since(begun) < Duration::from_millis(19_500) {
                rig.sim.fail_next(host, true, |io| io.is_write());
            }
        }
        let error = rig.sim.run(&claim).unwrap_err();
        match error {
            ClaimError::Sector(sector) => match sector.kind() {
                DeltaSectorErrorKind::Read(_) if look_fails => {}
                DeltaSectorErrorKind::Write(WriteError::Failed(_)) if !look_fails => {}
                _ => panic!("{sector}"),
            },
            other => panic!("{other}"),
        }
        let from = rig.sim.log_len();
        rig.sim.run_for(secs(1000));
        assert_eq!(writes_since(&rig, from), 0);
        assert!(!rig.delta(1).leader.is_free());
    }
}

/// A claim whose write fails, and has landed or not, is written again: the join takes so much longer, and
/// nobody has to wait for its death.
#[test]
fn a_claim_whose_write_fails_is_written_again() {
    for (fails, lands) in [(1, false), (1, true), (3, true)] {
        let rig = rig();
        let (host, world) = rig.add_host();
        let claim = rig.claim(&world, rig.claimant(1, "me", 10));
        let begun = world.now();
        for _ in 0..fails {
            rig.sim.fail_next(host, lands, |io| io.is_write());
        }
        let delta = rig.sim.run(&claim).unwrap();
        assert_eq!(delta.generation(), Generation::new(1));
        let took = world.now().since(begun);
        assert_eq!(took, secs(20) + fails * Duration::from_millis(500));
        assert_eq!(delta.renewed_at(), begun, "others may count from the first");
    }
}

/// One that times out is written again when it has ended, and not before: it could land over what comes
/// later.
#[test]
fn a_claim_whose_write_times_out_is_written_again_when_it_has_ended() {
    for ends_after in [15, 18, 21].map(secs) {
        let rig = rig();
        let (host, world) = rig.add_host();
        let write = rig.sim.hold_next(host, |io| io.is_write());
        let claim = rig.claim(&world, rig.claimant(1, "me", 10));
        rig.sim.run_for(ends_after);
        assert_eq!(writes_since(&rig, 0), 1);
        rig.sim.release_held(&write);
        let claimed = rig.sim.run(&claim);
        if ends_after < secs(20) {
            assert_eq!(claimed.unwrap().generation(), Generation::new(1));
            assert_eq!(writes_since(&rig, 0), 2);
        } else {
            assert!(claimed.is_err_and(|error| is_not_written(&error)));
            assert_eq!(writes_since(&rig, 0), 1);
        }
    }
}

/// Others count the silence of a claim since its first write, by its own N: it is not written again for as
/// long as the N allows that stood in the sector.
#[test]
fn a_claim_is_written_again_for_2_n_of_its_own_at_most() {
    let rig = rig();
    let (host, world) = rig.add_host();
    let claim = rig.claim(&world, rig.claimant(1, "me", 1));
    let begun = rig.sim.now();
    rig.sim.fail_next(host, true, |io| io.is_write());
    rig.sim.hang_io(host);
    let error = rig.sim.run(&claim).unwrap_err();
    assert!(is_not_written(&error), "{error}");
    assert!(rig.sim.now().since(begun) <= secs(3));
    rig.sim.unhang_io(host);
    let from = rig.sim.log_len();
    rig.sim.run_for(secs(30));
    assert_eq!(writes_since(&rig, from), 0);
}

/// A release writes the record with no time and all else kept; it says nothing to others but that
/// the id is free.
#[test]
fn a_release_frees_the_id_and_ends_the_membership() {
    let rig = rig();
    let (_, world) = rig.add_host();
    let member = rig.join_on(&world, rig.claimant(1, "me", 10));
    let before = rig.delta(1).leader;
    let from = rig.sim.log_len();
    let (me, delta) = (member.clone(), member.delta.borrow().clone());
    rig.sim
        .run_on(world.host, async move {
            release(&me.world, &me.membership, &delta).await
        })
        .unwrap();
    assert_eq!(rig.delta(1).leader, before.released());
    assert_eq!(rig.sim.log_since(from).len(), 1, "no read before");
    assert!(!member.is_held());
}

/// After a renewal that failed it is not known what the sector holds, and after the leases were
/// lost it may be somebody else's: then nothing is written.
#[test]
fn a_release_needs_a_good_last_renewal() {
    let rig = rig();
    let (host, world) = rig.add_host();
    let member = rig.join_on(&world, rig.claimant(1, "me", 10));
    let me = member.clone();
    let renewing = rig.sim.spawn(host, async move { me.renew().await });
    rig.sim.fail_next(host, false, |io| io.is_write());
    assert!(rig.sim.run(&renewing).is_err());
    let from = rig.sim.log_len();
    let try_release = || {
        let (me, delta) = (member.clone(), member.delta.borrow().clone());
        rig.sim.run_on(host, async move {
            release(&me.world, &me.membership, &delta).await
        })
    };
    let left = try_release().unwrap_err();
    assert_eq!(*left.kind(), DeltaReleaseErrorKind::NotRenewed);
    rig.sim
        .run_for(Timing::new(IoTimeout::DEFAULT, rig.fire_timeout).lost_after());
    let left = try_release().unwrap_err();
    assert_eq!(*left.kind(), DeltaReleaseErrorKind::Lost);
    assert_eq!(rig.sim.log_since(from).len(), 0);
    assert!(!rig.delta(1).leader.is_free());
}
