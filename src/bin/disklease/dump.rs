//! `disklease dump`: what a file or device holds.

mod document;
mod text;

use std::path::PathBuf;

use disklease::inspect::{FileOptions, inspect_file};

use crate::exit::Failure;
use crate::view;

/// Show every lockspace and lease in a file or device
///
/// Nothing is written and nothing is locked. Damage is shown with its byte offset, beside all that
/// can be read. Areas are searched for at each MiB from the offset on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file or device
    path: PathBuf,
    /// Where to start, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let options = FileOptions::new().offset(args.offset);
    let document = document::Dump::from(&inspect_file(&args.path, options)?);
    view::print(&document, args.json, text::of)
}
