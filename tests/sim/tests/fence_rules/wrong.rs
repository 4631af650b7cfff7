//! Rules got wrong, each noticed by the test of that rule.

use disklease_sim::mutations::Mutation;

use disklease_sim::wrong::each_is_caught;

const STEPS: &str = "escalation::each_step_comes_at_its_time_and_the_killing_goes_on";
const DEADMAN: &str =
    "escalation::the_deadman_is_armed_sooner_while_there_are_holders_and_moved_by_renewals";

const MEMBER: &str =
    "escalation::a_member_without_holders_is_killed_if_it_stands_still_and_not_if_it_runs";

const TABLE: &[(Mutation, &str)] = &[
    (Mutation::GraceBeyondFire, STEPS),
    (Mutation::GraceIgnored, STEPS),
    (Mutation::KillSkipped, STEPS),
    (Mutation::KilledOnce, STEPS),
    (
        Mutation::LossSinceNotice,
        "escalation::the_grace_counts_from_the_deadline_however_late_the_loss_is_noticed",
    ),
    (
        Mutation::DeadmanDeafToLoss,
        "escalation::a_loss_that_is_not_the_clocks_has_its_grace_from_its_notice",
    ),
    (Mutation::DeadmanKept, DEADMAN),
    (Mutation::DeadmanLate, DEADMAN),
    (Mutation::DeadmanNotMoved, DEADMAN),
    (Mutation::DeadmanOnlyWithHolders, MEMBER),
];

#[test]
fn each_mutant_fails_its_test() {
    each_is_caught(TABLE);
}
