use std::process::Command;
use std::sync::mpsc::channel;

use super::super::super::failure::Callback;
use super::*;

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
            on_lost: vec![Box::new(say("on_lost"))],
            action: FailureAction::Callback(Callback::new(say("action"))),
            on_owner_end: Vec::new(),
            owner: Some(Arc::new(process.unwrap())),
        };
        let core = Core::unprotected(Vec::new(), wishes).unwrap();
        if is_lost_first {
            assert!(core.mark_lost(&LossReason::NotRenewed));
        }
        core.owner_ended();
        if !is_lost_first {
            assert!(!core.mark_lost(&LossReason::NotRenewed));
        }
        core.act();
        let told: Vec<_> = told.try_iter().collect();
        let lost = LossReason::NotRenewed;
        if is_lost_first {
            let expected = ["on_lost", "action"].map(|what| (what, lost.clone()));
            assert_eq!(told, expected);
            assert_eq!(core.reason(), Some(lost));
        } else {
            assert_eq!(told, []);
            assert_eq!(core.reason(), Some(LossReason::OwnerEnded));
        }
    }
}
