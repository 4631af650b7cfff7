//! Keeping a host id.

use std::time::Duration;

use disklease::__sim::delta_lease::{HostIdLoss, RenewError};
use disklease::__sim::host::keep_renewed;
use disklease::__sim::world::{ReadError, WriteError};
use disklease::LossReason;
use disklease::format::{DeltaLeader, HostName, LockspaceName};

use disklease_sim::rig::{SPACE, secs};
use disklease_sim::{First, Hold, Member, Rig, Sim, Task};

fn joined() -> (Rig, Member) {
    let rig = Rig::new(Sim::new(First), 3);
    let (_, world) = rig.add_host();
    let member = rig.join_on(&world, rig.claimant(1, "me", 10));
    (rig, member)
}

fn start_renewal(rig: &Rig, member: &Member) -> Task<Result<(), RenewError>> {
    let me = member.clone();
    rig.sim.spawn(member.host, async move { me.renew().await })
}

fn renew(rig: &Rig, member: &Member) -> Result<(), RenewError> {
    let task = start_renewal(rig, member);
    rig.sim.run(&task)
}

fn hold_write(rig: &Rig, member: &Member) -> Hold {
    rig.sim.hold_next(member.host, |io| io.is_write())
}

/// A renewal whose write fails; it has landed then, or not.
fn renew_in_vain(rig: &Rig, member: &Member, lands: bool) {
    let task = start_renewal(rig, member);
    rig.sim.fail_next(member.host, lands, |io| io.is_write());
    assert!(matches!(rig.sim.run(&task), Err(RenewError::Write(_))));
}

/// The lease lasts 8N from the instant before the write was started, however long the write took, and
/// however long the scan before it.
#[test]
fn the_expiry_counts_from_before_the_write() {
    let (rig, member) = joined();
    let scan = rig.sim.hold_next(member.host, |io| io.is_read());
    let write = hold_write(&rig, &member);
    let task = start_renewal(&rig, &member);
    rig.sim.run_for(secs(3));
    rig.sim.release_held(&scan);
    rig.sim.run_until_held(&write);
    let begun = member.now();
    rig.sim.run_for(secs(5));
    rig.sim.release_held(&write);
    rig.sim.run(&task).unwrap();
    assert_eq!(member.delta.borrow().renewed_at(), begun);
    assert_eq!(
        member.membership.expiry().deadline(),
        Some(begun + secs(80))
    );
}

/// After a good renewal all 200 bytes must be what was written, also those without a checksum.
#[test]
fn after_a_good_renewal_all_of_the_record_is_compared() {
    let (rig, member) = joined();
    rig.sim.run_for(secs(1));
    renew(&rig, &member).unwrap();
    rig.patch(Rig::delta_at(1), 4096, |sector| sector[199] = 1);
    let error = renew(&rig, &member).unwrap_err();
    assert!(matches!(error, RenewError::Lost(HostIdLoss::Changed { .. })) && error.is_fatal());
    assert!(!member.is_held());
}

/// Another name or another generation in the sector, or none: the id was taken.
#[test]
fn an_id_that_was_taken_is_lost_at_once() {
    let other = HostName::new("other").unwrap();
    let change: [fn(&DeltaLeader, &HostName) -> DeltaLeader; 2] = [
        |leader, name| {
            leader
                .acquired(disklease_sim::rig::host_id(1), name, 5, 10)
                .unwrap()
        },
        |leader, _| leader.released(),
    ];
    for change in change {
        let (rig, member) = joined();
        let theirs = change(&rig.delta(1).leader, &other);
        rig.put_delta(1, &theirs);
        let writes = |rig: &Rig| {
            rig.sim
                .log_since(0)
                .iter()
                .filter(|io| !io.bytes.is_empty())
                .count()
        };
        let before = writes(&rig);
        let error = renew(&rig, &member).unwrap_err();
        let is_taken = matches!(
            error,
            RenewError::Lost(HostIdLoss::TakenOver { .. } | HostIdLoss::PutBack(_))
        );
        assert!(is_taken && error.is_fatal(), "{error}");
        assert_eq!(writes(&rig), before);
        assert_eq!(rig.delta(1).leader, theirs);
        assert!(!member.is_held());
    }
}

/// A sector that is no delta lease of this lockspace any more is a loss, too.
#[test]
fn a_damaged_own_sector_is_lost_at_once() {
    let spoil: [fn(&Rig); 2] = [
        |rig| rig.patch(Rig::delta_at(1), 4096, |sector| sector[60] ^= 1),
        |rig| {
            rig.put_delta(
                1,
                &DeltaLeader::free(SPACE, &LockspaceName::new("X").unwrap(), 10),
            )
        },
    ];
    for spoil in spoil {
        let (rig, member) = joined();
        spoil(&rig);
        let error = renew(&rig, &member).unwrap_err();
        assert!(
            matches!(error, RenewError::Lost(HostIdLoss::Damaged(_))) && error.is_fatal(),
            "{error}"
        );
    }
}

/// After a write that failed the sector may hold the old or the new: only owner, generation and
/// name are compared then. After the next good one all is compared again.
#[test]
fn after_a_failed_renewal_only_owner_generation_and_name_are_compared() {
    for lands in [false, true] {
        let (rig, member) = joined();
        rig.sim.run_for(secs(2));
        renew_in_vain(&rig, &member, lands);
        rig.sim.run_for(secs(2));
        renew(&rig, &member).unwrap();
        renew(&rig, &member).unwrap();
        rig.patch(Rig::delta_at(1), 4096, |sector| sector[199] = 1);
        assert!(matches!(
            renew(&rig, &member),
            Err(RenewError::Lost(HostIdLoss::Changed { .. }))
        ));
    }
}

/// Each of the three is enough by itself: one machine may have been given another's name, and two that
/// claim an id at once begin the same generation.
#[test]
fn after_a_failed_renewal_each_of_generation_name_and_time_tells_of_another() {
    let me = HostName::new("me").unwrap();
    let other = HostName::new("other").unwrap();
    let of = disklease_sim::rig::host_id(1);
    let (rig, member) = joined();
    let before = rig.delta(1).leader;
    drop((rig, member));
    let never = DeltaLeader::free(SPACE, &LockspaceName::new("LS").unwrap(), 10);
    let others = [
        before.acquired(of, &me, 50, 10).unwrap(),
        never.acquired(of, &other, 50, 10).unwrap(),
        before.released(),
    ];
    for theirs in others {
        let (rig, member) = joined();
        rig.sim.run_for(secs(2));
        renew_in_vain(&rig, &member, true);
        rig.put_delta(1, &theirs);
        let error = renew(&rig, &member).unwrap_err();
        let is_taken = matches!(
            error,
            RenewError::Lost(HostIdLoss::TakenOver { .. } | HostIdLoss::PutBack(_))
        );
        assert!(is_taken, "{error}");
        assert_eq!(rig.delta(1).leader, theirs);
    }
}

/// What stood in the sector before this join, or nobody: there is no other host to be named.
#[test]
fn a_sector_that_was_cleared_or_put_back_is_said_to_be() {
    let me = HostName::new("me").unwrap();
    let of = disklease_sim::rig::host_id(1);
    let never = DeltaLeader::free(SPACE, &LockspaceName::new("LS").unwrap(), 10);
    let first = never.acquired(of, &me, 50, 10).unwrap();
    let cases = [
        (
            never,
            "was cleared or put back by hand: it shows that nobody ever had the id",
        ),
        (
            first,
            "shows an earlier generation, of host \"me\" (generation 1)",
        ),
        (
            first.released(),
            "it shows that host \"me\" has left (generation 1)",
        ),
    ];
    for (before, text) in cases {
        // Of the second generation.
        let rig = Rig::new(Sim::new(First), 3);
        rig.put_delta(1, &first.released());
        let (_, world) = rig.add_host();
        let member = rig.join_on(&world, rig.claimant(1, "me", 10));
        assert_eq!(rig.delta(1).leader.generation().get(), 2);
        rig.put_delta(1, &before);
        let error = renew(&rig, &member).unwrap_err();
        assert!(error.is_fatal() && !member.is_held());
        let error = error.to_string();
        assert!(error.starts_with("the sector of host id 1 "), "{error}");
        assert!(error.contains(text), "{error}");
    }
}

/// A read that fails or times out is no loss, and neither moves the deadline.
#[test]
fn a_failed_scan_is_to_be_tried_again() {
    let (rig, member) = joined();
    let deadline = member.membership.expiry().deadline();
    let scan = rig.sim.hold_next(member.host, |io| io.is_read());
    let error = renew(&rig, &member).unwrap_err();
    assert_eq!(error, RenewError::Read(ReadError::TimedOut(secs(10))));
    assert!(!error.is_fatal() && scan.has_caught());
    assert_eq!(member.membership.expiry().deadline(), deadline);
    renew(&rig, &member).unwrap();
}

/// Others see a renewal by a change of whole seconds only. So the time changes with each one, also
/// within a second, and also from one that failed and landed all the same.
#[test]
fn each_renewal_changes_the_time_in_the_record() {
    let (rig, member) = joined();
    let mut seen = vec![rig.delta(1).leader.timestamp_secs()];
    for step in 0..6 {
        if step % 3 == 2 {
            renew_in_vain(&rig, &member, true);
        } else {
            renew(&rig, &member).unwrap();
        }
        seen.push(rig.delta(1).leader.timestamp_secs());
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

/// The io timeout in the sector is what others wait by: each renewal writes it anew.
#[test]
fn each_renewal_writes_the_io_timeout() {
    let (rig, member) = joined();
    renew_in_vain(&rig, &member, false);
    rig.patch(Rig::delta_at(1), 4096, |sector| sector[174] = 1);
    assert_eq!(rig.delta(1).leader.io_timeout_secs(), 1);
    renew(&rig, &member).unwrap();
    assert_eq!(rig.delta(1).leader.io_timeout_secs(), 10);
    assert_eq!(rig.delta(1).note.unwrap().io_timeout_secs, 10);
}

/// A renewal that ends after the deadline does not bring the leases back, though it was started in
/// time and nobody asked meanwhile.
#[test]
fn a_late_renewal_cannot_revive_what_was_lost() {
    let (rig, member) = joined();
    let deadline = member.membership.expiry().deadline().unwrap();
    let write = hold_write(&rig, &member);
    let task = start_renewal(&rig, &member);
    rig.sim.run_until_held(&write);
    rig.sim
        .run_for(deadline.since(member.now()) - Duration::from_nanos(1));
    assert!(member.is_held());
    rig.sim.run_for(Duration::from_nanos(1));
    rig.sim.release_held(&write);
    let late = rig.sim.run(&task).unwrap_err();
    assert!(matches!(late, RenewError::Write(WriteError::TimedOut(_))));
    assert!(!member.is_held());
    let error = renew(&rig, &member).unwrap_err();
    assert!(matches!(error, RenewError::Expired { .. }) && error.is_fatal());
    assert!(!member.is_held(), "nor does a later one");
}

/// A process that stood still between the scan and the write must not write over who has taken its
/// host id meanwhile.
#[test]
fn a_renewal_that_comes_too_late_writes_nothing() {
    let (rig, member) = joined();
    let scan = rig.sim.hold_next(member.host, |io| io.is_read());
    let task = start_renewal(&rig, &member);
    rig.sim.run_until_held(&scan);
    rig.sim.release_held(&scan);
    rig.sim.pause(member.host, true);
    let (_, world) = rig.add_host();
    let claim = rig.claim(&world, rig.claimant(1, "other", 10));
    rig.sim.run_for(secs(170));
    claim.take().unwrap();
    let theirs = rig.delta(1).leader;
    assert_eq!(theirs.generation().get(), 2);

    rig.sim.pause(member.host, false);
    let error = rig.sim.run(&task).unwrap_err();
    assert!(matches!(error, RenewError::Expired { .. }), "{error}");
    assert_eq!(rig.delta(1).leader, theirs, "the new owner's sector");
    assert!(!member.is_held());
}

/// The write of a renewal is waited for until the leases are lost: a new one could not be started
/// before it has ended.
#[test]
fn a_renewal_write_may_take_until_the_leases_are_lost() {
    let (rig, member) = joined();
    let write = hold_write(&rig, &member);
    let task = start_renewal(&rig, &member);
    rig.sim.run_until_held(&write);
    let now = disklease::__sim::world::World::now(&member.world);
    let left = member.delta.borrow().expires_at().since(now);
    rig.sim.run_for(left - secs(1));
    assert!(!task.is_done());
    rig.sim.run_for(secs(1));
    assert!(task.is_done());
}

/// INV-MEMBER: a write to a lease may take N, and no longer than the leases are held; after that it is
/// not even started.
#[test]
fn the_limit_of_a_write_ends_with_the_leases() {
    let (rig, member) = joined();
    let deadline = member.membership.expiry().deadline().unwrap();
    let limit = |left: u64| {
        let left = secs(left);
        rig.sim.run_for(deadline.since(member.now()) - left);
        member.membership.write_limit(member.now())
    };
    assert_eq!(limit(11), Some(secs(10)));
    assert_eq!(limit(3), Some(secs(3)));
    assert_eq!(limit(0), None);
}

/// A renewal that hangs does not keep its host from noticing the end in time.
#[test]
fn the_end_is_noticed_while_a_renewal_hangs() {
    let (rig, member) = joined();
    let me = member.clone();
    let mut delta = me.delta.borrow().clone();
    let renewing = rig.sim.spawn(member.host, async move {
        let reason = keep_renewed(&me.world, &me.membership, &mut delta, &())
            .await
            .reason;
        (matches!(reason, LossReason::NotRenewed), me.now())
    });
    let deadline = member.membership.expiry().deadline().unwrap();
    rig.sim.hang_io(member.host);
    rig.sim.run_for(deadline.since(member.now()));
    assert!(renewing.is_done());
    assert_eq!(renewing.take(), (true, deadline));
}

/// A renewal is due 2N after the last good one was started, neither sooner nor later, and is tried again soon after one
/// that failed.
#[test]
fn renewals_come_every_2_n_and_soon_after_one_that_failed() {
    let (rig, member) = joined();
    let me = member.clone();
    let mut delta = me.delta.borrow().clone();
    rig.sim.spawn(member.host, async move {
        keep_renewed(&me.world, &me.membership, &mut delta, &()).await;
    });
    let deadline = || member.membership.expiry().deadline().unwrap();
    let mut last = deadline();
    for _ in 0..10 {
        rig.sim.run_for(secs(15));
        rig.sim.run_until(|| deadline() != last);
        let next = deadline();
        let apart = next.since(last);
        assert!(apart >= secs(20) && apart < secs(21), "{apart:?}");
        last = next;
    }
    let renewed = rig.delta(1).leader.timestamp_secs();
    rig.sim.fail_next(member.host, false, |io| io.is_write());
    rig.sim.run_for(secs(1));
    assert!(rig.delta(1).leader.timestamp_secs() > renewed);
}
