//! One lockspace with hosts of both kinds.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use disklease::format::{self, LockspaceName, ResourceName};
use disklease::libvirt::{LOCKSPACE_NAME, lease_name};
use disklease::{LeaseDirectory, LeaseSpec, LockRequest, Owner, PaxosManager};

use disklease_fixtures::host_process::{self, IO_TIMEOUT, IO_TIMEOUT_SECS, timed};
use disklease_fixtures::sanlock::{
    Geometry, HostState, Lockspace, Resource, SanlockClient, SanlockDaemon, ScratchLease,
    init_lockspace, init_resource, wait_until,
};

/// For what waits for no dead host.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Sanlock's host in these tests.
pub(crate) const SANLOCK_ID: u64 = 1;
pub(crate) const SANLOCK_NAME: &str = "alpha";
/// Ours.
pub(crate) const OUR_ID: u64 = 2;
pub(crate) const OUR_NAME: &str = "beta";

/// Who initialises the lockspace and the leases.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Maker {
    Sanlock,
    Us,
}

/// A lease directory as libvirt has it.
pub(crate) struct Directory {
    pub(crate) scratch: ScratchLease,
    maker: Maker,
    pub(crate) lockspace: Lockspace,
    pub(crate) leases: LeaseDirectory,
}

impl Directory {
    pub(crate) fn new(maker: Maker) -> Self {
        Self::of(maker, Geometry::DEFAULT)
    }

    /// With a lockspace made by `maker`.
    pub(crate) fn of(maker: Maker, geometry: Geometry) -> Self {
        let scratch = ScratchLease::new();
        let mut leases = LeaseDirectory::new(scratch.path());
        let path = match maker {
            Maker::Sanlock => scratch.file(LOCKSPACE_NAME, u64::from(geometry.align) >> 20),
            Maker::Us => {
                if geometry != Geometry::DEFAULT {
                    let ours = format::Geometry::new(geometry.sector, geometry.align.into());
                    leases = leases.geometry(ours.unwrap());
                }
                leases.create_lockspace(IO_TIMEOUT).unwrap()
            }
        };
        assert_eq!(path, leases.lockspace_path());
        let mut lockspace = Lockspace::new(LOCKSPACE_NAME, path);
        lockspace.geometry = geometry;
        if let Maker::Sanlock = maker {
            init_lockspace(&lockspace, IO_TIMEOUT_SECS);
        }
        Self {
            scratch,
            maker,
            lockspace,
            leases,
        }
    }

    /// The lease of a disk. Made here by sanlock; ours is made by whoever of us acquires it first.
    pub(crate) fn lease(&self, disk: &str) -> Lease {
        let name = lease_name(disk.as_ref()).to_string();
        let path = self.leases.lease_path(disk.as_ref());
        let resource = self.lockspace.resource(&name, path, 0);
        if let Maker::Sanlock = self.maker {
            let mib = u64::from(self.lockspace.geometry.align) >> 20;
            assert_eq!(self.scratch.file(&name, mib), resource.path);
            init_resource(&resource);
        }
        Lease {
            resource,
            what: What::Disk(disk.into()),
        }
    }

    /// Both hosts, joined at the same time and knowing each other live.
    pub(crate) fn hosts(&self) -> (Sanlock, PaxosManager) {
        hosts(&self.lockspace, || {
            host_process::join(&self.leases, OUR_ID, OUR_NAME)
        })
    }
}

/// A daemon that has joined as host 1, and a process that acquires through it.
pub(crate) struct Sanlock {
    // In this order: the client ends while there is a daemon.
    pub(crate) client: SanlockClient,
    pub(crate) daemon: SanlockDaemon,
}

impl Sanlock {
    pub(crate) fn join(lockspace: &Lockspace) -> Self {
        let daemon = SanlockDaemon::start(SANLOCK_NAME);
        let (joined, took) =
            timed(|| daemon.add_lockspace(lockspace, SANLOCK_ID, IO_TIMEOUT_SECS, LIMIT));
        assert_eq!(joined, Ok(()), "{}", daemon.log());
        println!("time: sanlock joined in {took:?}");
        daemon.wait_for_host(lockspace, SANLOCK_ID, HostState::Live, LIMIT);
        let client = SanlockClient::register(&daemon);
        Self { client, daemon }
    }
}

pub(crate) fn hosts(
    lockspace: &Lockspace,
    join: impl FnOnce() -> PaxosManager,
) -> (Sanlock, PaxosManager) {
    thread::scope(|scope| {
        let sanlock = scope.spawn(|| Sanlock::join(lockspace));
        let ours = join();
        let sanlock = sanlock.join().expect("sanlock joins");
        sanlock
            .daemon
            .wait_for_host(lockspace, OUR_ID, HostState::Live, LIMIT);
        wait_until("sanlock's host is live to us", LIMIT, || {
            let hosts = ours.lockspace().hosts();
            let sanlock = hosts
                .iter()
                .find(|host| u64::from(host.host_id) == SANLOCK_ID);
            sanlock
                .filter(|host| host.state == disklease::HostState::Live)
                .map(drop)
        });
        (sanlock, ours)
    })
}

/// A lease as both sides name it.
pub(crate) struct Lease {
    pub(crate) resource: Resource,
    what: What,
}

enum What {
    Disk(PathBuf),
    Lease(LeaseSpec),
}

impl Lease {
    /// A lease of its own name at a place of its own, initialised by sanlock.
    pub(crate) fn at(lockspace: &Lockspace, name: &str, path: PathBuf, offset: u64) -> Self {
        let resource = lockspace.resource(name, path, offset);
        init_resource(&resource);
        let spec = LeaseSpec::new(
            LockspaceName::new(&lockspace.name).unwrap(),
            ResourceName::new(name).unwrap(),
            &resource.path,
            offset,
        );
        Self {
            resource,
            what: What::Lease(spec),
        }
    }

    /// Our request for it, which would not wait.
    pub(crate) fn request(&self) -> LockRequest {
        match &self.what {
            What::Disk(disk) => host_process::disk(disk),
            What::Lease(spec) => LockRequest::new(Owner::this_process("guest")).lease(spec.clone()),
        }
    }
}
