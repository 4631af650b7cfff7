//! How a lockspace is to be joined.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::format::{Generation, HostId, HostName, LockspaceId, LockspaceName, NameBytes};

/// What stops a holder that may no longer write, when nothing nearer has stopped it.
///
/// There is no default: the caller names one.
/// A watchdog is armed only while locks are held. **A process that ends while it holds some has the
/// host reset**, for it has not said that they are not used any more: with a watchdog, hold the locks
/// of all guests of a host in one process that is made to last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Watchdog {
    /// Nothing does. What is then **not** covered: a holder that was notified of its loss and does not
    /// stop; a process that stands still while it holds a lease and goes on afterwards without
    /// asking its guard; a write that hangs in the kernel and completes after 8N + F.
    None,
    /// wdmd, sanlock's watchdog daemon, resets the host. It can have several clients on a host,
    /// sanlock's own daemon among them. F must be its fire timeout: 60 s, but for wdmd newer than
    /// sanlock 3.8.5, which takes another.
    Wdmd,
    /// This watchdog device resets the host. No other program can use it meanwhile; a second
    /// member host needs another one. F must be 10 s at least.
    Device(PathBuf),
}

/// What a join is waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinProgress {
    /// The host id was left owned by an earlier generation, or is owned by somebody else. If its sector
    /// stays unchanged, it is free after `remaining`.
    WaitingForOwner {
        /// The host name in the sector.
        owner: NameBytes,
        /// The generation in the sector.
        generation: Generation,
        /// How much longer it must stay unchanged.
        remaining: Duration,
    },
    /// The host id is claimed; others that want it too must show themselves within
    /// `remaining`.
    Confirming {
        /// How much longer.
        remaining: Duration,
    },
    /// The host id is won, but another host names another fire timeout, and may live or not. If it
    /// renews, the join is refused; if not, the join goes on after `remaining`, and not much later.
    WaitingForHost {
        /// The other host.
        host_id: HostId,
        /// Its fire timeout.
        fire_timeout: Duration,
        /// How much longer it must stay silent.
        remaining: Duration,
    },
}

/// What is notified of the progress.
#[derive(Clone)]
pub(super) struct OnProgress(pub(super) Arc<dyn Fn(JoinProgress) + Send + Sync>);

/// How a lockspace is to be joined. Made by [`Lockspace::options`](super::Lockspace::options).
///
/// | option | default | limits |
/// | --- | --- | --- |
/// | [`io_timeout`](Self::io_timeout) | 10 s | whole seconds, 1 to 255 |
/// | [`fire_timeout`](Self::fire_timeout) | 60 s | whole seconds, 1 to 600; the same on all hosts |
/// | [`host_name`](Self::host_name) | this machine's name and boot | 1 to 47 bytes, unique |
/// | [`name`](Self::name) | `__LIBVIRT__DISKS__` | 1 to 48 bytes |
/// | [`lockspace_id`](Self::lockspace_id) | any, or none | |
/// | [`single_host`](Self::single_host) | no | |
/// | [`holds_for_others`](Self::holds_for_others) | no | |
/// | [`offset`](Self::offset) | 0 | a multiple of the sector size |
/// | deadman timer | on | off by [`without_deadman`](Self::without_deadman) |
/// | [`runtime_dir`](Self::runtime_dir) | `/run/disklease`, or below `XDG_RUNTIME_DIR` | local to this host |
/// | [`lease_threads`](Self::lease_threads) | 1 to 16, as needed | one at the least |
/// | [`wdmd_socket`](Self::wdmd_socket) | `/run/wdmd/wdmd.sock` | used with [`Watchdog::Wdmd`] only |
#[derive(Clone, Debug)]
#[must_use = "nothing is joined before `join` is called"]
pub struct LockspaceOptions {
    pub(super) watchdog: Watchdog,
    pub(super) deadman: bool,
    pub(super) io_timeout: Duration,
    pub(super) fire_timeout: Duration,
    pub(super) host_name: Option<HostName>,
    pub(super) name: Option<LockspaceName>,
    pub(super) lockspace_id: Option<LockspaceId>,
    pub(super) single_host: bool,
    pub(super) holds_for_others: bool,
    pub(super) offset: u64,
    pub(super) runtime_dir: Option<PathBuf>,
    pub(super) wdmd_socket: Option<PathBuf>,
    pub(super) lease_threads: Option<usize>,
    pub(super) on_progress: Option<OnProgress>,
}

impl LockspaceOptions {
    pub(super) const fn new(watchdog: Watchdog) -> Self {
        Self {
            watchdog,
            deadman: true,
            io_timeout: Duration::from_secs(10),
            fire_timeout: Duration::from_secs(60),
            host_name: None,
            name: None,
            lockspace_id: None,
            single_host: false,
            holds_for_others: false,
            offset: 0,
            runtime_dir: None,
            wdmd_socket: None,
            lease_threads: None,
            on_progress: None,
        }
    }

    /// N: the time limit of one read or write, from which all other times follow: leases are
    /// renewed every 2N, lost at 8N without a renewal, and taken over by others after 8N + F.
    /// It must be longer than the storage's worst pause, failover included, divided by 8.
    pub const fn io_timeout(mut self, io_timeout: Duration) -> Self {
        self.io_timeout = io_timeout;
        self
    }

    /// F: how long after 8N a holder may still need to be stopped. **All hosts of the lockspace
    /// must have the same**; with sanlock hosts it is 60 s. A join beside a live disklease host
    /// that has another is refused, and one that may live or not is waited for: for 8N + F and a
    /// second, by the longer F, where it is dead. sanlock hosts do not name theirs.
    pub const fn fire_timeout(mut self, fire_timeout: Duration) -> Self {
        self.fire_timeout = fire_timeout;
        self
    }

    /// Goes without the deadman timer: a timer in the kernel that kills **this process** with
    /// SIGKILL should it hold a lock that was lost, and neither drop the guard nor end, until a
    /// little after the grace ([`Timing::deadman_after`](crate::timing::Timing::deadman_after)); and
    /// should it stand still as a member, with or without a lock, until others are about to have its
    /// host id.
    ///
    /// Process 1 of a PID namespace, as a container's first process is, cannot be killed by it, so
    /// that it cannot join with one.
    ///
    /// Without it nothing stops a process that is stopped by SIGSTOP, or whose threads all hang,
    /// and that goes on later to write without asking its guard, but a host watchdog.
    pub const fn without_deadman(mut self) -> Self {
        self.deadman = false;
        self
    }

    /// This host's name: what others see, and what distinguishes two hosts that were given the same
    /// host id. By default the machine's name and the beginning of its boot id.
    pub fn host_name(mut self, host_name: HostName) -> Self {
        self.host_name = Some(host_name);
        self
    }

    /// The name that the lockspace must have.
    pub fn name(mut self, name: LockspaceName) -> Self {
        self.name = Some(name);
        self
    }

    /// The id that the lockspace must have, as `disklease status` shows it. A host on which another
    /// share is mounted, or none, is refused then. A lockspace that sanlock made has no id.
    pub const fn lockspace_id(mut self, id: LockspaceId) -> Self {
        self.lockspace_id = Some(id);
        self
    }

    /// Says that this host alone uses the lockspace: no warning then where it lies on a file system
    /// that no other host sees, as where the share is not mounted.
    pub const fn single_host(mut self) -> Self {
        self.single_host = true;
        self
    }

    /// Locks are held for processes that may go on running when this one is killed, or whose writes may land
    /// after their end, as on network file systems. So should that happen, no later join of this host
    /// id goes without the wait for the end of these leases: that this process and its children are
    /// gone says nothing of them. A lock for another process
    /// ([`Owner::process`](crate::Owner::process)) has the same effect from then on, unless that process is a
    /// child that has inherited the process lock.
    pub const fn holds_for_others(mut self) -> Self {
        self.holds_for_others = true;
        self
    }

    /// Where the lockspace starts in its file or device, in bytes.
    pub const fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Where this host keeps its process locks: a directory on a file system of this host alone, which
    /// is empty after a boot. While a process of ours, or a child of it, lives, a file there is
    /// locked; that is how a restarted process knows whether its earlier generation has ended, and may
    /// re-join without waiting; not after a process that ended while it joined. The file records which
    /// generation that was. Where the directory cannot be used, or the lockspace lies on a network file
    /// system, the process waits. Where the disks lie is not asked: keep them on the same kind of storage.
    ///
    /// **A child that closes the descriptors it inherits is not seen to run.** A caller that starts guests
    /// so must make sure that none outlives this process.
    pub fn runtime_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.runtime_dir = Some(dir.into());
        self
    }

    /// Where wdmd listens, if it is not where sanlock's packages have it.
    pub fn wdmd_socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.wdmd_socket = Some(socket.into());
        self
    }

    /// Starts this many threads for I/O on leases in the join, and neither starts nor ends one later
    /// on: for a process whose system call filter forbids new threads once it has its locks. Each
    /// does one I/O at a time; two are enough for a guest, of whose I/Os one may hang. Two more read held
    /// leases again.
    ///
    /// By default there is one, and up to fifteen more come when they are needed and end when they
    /// were idle for ten seconds.
    pub const fn lease_threads(mut self, threads: usize) -> Self {
        self.lease_threads = Some(threads);
        self
    }

    /// Is notified of each wait of the join as it starts. Called on the joining thread; must not block.
    pub fn on_progress(mut self, notify: impl Fn(JoinProgress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(OnProgress(Arc::new(notify)));
        self
    }
}

impl fmt::Debug for OnProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnProgress")
    }
}
