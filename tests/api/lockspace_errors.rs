//! Joining, leaving and losing a lockspace: each way in which it can go wrong, by name and in
//! bounded time.

mod cleanups;
mod devices;
mod files;
mod fire_timeouts;
mod in_flight;
mod incarnations;
mod loss;
mod place;
mod twice;
