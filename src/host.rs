//! What a member host does by itself, for as long as it is a member of a lockspace.
//!
//! It renews its delta lease, notifies the holders of leases and stops those that do not stop by
//! themselves, reads the leases again that are held, and cleans up what acquires and releases that
//! failed have left on the disk. All of it is `async fn`s over [`World`](crate::world::World) and
//! tables: in production the threads of a [`Lockspace`](crate::Lockspace) drive them, in tests the
//! simulator.
//!
//! | part | what |
//! | --- | --- |
//! | [`claim_with_timer`] | claims the host id, and observes the other hosts meanwhile |
//! | [`serve_holders`] | renews, announces a loss, and enforces the end of holders |
//! | [`HolderRegistry`] | the holders of leases, and how far each of them is in the escalation |
//! | [`LeaseTable`], [`Reservation`] | which leases this process has to do with |
//! | [`reread_held`] | reads held leases again |
//! | [`reconcile`] | the pending cleanups |

mod claim;
mod cleanup;
mod escalation;
mod leases;
mod loss;
mod member;
mod notify;
mod process_timer;
mod registry;
mod renewal;
mod reread;
mod rules;

pub use claim::claim_with_timer;
pub use cleanup::reconcile;
pub use escalation::Victim;
pub use leases::{LeaseTable, NotReserved, OnLoss, Reservation};
pub use loss::LossReason;
pub use member::{log_loss, lose_all, run_on, serve_holders};
pub use notify::Notify;
pub use process_timer::ProcessTimer;
pub use registry::{Holder, HolderId, HolderRegistry, Notice, Registration};
pub use renewal::{FailedRenewals, Loss, Upkeep, keep_renewed};
pub use reread::reread_held;
