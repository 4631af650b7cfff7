//! The rules of leases on host ids, one test for each, in virtual time.

mod expiry;
mod fire_timeouts;
mod hosts;
mod join;
mod join_races;
mod late_twins;
mod renewal;
mod twins;
mod wrong;
