use std::process::Command;
use std::sync::mpsc::channel;

use super::*;
use crate::manager::failure::FailureAction;

/// Of the loss and the owner's end, what comes first counts.
#[test]
fn a_loss_that_is_found_after_the_owner_s_end_has_nothing_done() {
    for is_lost_first in [false, true] {
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
