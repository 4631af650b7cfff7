//! The threads of a member host: one renews, some inspect the paths, one runs the callbacks of holders
//! that have lost their leases.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, FutureExt as _, join, select};
use futures_util::pin_mut;

use super::inspection;
use super::shared::{Death, Shared};
use super::spawn::{Stoppable, end_soon, run_apart};
use crate::delta_lease::DeltaLease;
use crate::host::{Notify, reconcile, reread_held, serve_holders};
use crate::runtime::clock;
use crate::runtime::disk::StorageWorld;
use crate::runtime::executor::block_on;

/// How long the end of a thread is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
const CALLBACKS_PATIENCE: Duration = Duration::from_secs(1);

/// The running threads.
pub(super) struct Threads {
    renewal: Option<Stoppable<DeltaLease>>,
    callbacks: Stoppable<()>,
}

impl Threads {
    /// Starts all. `lease` is renewed from now on, and the path of the lockspace watched, if it has one.
    pub(super) fn start(shared: &Arc<Shared>, lease: DeltaLease) -> io::Result<Self> {
        inspection::start_threads(shared)?;
        let started = Self::start_with_callbacks(shared, lease);
        if started.is_err() {
            shared.watch.stop();
        }
        started
    }

    fn start_with_callbacks(shared: &Arc<Shared>, lease: DeltaLease) -> io::Result<Self> {
        let of_callbacks = Arc::clone(shared);
        let callbacks = Stoppable::start("dl-callbacks", move |stop| {
            run_callbacks(&of_callbacks, stop);
        })?;
        let of_renewal = Arc::clone(shared);
        match Stoppable::start("dl-renewal", move |stop| renew(&of_renewal, stop, lease)) {
            Ok(renewal) => Ok(Self {
                renewal: Some(renewal),
                callbacks,
            }),
            Err(error) => {
                callbacks.end(CALLBACKS_PATIENCE);
                Err(error)
            }
        }
    }

    /// Ends the renewals, and gives the lease back, unless the thread has died, hangs, or is the one
    /// that dropped the last handle. Does not wait for I/O.
    pub(super) fn stop_renewing(&mut self, shared: &Shared, limit: Duration) -> Option<DeltaLease> {
        let lease = self.renewal.take()?.end(limit.max(PATIENCE));
        // Only then: it may have left something to be done.
        shared.watch.stop();
        lease
    }

    /// Ends the threads that nothing on the disk waits for.
    pub(super) fn end(self, shared: &Shared) {
        self.callbacks.end(CALLBACKS_PATIENCE);
        let until = clock::now() + PATIENCE;
        for thread in shared.watch.threads() {
            end_soon(thread, until.since(clock::now()));
        }
    }
}

/// The body of the renewal thread.
fn renew(shared: &Shared, stop: &Notify, mut lease: DeltaLease) -> DeltaLease {
    let death = Death::of(shared);
    {
        let (membership, leases) = (&shared.membership, &shared.leases);
        let work = async {
            let served = serve_holders(
                &StorageWorld,
                membership,
                &mut lease,
                &shared.holders,
                shared,
            );
            // Cleanups need a membership; they end with it.
            let cleanups = reconcile(&StorageWorld, membership, leases);
            // The same is true of what is held.
            let reread = reread_held(&StorageWorld, membership, leases);
            join(served, join(cleanups, reread)).await
        };
        let stopped = stop.wait();
        pin_mut!(work, stopped);
        block_on(async {
            match select(work, stopped).await {
                Either::Left(((never, _), _)) => match never {},
                Either::Right(((), _)) => {}
            }
        });
    }
    death.ended_well();
    lease
}

/// The body of the callbacks' thread: runs the actions of holders as losses come, until it is closed
/// and nothing is left to be run.
fn run_callbacks(shared: &Shared, closed: &Notify) {
    block_on(async {
        loop {
            let (due, ended) = (shared.holders.take_actions(), closed.wait());
            pin_mut!(due, ended);
            let due = match select(due, ended).await {
                Either::Left((due, _)) => due,
                // What came between the two questions.
                Either::Right(((), due)) => match due.now_or_never() {
                    Some(due) => due,
                    None => return,
                },
            };
            for holder in due {
                // One action that hangs must not hold up another's.
                run_apart("dl-action", move || {
                    if let Some(holder) = holder.upgrade() {
                        holder.act();
                    }
                });
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::{Sender, channel};

    use parking_lot::Mutex;

    use super::*;
    use crate::format::HostId;
    use crate::host::{Holder, LossReason, Notice, Victim};
    use crate::libvirt::LeaseDirectory;
    use crate::lockspace::{HolderToken, Lockspace, Watchdog, WatchedFile};
    use crate::runtime::disk::{Access, Disk, IoPool, Links, NamedFile, OpenOptions};
    use crate::world::World as _;

    #[test]
    fn a_thread_that_dies_loses_all_leases_and_one_that_ends_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let n = Duration::from_secs(1);
        let path = LeaseDirectory::new(dir.path()).create_lockspace(n).unwrap();
        let lockspace = Lockspace::options(Watchdog::None)
            .io_timeout(n)
            .runtime_dir(dir.path().join("run"))
            .join(path, HostId::FIRST)
            .unwrap();
        let shared = &lockspace.inner().shared;
        Death::of(shared).ended_well();
        assert!(lockspace.is_held() && lockspace.loss().is_none());
        let died = catch_unwind(AssertUnwindSafe(|| {
            let _death = Death::of(shared);
            panic!("on purpose");
        }));
        assert!(died.is_err());
        assert!(!lockspace.is_held());
        assert_eq!(lockspace.loss(), Some(LossReason::ThreadDied));
    }

    /// Keeps its member host alive as a guard does, and is let go by its owner while it is being killed.
    struct LetGo {
        lockspace: Option<Lockspace>,
        owners: Mutex<Option<Arc<dyn Holder>>>,
        ended: Sender<Option<String>>,
    }

    impl Holder for LetGo {
        fn notice(&self, _: Notice) {}
        fn mark_lost(&self, _: &LossReason) -> bool {
            false
        }
        fn act(&self) {}
        fn victim(&self) -> Victim {
            Victim::ThisProcess
        }
        fn kill(&self) {
            drop(self.owners.lock().take());
        }
    }

    impl Drop for LetGo {
        fn drop(&mut self) {
            drop(self.lockspace.take());
            let thread = std::thread::current();
            let _ = self.ended.send(thread.name().map(str::to_owned));
        }
    }

    /// Has the thread die that tells it of a loss.
    struct Deadly;

    impl Holder for Deadly {
        fn notice(&self, _: Notice) {}
        fn mark_lost(&self, _: &LossReason) -> bool {
            panic!("on purpose");
        }
        fn act(&self) {}
        fn victim(&self) -> Victim {
            Victim::Nobody
        }
        fn kill(&self) {}
    }

    #[test]
    fn the_death_of_the_thread_that_watches_the_files_loses_all_leases() {
        let dir = tempfile::tempdir().unwrap();
        let second = Duration::from_secs(1);
        let path = LeaseDirectory::new(dir.path())
            .create_lockspace(second)
            .unwrap();
        let lockspace = Lockspace::options(Watchdog::None)
            .io_timeout(second)
            .runtime_dir(dir.path().join("run"))
            .join(path, HostId::FIRST)
            .unwrap();
        let lease = dir.path().join("lease");
        std::fs::write(&lease, [0; 4096]).unwrap();
        let opened = OpenOptions::new(Access::ReadOnly).open(&lease).unwrap();
        let pool = IoPool::new("test", 1..=1).unwrap();
        let file = NamedFile::new(lease.clone(), Links::Refuse, Disk::new(opened, &pool));
        let holder: Arc<dyn Holder> = Arc::new(Deadly);
        let file = WatchedFile::new(file, None);
        let mut token = HolderToken::new(&lockspace.inner().shared, false).unwrap();
        token.register(&holder, vec![file]);
        std::fs::remove_file(lease).unwrap();
        let end = clock::now() + Duration::from_secs(20);
        while lockspace.loss().is_none() && clock::now() < end {
            std::thread::yield_now();
        }
        assert_eq!(lockspace.loss(), Some(LossReason::ThreadDied));
        assert!(!lockspace.is_held());
        drop(token);
    }

    /// Says when it is killed.
    struct Stubborn(Mutex<Sender<()>>);

    impl Holder for Stubborn {
        fn notice(&self, _: Notice) {}
        fn mark_lost(&self, _: &LossReason) -> bool {
            false
        }
        fn act(&self) {}
        fn victim(&self) -> Victim {
            Victim::ThisProcess
        }
        fn kill(&self) {
            let _ = self.0.lock().send(());
        }
    }

    #[test]
    fn a_runtime_directory_that_hangs_keeps_nobody_from_being_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let second = Duration::from_secs(1);
        let path = LeaseDirectory::new(dir.path())
            .create_lockspace(second)
            .unwrap();
        let run = dir.path().join("run");
        let lockspace = Lockspace::options(Watchdog::None)
            .io_timeout(second)
            .fire_timeout(second)
            .without_deadman()
            .runtime_dir(&run)
            .join(&path, HostId::FIRST)
            .unwrap();
        let files = std::fs::read_dir(&run).unwrap();
        let mut files = files.map(|entry| entry.unwrap().path());
        let record = files.find(|path| path.extension().is_some_and(|end| end == "incarnation"));
        let record = record.unwrap();
        let is_recorded = || std::fs::metadata(&record).unwrap().len() > 0;
        assert!(is_recorded());
        let (tell, killed) = channel();
        let holder: Arc<dyn Holder> = Arc::new(Stubborn(Mutex::new(tell)));
        let shared = &lockspace.inner().shared;
        let registration = shared.holders.register(&holder, clock::now());
        // Whoever writes there hangs for as long as this is locked.
        let hanging = shared.process_lock.lock();
        let open = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&open, &[7; 512], 0).unwrap();
        let twice = [(); 2].map(|()| killed.recv_timeout(Duration::from_secs(30)));
        assert_eq!(twice, [Ok(()); 2]);
        assert!(is_recorded());
        drop(hanging);
        let end = clock::now() + Duration::from_secs(30);
        while is_recorded() {
            assert!(clock::now() < end, "the record is still there");
            block_on(StorageWorld.sleep(Duration::from_millis(1)));
        }
        drop(registration);
    }

    #[test]
    fn the_last_handle_may_be_dropped_on_the_thread_that_renews() {
        let dir = tempfile::tempdir().unwrap();
        let second = Duration::from_secs(1);
        let path = LeaseDirectory::new(dir.path())
            .create_lockspace(second)
            .unwrap();
        let lockspace = Lockspace::options(Watchdog::None)
            .io_timeout(second)
            .fire_timeout(second)
            .without_deadman()
            .runtime_dir(dir.path().join("run"))
            .join(path, HostId::FIRST)
            .unwrap();
        let holders = Arc::clone(&lockspace.inner().shared.holders);
        let (ended, told) = channel();
        let holder = Arc::new(LetGo {
            lockspace: Some(lockspace),
            owners: Mutex::new(None),
            ended,
        });
        let as_holder: Arc<dyn Holder> = Arc::<LetGo>::clone(&holder);
        *holder.owners.lock() = Some(Arc::clone(&as_holder));
        let registration = holders.register(&as_holder, clock::now());
        drop((holder, as_holder));
        registration.lose(&LossReason::LeaseReplaced, clock::now());
        // Only after that leave has come back.
        let thread = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(thread.as_deref(), Some("dl-renewal"));
    }
}
