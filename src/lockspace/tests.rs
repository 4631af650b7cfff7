//! Every cause of a loss, and what guards, events, callbacks, errors and the log say of it.

use std::fmt::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::mpsc::channel;

use disklease_fixtures::host::{SOON, wait_until};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::shared::Death;
use super::*;
use crate::libvirt::LeaseDirectory;
use crate::manager::{
    Access, LockEvent, LockGuard, LockManager as _, LockRequest, Owner, PaxosManager,
};
use crate::world::OsError;

const N: Duration = Duration::from_secs(1);

/// The errors that were logged, each as one line.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?};");
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        LINES.lock().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A host with an id that no other test of this program has: by that its lines are found.
struct Host {
    dir: tempfile::TempDir,
    id: u64,
    lockspace: Lockspace,
    manager: PaxosManager,
}

impl Host {
    fn new(id: u64) -> Self {
        static LOG: Once = Once::new();
        LOG.call_once(|| tracing::subscriber::set_global_default(Log).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let leases = LeaseDirectory::new(dir.path());
        let path = leases.create_lockspace(N).unwrap();
        let lockspace = Lockspace::options(Watchdog::None)
            .io_timeout(N)
            .runtime_dir(dir.path().join("run"))
            .join(path, HostId::new(id).unwrap())
            .unwrap();
        let manager = PaxosManager::new(lockspace.clone(), leases).unwrap();
        Self {
            dir,
            id,
            lockspace,
            manager,
        }
    }

    fn acquire(&self, disk: &str, owner: Owner) -> LockGuard {
        let request = LockRequest::new(owner).disk(disk, Access::Exclusive);
        self.manager.acquire(request).unwrap()
    }

    fn refusal(&self) -> String {
        let request = LockRequest::new(Owner::this_process("guest")).disk("/b", Access::Exclusive);
        self.manager.acquire(request).unwrap_err().to_string()
    }

    /// What was logged of the loss of all its leases.
    fn lines(&self) -> Vec<String> {
        let id = format!("host_id={};", self.id);
        let is_its =
            |line: &&String| line.contains(&id) && line.contains("leases of this lockspace");
        LINES.lock().iter().filter(is_its).cloned().collect()
    }

    fn overwrite(path: &Path, offset: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[7; 512], offset).unwrap();
    }
}

/// Everybody says `expected` of a guard that was lost, from the first instant on.
fn check_guard(guard: &LockGuard, expected: &LossReason) {
    wait_until("the loss", SOON, || (!guard.is_held()).then_some(()));
    assert_eq!(guard.loss().as_ref(), Some(expected));
    let said = guard.verify().unwrap_err().to_string();
    assert!(said.contains(&expected.to_string()), "{said}");
    // On a busy machine there may have been a warning.
    let is_loss = |event: &LockEvent| matches!(event, LockEvent::Lost(_));
    let told = wait_until("its event", SOON, || guard.next_event().filter(is_loss));
    assert_eq!(told, LockEvent::Lost(expected.clone()));
    assert_eq!(guard.loss().as_ref(), Some(expected));
}

/// Loses all leases of a host.
fn all_are_lost(id: u64, lose: impl FnOnce(&Host), is_it: fn(&LossReason) -> bool) {
    let host = Host::new(id);
    let guard = host.acquire("/a", Owner::this_process("guest"));
    let (tell, told) = channel();
    guard.on_lost(move |reason| tell.send(reason.clone()).unwrap());
    lose(&host);
    wait_until("the loss", SOON, || (!guard.is_held()).then_some(()));
    let reason = guard.loss().expect("named as soon as it can be found");
    assert!(is_it(&reason), "{reason}");
    assert_eq!(host.lockspace.loss().as_ref(), Some(&reason));
    let refusal = host.refusal();
    // An acquire sees by itself that the path names another lockspace, or none.
    let is_named = refusal.contains(&reason.to_string())
        || reason == LossReason::LockspaceReplaced && refusal.contains("was removed or replaced");
    assert!(is_named, "{refusal}");
    check_guard(&guard, &reason);
    assert_eq!(told.recv_timeout(SOON), Ok(reason.clone()));
    // The renewals end a little later, and have nothing else to say.
    wait_until("its line", SOON, || {
        (!host.lines().is_empty()).then_some(())
    });
    std::thread::sleep(N);
    let lines = host.lines();
    assert!(
        lines.len() == 1 && lines[0].contains(&format!("reason={reason};")),
        "{lines:?}"
    );
    drop(guard);
    assert!(
        host.lockspace.clone().leave().is_err(),
        "its id may be another's"
    );
    assert_eq!(host.lockspace.loss(), Some(reason));
}

/// Loses the lease of a guard alone.
fn one_is_lost(id: u64, lose: impl FnOnce(&Path), expected: &LossReason) {
    let host = Host::new(id);
    let guard = host.acquire("/a", Owner::this_process("guest"));
    lose(guard.locks().next().unwrap().lease_path.unwrap());
    check_guard(&guard, expected);
    assert!(host.lockspace.is_held() && host.lockspace.loss().is_none());
    assert_eq!(host.lines(), [""; 0]);
}

#[test]
fn each_loss_has_its_first_cause_wherever_it_is_told() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As the clock does it: nobody has named a cause.
            let lose = |host: &Host| host.lockspace.membership().expiry().lose();
            all_are_lost(1001, lose, |reason| *reason == LossReason::NotRenewed);
        });
        scope.spawn(|| {
            let lose = |host: &Host| std::fs::remove_file(host.lockspace.path()).unwrap();
            all_are_lost(1002, lose, |reason| {
                *reason == LossReason::LockspaceReplaced
            });
        });
        scope.spawn(|| {
            // A renewal that had read the sector before writes over it in its turn.
            let lose = |host: &Host| {
                wait_until("the loss", SOON, || {
                    Host::overwrite(host.lockspace.path(), (host.id - 1) * 512);
                    (!host.lockspace.is_held()).then_some(())
                });
            };
            all_are_lost(1003, lose, |reason| {
                matches!(reason, LossReason::HostIdLost(_))
            });
        });
        scope.spawn(|| {
            let lose = |host: &Host| {
                let shared = &host.lockspace.inner().shared;
                let died = catch_unwind(AssertUnwindSafe(|| {
                    let _death = Death::of(shared);
                    panic!("on purpose");
                }));
                assert!(died.is_err());
            };
            all_are_lost(1004, lose, |reason| *reason == LossReason::ThreadDied);
        });
        scope.spawn(|| {
            // Of a kernel that really refuses: `tests/fencing/frozen.rs`.
            let unset = LossReason::DeadmanUnset(OsError::new(libc::EINVAL));
            let lose = |host: &Host| host.lockspace.inner().shared.lose(&unset);
            all_are_lost(1005, lose, |reason| {
                matches!(reason, LossReason::DeadmanUnset(_))
            });
        });
        scope.spawn(|| {
            let host = Host::new(1006);
            host.lockspace.clone().leave().unwrap();
            assert_eq!(host.lockspace.loss(), Some(LossReason::Left));
            let refusal = host.refusal();
            assert!(refusal.contains(&LossReason::Left.to_string()), "{refusal}");
            assert_eq!(host.lines(), [""; 0]);
        });
        scope.spawn(|| {
            let lose = |lease: &Path| Host::overwrite(lease, 0);
            one_is_lost(1007, lose, &LossReason::LeaseOverwritten);
        });
        scope.spawn(|| {
            let lose = |lease: &Path| {
                let copy = lease.with_extension("copy");
                std::fs::copy(lease, &copy).unwrap();
                std::fs::rename(copy, lease).unwrap();
            };
            one_is_lost(1008, lose, &LossReason::LeaseReplaced);
        });
        scope.spawn(|| {
            let host = Host::new(1009);
            let mut owner = Command::new("sleep").arg("60").spawn().unwrap();
            let guard = host.acquire("/a", Owner::process("guest", owner.id()));
            owner.kill().unwrap();
            owner.wait().unwrap();
            check_guard(&guard, &LossReason::OwnerEnded);
            assert!(host.lockspace.is_held() && host.dir.path().exists());
            assert_eq!(host.lines(), [""; 0]);
        });
    });
}
