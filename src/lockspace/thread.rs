//! The two threads of a join: one renews, one runs the callbacks of those who lost their leases.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use futures_util::future::{Either, join, select};
use futures_util::pin_mut;
use parking_lot::Mutex;

use super::Shared;
use super::debts::settle_debts;
use super::loss::LossReason;
use super::renewal::keep_renewed;
use super::signal::Signal;
use crate::delta_lease::DeltaLease;
use crate::disk::StorageWorld;
use crate::world::executor::block_on;

/// Something that is taken out once, by whoever comes first.
pub(super) type Slot<T> = Mutex<Option<T>>;

/// Plenty for the futures that run on it; a process that locks its memory pays for all of it.
const STACK_SIZE: usize = 512 * 1024;

/// The running threads.
pub(super) struct RenewalThread {
    stop: Arc<Signal>,
    renewal: JoinHandle<DeltaLease>,
    callbacks: JoinHandle<()>,
}

impl RenewalThread {
    /// Starts both. `lease` is renewed from now on.
    pub(super) fn start(shared: &Arc<Shared>, lease: DeltaLease) -> io::Result<Self> {
        let stop = Arc::new(Signal::default());
        let callbacks = {
            let shared = Arc::clone(shared);
            builder("dl-callbacks").spawn(move || shared.losses.run())?
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
                shared.losses.close();
                drop(callbacks.join());
                Err(error)
            }
        }
    }

    /// Ends both, and gives the lease back, unless its thread has died. Does not wait for I/O.
    pub(super) fn stop(self, shared: &Shared) -> Option<DeltaLease> {
        self.stop.set();
        let lease = self.renewal.join().ok();
        shared.losses.close();
        // A callback may be what drops the last handle; then this is the board's own thread.
        if self.callbacks.thread().id() != std::thread::current().id() {
            drop(self.callbacks.join());
        }
        lease
    }
}

fn builder(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(STACK_SIZE)
}

/// The body of the renewal thread.
fn run(shared: &Shared, stop: &Signal, mut lease: DeltaLease) -> DeltaLease {
    let death = Death {
        shared,
        ended_well: false,
    };
    {
        let work = async {
            let renewal = async {
                let reason = keep_renewed(&StorageWorld, &shared.membership, &mut lease).await;
                tracing::error!(
                    lockspace = %shared.membership.area().name,
                    host_id = shared.membership.host_id().get(),
                    generation = shared.membership.generation().get(),
                    %reason,
                    "all leases of this lockspace are lost"
                );
                shared.losses.announce(&reason);
            };
            // Debts need a membership; they end with it.
            join(renewal, settle_debts(&StorageWorld, shared)).await
        };
        let stopped = stop.wait();
        pin_mut!(work, stopped);
        block_on(async {
            // After a loss there is nothing left to do but to wait for the stop.
            if let Either::Left((_, stopped)) = select(work, stopped).await {
                stopped.await;
            }
        });
    }
    death.ended_well();
    lease
}

/// A renewal thread that dies must not leave its leases looking held.
struct Death<'a> {
    shared: &'a Shared,
    ended_well: bool,
}

impl Death<'_> {
    fn ended_well(mut self) {
        self.ended_well = true;
    }
}

impl Drop for Death<'_> {
    fn drop(&mut self) {
        if !self.ended_well {
            self.shared.membership.expiry().lose();
            tracing::error!("the renewal thread of disklease has died: all leases are lost");
            self.shared.losses.announce(&LossReason::RenewalThreadDied);
        }
    }
}
