//! Who holds the lease in true time. Sees all, tells nobody, and panics when two hold at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use disklease::__sim::paxos_lease::HeldLease;

use super::clock::TrueTime;
use super::rig::Member;
use super::sched::Sim;

#[derive(Clone)]
struct Claim {
    id: u64,
    generation: u64,
    version: u64,
    member: Member,
}

#[derive(Default)]
struct Book {
    holder: Option<Claim>,
    /// Who held each version.
    versions: BTreeMap<u64, (u64, u64)>,
    holds: u64,
}

/// Keeps the book of one lease. All clones keep the same.
#[derive(Clone)]
pub struct Oracle {
    sim: Sim,
    book: Rc<RefCell<Book>>,
}

impl Oracle {
    pub fn new(sim: &Sim) -> Self {
        Self {
            sim: sim.clone(),
            book: Rc::default(),
        }
    }

    /// An acquire came back with success: from now on this host's guest may write, if the host is
    /// a member still.
    pub fn holds(&self, member: &Member, held: &HeldLease) {
        if !member.is_held() {
            return;
        }
        let mut book = self.book.borrow_mut();
        let now = self.sim.now();
        let (id, generation) = (member.id(), member.membership.generation().get());
        let version = held.version().get();
        if let Some(other) = &book.holder {
            let until = Self::until(&self.sim, other);
            assert!(
                now >= until,
                "two holders at {now:?}: host {}/{} with version {}, which may write until \
                 {until:?}, and host {id}/{generation} with version {version}\n{}",
                other.id,
                other.generation,
                other.version,
                self.sim.log_text(),
            );
        }
        if let Some(before) = book.versions.insert(version, (id, generation)) {
            panic!(
                "version {version} held twice: by host {before:?}, then by {id}/{generation}\n{}",
                self.sim.log_text()
            );
        }
        book.holds += 1;
        book.holder = Some(Claim {
            id,
            generation,
            version,
            member: member.clone(),
        });
    }

    /// The host's guest has stopped writing; or the host has crashed.
    pub fn no_longer_holds(&self, member: &Member) {
        let mut book = self.book.borrow_mut();
        if book.holder.as_ref().is_some_and(|claim| {
            claim.id == member.id() && claim.generation == member.membership.generation().get()
        }) {
            book.holder = None;
        }
    }

    /// How often the lease was held.
    pub fn holds_so_far(&self) -> u64 {
        self.book.borrow().holds
    }

    /// Until when a holder that does not give the lease back may write: F after its own leases were
    /// lost to it, or would be.
    fn until(sim: &Sim, claim: &Claim) -> TrueTime {
        let clock = sim.core.borrow().hosts[claim.member.host.0].clock;
        let expires_at = claim.member.expires_at.get();
        let fire = claim
            .member
            .membership
            .timing()
            .fire_timeout()
            .as_duration();
        clock.reaches((expires_at + fire).as_nanos())
    }
}
