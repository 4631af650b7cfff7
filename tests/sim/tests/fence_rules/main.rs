//! The rules by which holders are stopped that do not stop, one test for each, in virtual time.

mod escalation;
mod wrong;
