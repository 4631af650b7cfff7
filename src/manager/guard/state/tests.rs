use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::manager::failure::FailureAction;

/// What is wished for the loss of locks whose owner has ended, and the receiver of what was done.
fn wishes_of_ended_owner() -> (Wishes, Receiver<(&'static str, LossReason)>) {
    let mut owner = Command::new("sleep").arg("60").spawn().unwrap();
    let process = OwnerProcess::open(owner.id());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let (tell, told) = channel();
    let say = |what| {
        let tell = tell.clone();
        move |reason: &LossReason| tell.send((what, reason.clone())).unwrap()
    };
    let wishes = Wishes {
        on_lost: vec![LossCallback::new(say("on_lost"))],
        action: FailureAction::Callback(LossCallback::new(say("action"))),
        on_owner_end: Vec::new(),
        owner: Some(Arc::new(process.unwrap())),
    };
    (wishes, told)
}

/// Of the loss and the owner's end, what comes first counts.
#[test]
fn a_loss_that_is_found_after_the_owner_s_end_has_nothing_done() {
    for is_lost_first in [false, true] {
        let (wishes, told) = wishes_of_ended_owner();
        let state = GuardState::unprotected(Vec::new(), wishes).unwrap();
        if is_lost_first {
            assert!(state.mark_lost(&LossReason::NotRenewed));
        }
        state.owner_ended();
        if !is_lost_first {
            assert!(!state.mark_lost(&LossReason::NotRenewed));
        }
        state.act();
        let told: Vec<_> = told.try_iter().collect();
        let lost = LossReason::NotRenewed;
        if is_lost_first {
            let expected = ["on_lost", "action"].map(|what| (what, lost.clone()));
            assert_eq!(told, expected);
            assert_eq!(state.reason(), Some(lost));
        } else {
            assert_eq!(told, []);
            assert_eq!(state.reason(), Some(LossReason::OwnerEnded));
        }
    }
}

/// A lockspace that was lost before the owner ended has the actions run, also of a guard that was not yet
/// notified of the loss.
#[test]
fn a_loss_of_the_lockspace_before_the_owner_s_end_is_acted_on() {
    let (_dir, _, lockspace) = crate::manager::testing::joined();
    let (wishes, told) = wishes_of_ended_owner();
    let state = GuardState::new(
        Unstarted::default(),
        Vec::new(),
        Some(lockspace.clone()),
        wishes,
    );
    let state = state.unwrap();
    lockspace.membership().expiry().lose();
    assert_eq!(lockspace.loss(), Some(LossReason::NotRenewed));
    state.owner_ended();
    let expected = ["on_lost", "action"].map(|what| (what, LossReason::NotRenewed));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
    assert_eq!(state.reason(), Some(LossReason::NotRenewed));
}
