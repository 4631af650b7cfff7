//! The bytes: state strings and whole files, our own, and hostile ones.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod hostile_bytes;
mod state_properties;
