//! Acquires that must find the lease as it was left: after a suspend, a loss, a hand-over.

use disklease::__sim::delta_lease::EarlierIncarnation;
use disklease::__sim::paxos_lease::{
    self, AcquireError, AcquireFailure, HeldLease, LeftBehind, Patience, RequiredEnd,
    VersionChange, VersionPrecondition,
};
use disklease::format::{
    Commit, Generation, HolderNote, LeaseVersion, NoteState, OfferId, PaxosLeader, Tenure,
};

use super::setup::{
    accepted, announced, is_area_read, is_block_write, is_leader_write, is_phase_2_write, joined,
    lease_writes,
};
use disklease_sim::rig::{host_id, secs};
use disklease_sim::{Member, Pending, Rig, nth};

const OFFER: OfferId = OfferId::new(7);

fn version(version: u64) -> LeaseVersion {
    LeaseVersion::new(version)
}

/// As left at this version by whomever.
fn left_at(at: u64) -> VersionPrecondition {
    VersionPrecondition {
        version: version(at),
        holder: None,
        required_end: RequiredEnd::AnyEnd,
    }
}

fn left_by(at: u64, holder: &Member) -> VersionPrecondition {
    VersionPrecondition {
        holder: Some((holder.membership.host_id(), holder.membership.generation())),
        ..left_at(at)
    }
}

fn handed_over_by(at: u64, holder: &Member) -> VersionPrecondition {
    VersionPrecondition {
        required_end: RequiredEnd::HandedOver(OFFER),
        ..left_by(at, holder)
    }
}

fn go_on_with(
    rig: &Rig,
    member: &Member,
    expected: VersionPrecondition,
    patience: Patience,
) -> Result<HeldLease, AcquireFailure> {
    let (me, mut holding) = (member.clone(), member.holding(patience));
    holding.expected = Some(expected);
    rig.sim
        .run_on(member.host, async move { me.acquire_as(holding).await })
}

fn go_on(
    rig: &Rig,
    member: &Member,
    expected: VersionPrecondition,
) -> Result<HeldLease, AcquireFailure> {
    go_on_with(rig, member, expected, Patience::Refuse)
}

/// It is refused, and writes nothing.
fn refused(rig: &Rig, member: &Member, expected: VersionPrecondition) -> VersionChange {
    let from = rig.sim.log_len();
    let failure = go_on(rig, member, expected).unwrap_err();
    assert_eq!(
        lease_writes(rig, member, from).len(),
        0,
        "{}",
        failure.error
    );
    match failure.error {
        AcquireError::VersionChanged(change) => *change,
        other => panic!("{other}"),
    }
}

fn note_of(rig: &Rig, id: u64) -> Option<HolderNote> {
    match rig.block_sector(id).note {
        NoteState::Present(note) => Some(note),
        _ => None,
    }
}

fn take_and_release(member: &Member) -> LeaseVersion {
    let held = member.acquire().unwrap();
    member.release(&held).unwrap();
    held.version()
}

fn release_with(member: &Member, held: &HeldLease, tenure: Tenure) {
    let (me, held) = (member.clone(), held.clone());
    let me_id = member.membership.host_id();
    let bare = HolderNote::new(me_id, member.membership.generation(), version(0));
    let note = match tenure {
        Tenure::HandedOver(offer) => Some(held.handed_over_note(bare, offer)),
        Tenure::Unused { .. } => held.unused_note(bare),
        _ => None,
    };
    member.world.sim.run_on(member.host, async move {
        let note = note.as_ref();
        paxos_lease::release(&me.world, &me.membership, &me.lease, &held, note)
            .await
            .unwrap();
    });
}

/// A later incarnation of the same host.
fn next_life(rig: &Rig, member: &Member) -> Member {
    rig.sim.crash(member.host, Pending::Vanish);
    let mut claimant = rig.claimant(member.id(), &format!("host-{}", member.id()), 10);
    claimant.earlier_incarnation = EarlierIncarnation::ProvenEnded(member.membership.incarnation());
    let next = rig.join_on(&member.world, claimant);
    next.keep_alive(&rig.sim);
    next
}

/// The next version is taken, and no other: one expected too old or too new is refused.
#[test]
fn an_expected_version_must_be_the_leases() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    let change = refused(&rig, &b, left_at(0));
    assert_eq!((change.expected, change.found), (version(0), version(1)));
    let change = refused(&rig, &b, left_at(2));
    assert!(change.taken_by.is_some());
    let held = go_on(&rig, &b, left_at(1)).unwrap();
    assert_eq!(held.version(), version(2));
}

#[test]
fn who_has_it_since_is_named_and_who_had_it_too() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    let held = b.acquire().unwrap();
    let by = refused(&rig, &a, left_by(1, &a)).taken_by.unwrap();
    assert!(by.holds);
    assert_eq!(by.host_id, host_id(2));
    assert_eq!(by.host_name.unwrap().text(), b"host-2");
    assert_eq!(by.note.unwrap().guest_name, "guest");
    b.release(&held).unwrap();
    let change = refused(&rig, &a, left_by(1, &a));
    assert!(!change.taken_by.as_ref().unwrap().holds);
    let text = change.to_string();
    assert_eq!(
        text,
        "at version 2, not at 1: host 2 \"host-2\" (generation 1) had it since"
    );
}

/// A late write has put the leader back: the blocks tell.
#[test]
fn a_block_newer_than_the_leader_is_believed() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    let left = rig.leader();
    for found in 2..4 {
        take_and_release(&b);
        let newest = rig.leader();
        rig.put_leader(&left);
        let change = refused(&rig, &a, left_by(1, &a));
        assert_eq!(change.found, version(found));
        assert_eq!(change.taken_by.unwrap().host_id, host_id(2));
        rig.put_leader(&newest);
    }
}

/// Who only began a ballot was given nothing; what was accepted may have been.
#[test]
fn an_announced_ballot_is_no_change_and_an_accepted_one_may_be() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    rig.put_block(2, &accepted(2, 2002, 2002, &b));
    let change = refused(&rig, &a, left_by(1, &a));
    assert_eq!(change.found, version(2));
    rig.put_block(2, &announced(2, 2002));
    assert_eq!(
        go_on(&rig, &a, left_by(1, &a)).unwrap().version(),
        version(2)
    );
}

/// The same while the ballot is under way: what another accepts meanwhile is not made an owner.
#[test]
fn what_another_accepts_meanwhile_ends_the_acquire() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    let write = rig.sim.hold_next(a.host, is_block_write);
    let (me, mut holding) = (a.clone(), a.holding(Patience::Refuse));
    holding.expected = Some(left_by(1, &a));
    let task = rig
        .sim
        .spawn(a.host, async move { me.acquire_as(holding).await });
    rig.sim.run_until_held(&write);
    rig.put_block(2, &accepted(2, 2, 2, &b));
    rig.sim.release_held(&write);
    let failure = rig.sim.run(&task).unwrap_err();
    assert!(matches!(failure.error, AcquireError::VersionChanged(_)));
    assert_eq!(rig.leader().version(), version(1));
    assert!(failure.pending.is_none() && rig.block(1).released);
}

/// A lease that was made anew may come to the same version.
#[test]
fn the_same_version_of_another_holder_is_refused() {
    let (rig, [a, b]) = joined();
    take_and_release(&b);
    let change = refused(&rig, &a, left_by(1, &a));
    assert_eq!(change.found, version(1));
    assert_eq!(change.taken_by.unwrap().host_id, host_id(2));
    go_on(&rig, &a, left_by(1, &b)).unwrap();
}

/// A guest whose locks were lost, without a release: its host joined again.
#[test]
fn a_lost_lease_goes_on_in_the_next_life_if_nobody_came() {
    let (rig, [a, b]) = joined();
    let lost = a.acquire().unwrap();
    let next = next_life(&rig, &a);
    assert!(!rig.leader().is_free());
    let held = go_on(&rig, &next, left_by(1, &a)).unwrap();
    assert_eq!(held.version(), lost.version().next().unwrap());
    next.release(&held).unwrap();
    take_and_release(&b);
    let change = refused(&rig, &next, left_by(2, &next));
    assert_eq!(change.taken_by.unwrap().host_id, host_id(2));
}

/// The lease names the own earlier incarnation, but in a later version: another guest ran in between.
#[test]
fn a_later_version_of_the_own_earlier_generation_is_refused() {
    let (rig, [a]) = joined();
    take_and_release(&a);
    let _lost = a.acquire().unwrap();
    let next = next_life(&rig, &a);
    let change = refused(&rig, &next, left_by(1, &a));
    assert_eq!(change.found, version(2));
    go_on(&rig, &next, left_by(2, &a)).unwrap();
}

/// Fails the `nth` write of an acquire of `member` that is `wanted`; it has landed.
fn fail_acquire(
    rig: &Rig,
    member: &Member,
    expected: Option<VersionPrecondition>,
    wanted: fn(&disklease_sim::IoView<'_>) -> bool,
) {
    let (me, mut holding) = (member.clone(), member.holding(Patience::Refuse));
    holding.expected = expected;
    let hold = rig.sim.hold_next(member.host, wanted);
    let task = rig
        .sim
        .spawn(member.host, async move { me.acquire_as(holding).await });
    rig.sim.run_until_held(&hold);
    rig.sim.fail_held(&hold, true);
    let failure = rig.sim.run(&task).unwrap_err();
    assert!(failure.pending.is_none(), "{failure:?}");
}

/// An acquire that failed half-way may have raised the version, but nobody ran.
#[test]
fn versions_of_acquires_that_failed_are_passed_over() {
    for wanted in [is_block_write, is_phase_2_write, is_leader_write] {
        let (rig, [a, b]) = joined();
        take_and_release(&a);
        fail_acquire(&rig, &b, None, wanted);
        let note = note_of(&rig, 2).unwrap();
        let since = version(1);
        assert_eq!(note.tenure, Tenure::Unused { since });
        // The own attempts may fail as often as they like.
        for _ in 0..3 {
            fail_acquire(&rig, &a, Some(left_by(1, &a)), wanted);
        }
        let held = go_on(&rig, &a, left_by(1, &a)).unwrap();
        assert!(held.version() > version(1));
        a.release(&held).unwrap();
        let change = refused(&rig, &b, left_by(1, &a));
        assert_eq!(change.taken_by.unwrap().host_id, host_id(1));
    }
}

#[test]
fn a_note_of_another_version_tells_nothing() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    fail_acquire(&rig, &b, None, is_block_write);
    // Of version 2. Now host 2 is seen with version 3.
    let me = host_id(2);
    let generation = b.membership.generation();
    let leader: PaxosLeader = rig.leader().committed(Commit {
        version: version(3),
        owner: me,
        generation,
        timestamp_secs: 5,
        writer: me,
        writer_generation: generation,
        writer_clock_secs: 5,
        clear_short_hold: true,
    });
    rig.put_leader(&leader.freed(me, generation, 6));
    let change = refused(&rig, &a, left_by(1, &a));
    assert_eq!(change.found, version(3));
}

/// Only what was handed over by this offer is accepted: not what was released otherwise, not what
/// the dead have left.
#[test]
fn what_was_not_handed_over_is_not_accepted() {
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    let expected = handed_over_by(1, &a);
    let accept = |patience| go_on_with(&rig, &b, expected, patience);
    let forever = Patience::WaitForDeath { until: None };
    let refused = accept(forever).unwrap_err().error;
    assert!(matches!(refused, AcquireError::Held(_)), "{refused}");
    a.release(&held).unwrap();
    let from = rig.sim.log_len();
    let refused = accept(forever).unwrap_err().error;
    assert!(
        matches!(refused, AcquireError::NotHandedOver { .. }),
        "{refused}"
    );
    assert_eq!(lease_writes(&rig, &b, from).len(), 0);

    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    release_with(&a, &held, Tenure::HandedOver(OfferId::new(8)));
    let refused = go_on(&rig, &b, handed_over_by(1, &a)).unwrap_err().error;
    assert!(
        matches!(refused, AcquireError::NotHandedOver { .. }),
        "{refused}"
    );
}

#[test]
fn a_dead_source_that_has_not_handed_over_is_not_waited_for() {
    let (rig, [a, b]) = joined();
    let _held = a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    rig.sim.run_for(secs(300));
    let forever = Patience::WaitForDeath { until: None };
    let refused = go_on_with(&rig, &b, handed_over_by(1, &a), forever).unwrap_err();
    assert!(
        matches!(refused.error, AcquireError::NotHandedOver { .. }),
        "{}",
        refused.error
    );
}

#[test]
fn what_was_handed_over_is_accepted_also_if_its_source_died_over_it() {
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    release_with(&a, &held, Tenure::HandedOver(OFFER));
    let taken = go_on(&rig, &b, handed_over_by(1, &a)).unwrap();
    assert_eq!(taken.version(), version(2));
    // The source is refused from now on, by the target's name.
    let by = refused(&rig, &a, left_by(1, &a)).taken_by.unwrap();
    assert!(by.holds && by.host_id == host_id(2));

    // Marked, not freed.
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    let (me, left) = (a.clone(), held.clone());
    let bare = HolderNote::new(host_id(1), a.membership.generation(), version(0));
    let note = held.handed_over_note(bare, OFFER);
    let free = rig.sim.hold_next(a.host, is_leader_write);
    let _ = rig.sim.spawn(a.host, async move {
        let note = Some(&note);
        paxos_lease::release(&me.world, &me.membership, &me.lease, &left, note).await
    });
    rig.sim.run_until_held(&free);
    rig.sim.crash(a.host, Pending::Vanish);
    let forever = Patience::WaitForDeath { until: None };
    let taken = go_on_with(&rig, &b, handed_over_by(1, &a), forever).unwrap();
    assert_eq!(taken.version(), version(2));
}

/// The target did not run the guest and gave the lease back: the source has its guest back.
#[test]
fn what_was_declined_may_be_reclaimed() {
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    release_with(&a, &held, Tenure::HandedOver(OFFER));
    let taken = go_on(&rig, &b, handed_over_by(1, &a)).unwrap();
    let since = version(1);
    release_with(&b, &taken, Tenure::Unused { since });
    let held = go_on(&rig, &a, left_by(1, &a)).unwrap();
    assert_eq!(held.version(), version(3));
    // And then the token is worth nothing.
    a.release(&held).unwrap();
    refused(&rig, &b, handed_over_by(1, &a));
}

/// A release with a note that failed half-way is made good with that note.
#[test]
fn a_pending_cleanup_of_a_hand_over_keeps_its_note() {
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    let bare = HolderNote::new(host_id(1), a.membership.generation(), version(0));
    let note = held.handed_over_note(bare, OFFER);
    let pending = LeftBehind::of_release(&held).with_note(Some(note));
    let me = a.clone();
    rig.sim.run_on(a.host, async move {
        paxos_lease::retract(&me.world, &me.membership, &me.lease, &pending)
            .await
            .unwrap();
    });
    go_on(&rig, &b, handed_over_by(1, &a)).unwrap();
}

/// Writes a note on how a version was left beside the block of host `id`.
fn put_note(rig: &Rig, id: u64, of: u64, tenure: Tenure) {
    let mut note = HolderNote::new(host_id(id), Generation::new(1), version(of));
    note.tenure = tenure;
    rig.patch(Rig::block_at(id), 512, |sector| {
        note.write_to(sector.first_chunk_mut().unwrap());
    });
}

/// The leader shows that `by` had this version and gave it back.
fn was_had(rig: &Rig, at: u64, by: &Member) {
    let (owner, generation) = (by.membership.host_id(), by.membership.generation());
    let leader = rig.leader().committed(Commit {
        version: version(at),
        owner,
        generation,
        timestamp_secs: 5,
        writer: owner,
        writer_generation: generation,
        writer_clock_secs: 5,
        clear_short_hold: true,
    });
    rig.put_leader(&leader.freed(owner, generation, 6));
}

/// Who failed to get a newer version has seen who had this one.
#[test]
fn a_note_of_a_newer_version_speaks_of_the_one_before_it() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    was_had(&rig, 2, &b);
    refused(&rig, &a, left_by(1, &a));
    rig.put_block(3, &announced(3, 4003));
    let since = version(1);
    put_note(&rig, 3, 3, Tenure::Unused { since });
    let held = go_on(&rig, &a, left_by(1, &a)).unwrap();
    assert_eq!(held.version(), version(3));
}

/// The disk cannot be as of a version that is yet to come: the lease was put back.
#[test]
fn a_note_that_speaks_of_a_version_to_come_tells_nothing() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    was_had(&rig, 2, &b);
    rig.put_block(3, &announced(1, 3));
    let since = version(5);
    put_note(&rig, 3, 6, Tenure::Unused { since });
    let change = refused(&rig, &a, left_at(5));
    assert_eq!(change.found, version(2));
}

/// An offer is of one version: the note of an earlier one is not accepted for a later one.
#[test]
fn a_hand_over_of_another_version_is_not_accepted() {
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    release_with(&a, &held, Tenure::HandedOver(OFFER));
    was_had(&rig, 2, &a);
    let refused = go_on(&rig, &b, handed_over_by(2, &a)).unwrap_err().error;
    assert!(
        matches!(refused, AcquireError::NotHandedOver { .. }),
        "{refused}"
    );
}

/// Where a version lies between the leader's and the one that was tried for, nobody knows whether it
/// was used.
#[test]
fn an_acquire_that_failed_says_nothing_over_a_version_it_has_not_seen() {
    let (rig, [a, b]) = joined();
    take_and_release(&a);
    rig.put_block(3, &announced(3, 4003));
    fail_acquire(&rig, &b, None, is_block_write);
    assert_eq!(rig.block(2).version, version(3));
    assert_eq!(note_of(&rig, 2), None);
}

/// What it had proposed for an older version was carried through by another host: of that version it does
/// not say that nobody used it, though it knows who had the one before its last.
#[test]
fn an_acquire_that_failed_for_a_version_says_nothing_of_an_older_one() {
    let (rig, [a, b]) = joined();
    let look = rig.sim.hold_next(a.host, nth(3, is_area_read));
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&look);
    assert!(matches!(b.acquire_error(), AcquireError::Held(_)));
    // A begins anew for the next version, for which there is no number left.
    let last_of_host_3 = u64::MAX - 1612;
    rig.put_block(3, &announced(2, last_of_host_3));
    rig.sim.release_held(&look);
    let failure = rig.sim.run(&task).unwrap_err();
    assert_eq!(failure.error, AcquireError::NumbersUsedUp);
    assert!(failure.pending.is_none() && rig.block(1).released);
    assert_eq!(note_of(&rig, 1), None);
}

/// What it has proposed itself is no use of the disk by another.
#[test]
fn a_guest_goes_on_though_its_ballot_was_overtaken() {
    let (rig, [a, _]) = joined();
    take_and_release(&a);
    let look = rig.sim.hold_next(a.host, nth(3, is_area_read));
    let (me, mut holding) = (a.clone(), a.holding(Patience::Refuse));
    holding.expected = Some(left_by(1, &a));
    let task = rig
        .sim
        .spawn(a.host, async move { me.acquire_as(holding).await });
    rig.sim.run_until_held(&look);
    rig.put_block(2, &announced(2, 9002));
    rig.sim.release_held(&look);
    let held = rig.sim.run(&task).unwrap();
    assert_eq!(held.version(), version(2));
}
