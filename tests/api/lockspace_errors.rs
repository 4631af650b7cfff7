//! Joining, leaving and losing a lockspace: each way in which it can go wrong, by name and in
//! bounded time.

mod devices;
mod files;
mod fire_timeouts;
mod in_flight;
mod lives;
mod loss;
mod place;
mod settling;
mod twice;
