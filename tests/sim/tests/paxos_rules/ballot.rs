//! Ballot numbers, what is adopted from others, and what makes an acquire a success.

use disklease::__sim::paxos_lease::{AcquireError, LeaseIoError, Patience, verify};
use disklease::format::{Dblock, FormatErrorKind, Input, LeaseVersion};

use super::setup::{
    accepted, announced, block_in, is_area_read, is_block_write, is_leader_write, is_phase_2_write,
    joined, joined_in, lease_io, lease_writes,
};
use disklease_sim::rig::LEASE_AT;
use disklease_sim::{IoKind, Member, Rig, Seeded, Sim, nth};

fn written_blocks(rig: &Rig, member: &Member, from: usize) -> Vec<Dblock> {
    lease_writes(rig, member, from)
        .iter()
        .filter(|io| io.offset == Rig::block_at(member.id()))
        .map(|io| block_in(&io.bytes).unwrap())
        .collect()
}

/// A ballot number is the host id modulo the number of hosts that there is room for, and above all
/// that were ever used, also for versions long gone.
#[test]
fn ballot_numbers_are_unique_and_rise() {
    for (seen, number) in [
        (0, 2),
        (1, 2002),
        (2, 2002),
        (2000, 4002),
        (2001, 4002),
        (4003, 6002),
    ] {
        let (rig, [_, b]) = joined();
        rig.put_block(3, &announced(0, seen));
        if seen == 0 {
            rig.patch(Rig::block_at(3), 512, |sector| sector.fill(0));
        }
        b.acquire().unwrap();
        assert_eq!(rig.block(2).mbal, number);
        assert_eq!(rig.block(2).mbal % 2000, 2);
    }
}

/// A ballot that finds a higher number waits for less than a second, inspects the leader, and tries
/// again with a number above.
#[test]
fn a_ballot_that_was_overtaken_tries_again_with_a_higher_number() {
    for phase in [2, 3] {
        let (rig, [a]) = joined_in(Sim::new(Seeded::new(5)));
        let look = rig.sim.hold_next(a.host, nth(phase, is_area_read));
        let from = rig.sim.log_len();
        let task = a.start_acquire(Patience::Refuse);
        rig.sim.run_until_held(&look);
        rig.put_block(2, &announced(1, 4002));
        rig.sim.release_held(&look);
        let overtaken = rig.sim.now();
        assert_eq!(rig.sim.run(&task).unwrap().version(), LeaseVersion::new(1));
        let log = lease_io(&rig, &a, from);
        let after = &log[2 * phase - 1..];
        assert_eq!(
            (after[0].kind, after[0].offset, after[0].len),
            (IoKind::Read, LEASE_AT, 512)
        );
        let numbers = written_blocks(&rig, &a, from);
        let tried_again = numbers.iter().find(|block| block.mbal != 1).unwrap();
        assert_eq!(tried_again.mbal, 6001, "above it at once");
        let pause = after[0].begun.since(overtaken);
        assert!(!pause.is_zero() && pause.as_secs() == 0, "{pause:?}");
        assert_eq!(rig.block(1).mbal, 6001);
    }
}

/// A block of a newer version ends the ballot: all is read again, and the ballot is for that
/// version.
#[test]
fn a_newer_version_makes_the_acquire_begin_anew() {
    let (rig, [a]) = joined();
    let look = rig.sim.hold_next(a.host, nth(2, is_area_read));
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&look);
    rig.put_block(2, &announced(5, 4002));
    rig.sim.release_held(&look);
    assert_eq!(rig.sim.run(&task).unwrap().version(), LeaseVersion::new(5));
    assert_eq!(rig.block(1).mbal, 6001);
}

/// INV-NEXT: a block that is newer than the leader shows that the leader is stale. Its owner is not
/// asked, and the ballot is for the block's version, where it finds what was accepted.
#[test]
fn a_block_newer_than_the_leader_makes_the_leader_stale() {
    let (rig, [a, b, c]) = joined();
    let held = a.acquire().unwrap();
    let stale = rig.leader();
    a.release(&held).unwrap();
    let held = c.acquire().unwrap();
    assert_eq!(held.version(), LeaseVersion::new(2));
    rig.put_leader(&stale);
    let error = b.acquire_error();
    assert!(
        matches!(error, AcquireError::Held(holder) if holder.host_id == c.membership.host_id())
    );
    assert_eq!(
        rig.leader().version(),
        LeaseVersion::new(2),
        "repaired by the way"
    );
    assert_eq!(rig.leader().input(), rig.block(3).input.unwrap());
}

/// INV-KEEP: what this host accepted for a version stays in its block through phase 1, also in
/// another acquire.
#[test]
fn phase_1_keeps_what_was_accepted() {
    let (rig, [a, b]) = joined();
    let theirs = accepted(1, 2001, 2001, &b);
    rig.put_block(1, &theirs);
    let from = rig.sim.log_len();
    let error = a.acquire_error();
    assert!(matches!(error, AcquireError::Held(_)), "{error}");
    let phase_1 = written_blocks(&rig, &a, from)[0];
    assert_eq!((phase_1.bal, phase_1.input), (2001, theirs.input));
    assert_eq!(phase_1.mbal, 4001);
}

/// And in the next ballot of the same acquire.
#[test]
fn what_was_accepted_is_kept_in_the_next_ballot() {
    let (rig, [a, _]) = joined();
    // The look of phase 2 finds that the ballot was overtaken.
    let look = rig.sim.hold_next(a.host, nth(3, is_area_read));
    let from = rig.sim.log_len();
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&look);
    let accepted = rig.block(1);
    assert_eq!(accepted.bal, accepted.mbal);
    rig.put_block(2, &announced(1, 4002));
    rig.sim.release_held(&look);
    rig.sim.run(&task).unwrap();
    let again = written_blocks(&rig, &a, from)[2];
    assert_eq!((again.bal, again.input), (accepted.bal, accepted.input));
    assert!(again.mbal > 4002);
}

/// Whoever has won a lease holds it for longer than the short time that getting it shared takes.
#[test]
fn an_own_commit_takes_the_mark_of_a_short_hold_away() {
    let (rig, [a]) = joined();
    rig.put_leader(&rig.leader().short_hold());
    a.acquire().unwrap();
    assert!(!rig.leader().is_short_hold());
}

/// What was accepted for an older version does not count for a newer one.
#[test]
fn a_ballot_for_a_newer_version_begins_with_nothing_accepted() {
    let (rig, [a]) = joined();
    let held = a.acquire().unwrap();
    a.release(&held).unwrap();
    let from = rig.sim.log_len();
    a.acquire().unwrap();
    let phase_1 = written_blocks(&rig, &a, from)[0];
    assert_eq!(
        (phase_1.bal, phase_1.input, phase_1.version.get()),
        (0, None, 2)
    );
}

/// Of what others have accepted, that of the highest ballot is chosen. It is committed for its
/// owner, who then owns the lease.
#[test]
fn the_value_of_the_highest_ballot_is_committed() {
    let (rig, [a, b, c]) = joined();
    rig.put_block(2, &accepted(1, 4002, 2002, &b));
    rig.put_block(3, &accepted(1, 2003, 2003, &c));
    let error = a.acquire_error();
    assert!(
        matches!(error, AcquireError::Held(holder) if holder.host_id == c.membership.host_id())
    );
    let leader = rig.leader();
    assert_eq!(
        (leader.last_owner(), leader.write_id()),
        (Some(c.membership.host_id()), 1)
    );
    assert_eq!(leader.input(), rig.block(3).input.unwrap());
    assert_eq!(leader.version(), LeaseVersion::new(1));
}

/// A proposal that would make a leader which no host can read is not committed.
#[test]
fn a_proposal_that_no_host_can_own_is_not_committed() {
    let hostile = [
        (
            Input {
                owner: 2,
                generation: 1,
                timestamp: 0,
            },
            "time 0",
        ),
        (
            Input {
                owner: 4,
                generation: 1,
                timestamp: 5,
            },
            "from 1 to 3",
        ),
        (
            Input {
                owner: u64::MAX,
                generation: 1,
                timestamp: 5,
            },
            "from 1 to 3",
        ),
    ];
    for (input, why) in hostile {
        let (rig, [a]) = joined();
        let before = rig.leader();
        rig.put_block(
            2,
            &Dblock {
                input: Some(input),
                ..accepted(1, 2, 2, &a)
            },
        );
        let error = a.acquire_error();
        let AcquireError::Lease(LeaseIoError::Format { offset, error }) = error else {
            panic!("{error}")
        };
        // Where the value came from, not our own block, which has accepted it.
        assert_eq!(offset, Rig::block_at(2));
        assert!(
            matches!(
                error.kind(),
                FormatErrorKind::InputWithoutTime | FormatErrorKind::OwnerRange { .. }
            ) && error.to_string().contains(why),
            "{error}"
        );
        assert_eq!(rig.leader(), before);
    }
}

/// A has its input accepted by itself, B adopts and commits it, and A finds out. Gives A's acquire
/// right before it inspects the leader.
fn committed_by_other(rig: &Rig, a: &Member, b: &Member) -> disklease_sim::Task<Acquired> {
    let look = rig.sim.hold_next(a.host, nth(3, is_area_read));
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&look);
    assert!(
        matches!(b.acquire_error(), AcquireError::Held(holder) if holder.host_id == a.membership.host_id())
    );
    assert_eq!(
        (rig.leader().last_owner(), rig.leader().write_id()),
        (Some(a.membership.host_id()), 2)
    );
    rig.sim.release_held(&look);
    task
}

type Acquired =
    Result<disklease::__sim::paxos_lease::HeldLease, disklease::__sim::paxos_lease::AcquireFailure>;

/// INV-INPUT: the own input of this very acquire, committed by another host, is a success. It is
/// given back with the mark alone, since another host wrote the leader.
#[test]
fn the_own_input_committed_by_another_host_is_a_success() {
    let (rig, [a, b]) = joined();
    let held = rig.sim.run(&committed_by_other(&rig, &a, &b)).unwrap();
    assert_eq!(held.version(), LeaseVersion::new(1));
    let (me, ours) = (a.clone(), held.clone());
    rig.sim
        .run_on(a.host, async move {
            verify(&me.world, &me.membership, &me.lease, &ours).await
        })
        .unwrap();

    let before = rig.leader();
    a.release(&held).unwrap();
    assert_eq!(rig.leader(), before, "left alone");
    assert!(rig.block(1).released);
    assert_eq!(
        b.acquire().unwrap().version(),
        LeaseVersion::new(2),
        "the mark is believed"
    );
}

/// The same after the own delta lease was lost meanwhile is no success.
#[test]
fn the_own_input_is_no_success_after_the_lockspace_was_lost() {
    let (rig, [a, b]) = joined();
    let task = committed_by_other(&rig, &a, &b);
    a.membership.expiry().lose();
    let failure = rig.sim.run(&task).unwrap_err();
    assert_eq!(failure.error, AcquireError::LockspaceLost);
    assert!(failure.pending.is_some());
}

/// INV-INPUT: an older input of this same incarnation, committed late by another host, is none.
#[test]
fn an_older_input_of_the_same_host_is_no_success() {
    let (rig, [a, b]) = joined();
    // A proposes itself, and gives up by an error.
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.fail_next(a.host, true, nth(3, is_area_read));
    assert!(rig.sim.run(&task).unwrap_err().pending.is_none());
    let old = rig.block(1).input.unwrap();
    // B has adopted it, and is about to commit it.
    let commit = rig.sim.hold_next(b.host, is_leader_write);
    let of_b = b.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&commit);
    // A's next acquire finds it, too: it is not a success, but makes way for the next version.
    let held = a.acquire().unwrap();
    assert_eq!(held.version(), LeaseVersion::new(2));
    assert_ne!(rig.leader().input(), old);
    rig.sim.release_held(&commit);
    let error = rig.sim.run(&of_b).unwrap_err().error;
    assert!(matches!(error, AcquireError::Held(_)), "{error}");
}

/// INV-TIMESTAMP: two acquires within a second never propose the same.
#[test]
fn two_acquires_within_a_second_propose_different_inputs() {
    let (rig, [a]) = joined();
    let mut timestamps = Vec::new();
    let before = rig.sim.now();
    for _ in 0..3 {
        let held = a.acquire().unwrap();
        timestamps.push(rig.leader().timestamp_secs());
        a.release(&held).unwrap();
    }
    assert_eq!(rig.sim.now(), before);
    assert!(timestamps.is_sorted_by(|x, y| x < y), "{timestamps:?}");
}

/// The note speaks of the own input only: not while another host's is being committed.
#[test]
fn the_note_stands_with_the_own_input_only() {
    let (rig, [a, b]) = joined();
    rig.put_block(2, &accepted(1, 2, 2, &b));
    let write = rig.sim.hold_next(a.host, is_phase_2_write);
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&write);
    rig.sim.release_held(&write);
    assert!(rig.sim.run(&task).is_err());
    assert!(rig.block_sector(1).note.present().is_none());

    let (rig, [a]) = joined();
    let phase_1 = rig.sim.hold_next(a.host, is_block_write);
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&phase_1);
    rig.sim.release_held(&phase_1);
    assert!(
        rig.block_sector(1).note.present().is_none(),
        "nor in phase 1"
    );
    let held = rig.sim.run(&task).unwrap();
    let note = rig.block_sector(1).note.present().unwrap();
    assert_eq!(note.version, held.version());
}
