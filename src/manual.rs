//! The pages below `docs/` of this repository: for operators, embedders and reviewers.
//!
//! | page | for whom, and what |
//! | --- | --- |
//! | [`command`] | operators: the command `disklease` |
//! | [`embedding`] | VMM authors: what to call when, threads, system calls |
//! | [`failure_model`] | both: the promise, each fault and its consequence, how a holder is stopped |
//! | [`watchdog`] | both: the watchdog of the host |
//! | [`interop`] | both: hosts with sanlock and libvirt in the same lockspace |
//! | [`protocol`] | reviewers: each rule, its reason, its test |
//! | [`on_disk_format`] | reviewers: every byte on the storage |
//! | [`simulation`] | reviewers: how the protocol is tested in simulated worlds, and what the tests found |
//!
//! A page links to another by a label, `[text][page.md]`, and defines the label at its end, as a file. Here the same
//! label is defined before the page, as a module: the first definition of a label counts.

/// [failure-model.md#the-escalation]: crate::manual::failure_model#the-escalation
/// [watchdog.md]: crate::manual::watchdog
///
#[doc = include_str!("../docs/command.md")]
pub mod command {}

/// [failure-model.md#the-escalation]: crate::manual::failure_model#the-escalation
/// [watchdog.md]: crate::manual::watchdog
///
#[doc = include_str!("../docs/embedding.md")]
pub mod embedding {}

/// [command.md#what-stands-between]: crate::manual::command#what-stands-between
/// [embedding.md#suspend-and-resume]: crate::manual::embedding#suspend-and-resume
/// [protocol.md#what-differs-from-sanlocks-protocol]: crate::manual::protocol#what-differs-from-sanlocks-protocol
/// [watchdog.md]: crate::manual::watchdog
///
#[doc = include_str!("../docs/failure-model.md")]
pub mod failure_model {}

/// [failure-model.md#how-a-holder-is-stopped]: crate::manual::failure_model#how-a-holder-is-stopped
///
#[doc = include_str!("../docs/watchdog.md")]
pub mod watchdog {}

/// [failure-model.md#the-promise]: crate::manual::failure_model#the-promise
/// [on-disk-format.md#a-lease-directory]: crate::manual::on_disk_format#a-lease-directory
///
#[doc = include_str!("../docs/interop.md")]
pub mod interop {}

/// [failure-model.md]: crate::manual::failure_model
/// [on-disk-format.md]: crate::manual::on_disk_format
/// [simulation.md]: crate::manual::simulation
///
#[doc = include_str!("../docs/protocol.md")]
pub mod protocol {}

/// [failure-model.md]: crate::manual::failure_model
/// [protocol.md]: crate::manual::protocol
/// [protocol.md#joining]: crate::manual::protocol#joining
/// [protocol.md#the-version-precondition]: crate::manual::protocol#the-version-precondition
///
#[doc = include_str!("../docs/on-disk-format.md")]
pub mod on_disk_format {}

/// [protocol.md]: crate::manual::protocol
/// [protocol.md#rules-of-the-claim]: crate::manual::protocol#rules-of-the-claim
///
#[doc = include_str!("../docs/simulation.md")]
pub mod simulation {}
