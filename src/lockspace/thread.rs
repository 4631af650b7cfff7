//! The threads of a join: one renews, some watch the paths, one runs the callbacks of those who
//! lost their leases.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use futures_util::future::{Either, join, select};
use futures_util::pin_mut;
use parking_lot::Mutex;

use super::Shared;
use super::board::Notice;
use super::held::reread_held;
use super::keep::keep_held;
use super::loss::LossReason;
use super::renewal::Upkeep;
use super::settle::settle_debts;
use super::signal::Signal;
use super::watch::PathWatch;
use crate::delta_lease::DeltaLease;
use crate::disk::StorageWorld;
use crate::fence::OwnerProcess;
use crate::world::executor::block_on;
use crate::world::{Timestamp, World, clock};

/// Something that is taken out once, by whoever comes first.
pub(super) type Slot<T> = Mutex<Option<T>>;

/// Plenty for the futures that run on it; a process that locks its memory pays for all of it.
pub(super) const STACK_SIZE: usize = 512 * 1024;

/// How long the end of a thread is waited for, and how often it is looked for.
const PATIENCE: Duration = Duration::from_millis(200);
const CALLBACKS_PATIENCE: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The running threads.
pub(super) struct RenewalThread {
    stop: Arc<Signal>,
    renewal: JoinHandle<DeltaLease>,
    callbacks: JoinHandle<()>,
}

impl RenewalThread {
    /// Starts all. `lease` is renewed from now on, and the path of the lockspace watched, if it has one.
    pub(super) fn start(shared: &Arc<Shared>, lease: DeltaLease) -> io::Result<Self> {
        let stop = Arc::new(Signal::default());
        PathWatch::start_threads(shared)?;
        let callbacks = {
            let shared = Arc::clone(shared);
            builder("dl-callbacks").spawn(move || shared.board.run())
        };
        let callbacks = match callbacks {
            Ok(callbacks) => callbacks,
            Err(error) => {
                shared.watch.stop();
                return Err(error);
            }
        };
        let renewal = {
            let (shared, stop) = (Arc::clone(shared), Arc::clone(&stop));
            builder("dl-renewal").spawn(move || run(&shared, &stop, lease))
        };
        match renewal {
            Ok(renewal) => Ok(Self {
                stop,
                renewal,
                callbacks,
            }),
            Err(error) => {
                shared.watch.stop();
                shared.board.close();
                drop(callbacks.join());
                Err(error)
            }
        }
    }

    /// Ends the renewals, and gives the lease back, unless the thread has died, hangs, or is the one
    /// that dropped the last handle. Does not wait for I/O.
    pub(super) fn stop_renewing(
        self,
        shared: &Shared,
        limit: Duration,
    ) -> (Option<DeltaLease>, Rest) {
        self.stop.set();
        let lease = end_soon(self.renewal, limit.max(PATIENCE));
        // Only then: it may have left something to be done.
        shared.watch.stop();
        let callbacks = self.callbacks;
        (lease, Rest { callbacks })
    }
}

/// The threads that nothing on the disk waits for.
pub(super) struct Rest {
    callbacks: JoinHandle<()>,
}

impl Rest {
    pub(super) fn end(self, shared: &Shared) {
        shared.board.close();
        end_soon(self.callbacks, CALLBACKS_PATIENCE);
        let until = clock::now() + PATIENCE;
        for thread in shared.watch.threads() {
            end_soon(thread, until.since(clock::now()));
        }
    }
}

/// Waits a moment for a thread that ends soon, unless it hangs: in a look at a path, a log that is
/// full, or a callback where no thread was to be had for it. Then it ends with that.
///
/// Whoever tells a holder keeps it alive for that long, and a holder keeps its join alive; so the last
/// handle may be dropped on any of these threads. None can wait for itself.
fn end_soon<T>(thread: JoinHandle<T>, limit: Duration) -> Option<T> {
    if thread.thread().id() == std::thread::current().id() {
        return None;
    }
    let until = clock::now() + limit;
    block_on(async {
        while !thread.is_finished() && clock::now() < until {
            StorageWorld.sleep(LOOK_INTERVAL).await;
        }
    });
    thread.is_finished().then(|| thread.join().ok()).flatten()
}

/// Runs `work` on a thread of its own; where none is to be had, here and now.
pub(super) fn run_apart(name: &str, work: impl Fn() + Send + Sync + 'static) {
    let work = Arc::new(work);
    let apart = Arc::clone(&work);
    let started = Builder::new().name(name.to_owned()).spawn(move || apart());
    if let Err(error) = started {
        tracing::warn!(name, %error, "no thread is to be had for what may take long: others wait for it");
        work();
    }
}

pub(super) fn builder(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(STACK_SIZE)
}

/// The body of the renewal thread.
fn run(shared: &Shared, stop: &Signal, mut lease: DeltaLease) -> DeltaLease {
    let death = Death::of(shared);
    {
        let work = async {
            let kept = keep_held(
                &StorageWorld,
                &shared.membership,
                &mut lease,
                &shared.board,
                shared,
            );
            // Debts need a membership; they end with it.
            let debts = settle_debts(&StorageWorld, &shared.membership, &shared.leases);
            // The same is true of what is held.
            let reread = reread_held(&StorageWorld, &shared.membership, &shared.leases);
            join(kept, join(debts, reread)).await
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

/// A thread that dies, of those that keep the leases honest, must not leave them looking held.
pub(super) struct Death<'a> {
    shared: &'a Shared,
    ended_well: bool,
}

impl<'a> Death<'a> {
    pub(super) const fn of(shared: &'a Shared) -> Self {
        Self {
            shared,
            ended_well: false,
        }
    }

    pub(super) fn ended_well(mut self) {
        self.ended_well = true;
    }
}

impl Drop for Death<'_> {
    fn drop(&mut self) {
        if !self.ended_well {
            self.shared.membership.expiry().lose();
            let reason = LossReason::ThreadDied;
            self.shared.board.announce(&reason, clock::now());
            tracing::error!("a thread of disklease has died: all leases are lost");
        }
    }
}

impl Upkeep for Shared {
    fn renewed(&self, renewed_at: Timestamp, took: Duration) {
        self.board.renewed(renewed_at);
        if let Some(error) = self.board.unset() {
            // As it stands the timer kills this process soon: whoever can stop has to do so before.
            self.membership.expiry().lose();
            let reason = LossReason::DeadmanUnset(error);
            self.board.announce(&reason, clock::now());
            return;
        }
        self.tell_watchdog();
        let io_timeout = self.membership.timing().io();
        if self.renewals.renewed(took, io_timeout) {
            self.board.notice(Notice::Renewed);
        }
    }

    fn missed(&self, missed: u32) {
        self.renewals.missed(missed);
    }

    fn lost(&self, since: Timestamp) {
        // Once more: its clock may have stood still in suspend.
        if let Some(in_force) = self.host_fence.extend(since) {
            self.board.notice(Notice::Watchdog { in_force });
        }
        if let Some(LossReason::Overwritten(_)) = self.board.reason() {
            // Perhaps by a copy of this very process, on a machine that was cloned with it.
            self.watch.revoke_proof();
        }
    }

    fn warned(&self, missed: u32, left: Duration) {
        self.renewals.warned();
        self.board.notice(Notice::Warned { missed, left });
    }
}

impl Shared {
    /// Sees to it that no later join of this host id goes without a wait once this process is gone, if
    /// `owner`, for which locks are to be held, may live on then unnoticed.
    pub(crate) fn mind_owner(&self, owner: &OwnerProcess) {
        let life_lock = self.life_lock.lock().clone();
        if let Some(lock) = life_lock.filter(|lock| !lock.is_inherited_by(owner.pid())) {
            lock.revoke();
        }
    }

    /// May block as the file system of the runtime directory does.
    pub(crate) fn revoke_proof(&self) {
        let life_lock = self.life_lock.lock().clone();
        if let Some(lock) = life_lock {
            lock.revoke();
        }
    }

    /// A renewal was good.
    fn tell_watchdog(&self) {
        let Some(deadline) = self.membership.expiry().deadline() else {
            return;
        };
        if let Some(in_force) = self.host_fence.extend(deadline) {
            self.board.notice(Notice::Watchdog { in_force });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::disk::{Access, Disk, IoPool, Links, NamedFile, OpenOptions};
    use crate::format::HostId;
    use crate::libvirt::LeaseDirectory;
    use crate::lockspace::{Holder, Lockspace, Watchdog, WatchedFile};

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

    /// Keeps its join alive as a guard does, and is let go by its owner while it is being killed.
    struct LetGo {
        lockspace: Option<Lockspace>,
        owners: Mutex<Option<Arc<dyn Holder>>>,
        ended: Sender<Option<String>>,
    }

    impl Holder for LetGo {
        fn notice(&self, _: Notice) {}
        fn mark_lost(&self, _: &LossReason) {}
        fn has_actions(&self) -> bool {
            false
        }
        fn act(&self) {}
        fn is_fenced(&self) -> bool {
            true
        }
        fn is_foreign(&self) -> bool {
            false
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
        fn mark_lost(&self, _: &LossReason) {
            panic!("on purpose");
        }
        fn has_actions(&self) -> bool {
            false
        }
        fn act(&self) {}
        fn is_fenced(&self) -> bool {
            false
        }
        fn is_foreign(&self) -> bool {
            false
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
        let board = &lockspace.inner().shared.board;
        let file = WatchedFile::new(file, None);
        let subscription = board.subscribe(&holder, vec![file], clock::now());
        std::fs::remove_file(lease).unwrap();
        let end = clock::now() + Duration::from_secs(20);
        while lockspace.loss().is_none() && clock::now() < end {
            std::thread::yield_now();
        }
        assert_eq!(lockspace.loss(), Some(LossReason::ThreadDied));
        assert!(!lockspace.is_held());
        drop(subscription);
    }

    /// Says when it is killed.
    struct Stubborn(Mutex<Sender<()>>);

    impl Holder for Stubborn {
        fn notice(&self, _: Notice) {}
        fn mark_lost(&self, _: &LossReason) {}
        fn has_actions(&self) -> bool {
            false
        }
        fn act(&self) {}
        fn is_fenced(&self) -> bool {
            true
        }
        fn is_foreign(&self) -> bool {
            false
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
        let record = files.find(|path| path.extension().is_some_and(|end| end == "life"));
        let record = record.unwrap();
        let is_recorded = || std::fs::metadata(&record).unwrap().len() > 0;
        assert!(is_recorded());
        let (tell, killed) = channel();
        let holder: Arc<dyn Holder> = Arc::new(Stubborn(Mutex::new(tell)));
        let shared = &lockspace.inner().shared;
        let subscription = shared.board.subscribe(&holder, Vec::new(), clock::now());
        // Whoever writes there hangs for as long as this is locked.
        let hanging = shared.life_lock.lock();
        let open = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&open, &[7; 512], 0).unwrap();
        let twice = [(); 2].map(|()| killed.recv_timeout(Duration::from_secs(30)));
        assert_eq!(twice, [Ok(()); 2]);
        assert!(is_recorded());
        drop(hanging);
        let end = clock::now() + Duration::from_secs(30);
        while is_recorded() {
            assert!(clock::now() < end, "the record is still there");
            block_on(StorageWorld.sleep(LOOK_INTERVAL));
        }
        drop(subscription);
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
        let board = Arc::clone(&lockspace.inner().shared.board);
        let (ended, told) = channel();
        let holder = Arc::new(LetGo {
            lockspace: Some(lockspace),
            owners: Mutex::new(None),
            ended,
        });
        let as_holder: Arc<dyn Holder> = Arc::<LetGo>::clone(&holder);
        *holder.owners.lock() = Some(Arc::clone(&as_holder));
        let subscription = board.subscribe(&as_holder, Vec::new(), clock::now());
        drop((holder, as_holder));
        subscription.lose(&LossReason::LeaseTaken, clock::now());
        // Only after that leave has come back.
        let thread = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(thread.as_deref(), Some("dl-renewal"));
    }
}
