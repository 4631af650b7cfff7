//! The format against bytes that sanlock wrote, and against bytes that nobody chose.

mod golden;
mod golden_delta;
mod golden_leaders;
mod properties;
