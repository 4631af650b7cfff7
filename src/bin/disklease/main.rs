//! The operator's command: make a lockspace, run a program under disk leases, and inspect leases.
//!
//! What it prints and its exit codes are documented in `docs/command.md`.
#![deny(unsafe_code)]

mod control;
mod deadlines;
mod dump;
mod exit;
mod hold;
mod init;
mod landing;
mod logging;
mod offspring;
mod output;
mod parse;
mod run;
mod session;
mod signals;
mod status;
mod view;

use std::error::Error as _;
use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{Parser, Subcommand};
use exit::Failure;

/// Disk leases: one disk, one running machine, over nothing but the shared storage itself.
#[derive(Debug, Parser)]
#[command(name = "disklease", version, arg_required_else_help = true)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 64 wrong usage, 69 the storage or the lockspace fails, 74 the output cannot be
written, 75 a disk is held by another host, or several hosts want it: try again.
`run` ends with the exit code of its command, 128 and the signal's number if a signal ended it, 70 if
the command left behind what had to be killed, 126 if it cannot be started, 127 if there is none.
`run` and `hold` end with 137 if the locks were lost.
Messages go to stderr. DISKLEASE_LOG or RUST_LOG (error, warn, info, debug, trace) says how many.";

#[derive(Debug, Subcommand)]
enum Command {
    Dump(dump::Args),
    Hold(Box<hold::Args>),
    Init(init::Args),
    Run(Box<run::Args>),
    Status(status::Args),
    #[command(name = hold::WARDEN, hide = true)]
    Warden(hold::WardenArgs),
    #[command(name = run::KEEPER, hide = true)]
    Keeper(run::GuardianArgs),
    #[command(name = run::GUARDIAN, hide = true)]
    Guardian(run::GuardianArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    // The hidden commands log nothing; one that fails says so on stderr.
    let is_silent = matches!(
        cli.command,
        Command::Keeper(_) | Command::Guardian(_) | Command::Warden(_)
    );
    if !is_silent {
        logging::start();
    }
    let done = |()| ExitCode::SUCCESS;
    let beside = |who: &str, ended: io::Result<()>| {
        let failed = |error| Failure::unavailable(format_args!("the {who}: {error}"));
        ended.map(done).map_err(failed)
    };
    let ended = match &cli.command {
        Command::Dump(args) => dump::run(args).map(done),
        Command::Hold(args) => hold::hold(args),
        Command::Init(args) => init::run(args).map(done),
        Command::Run(args) => run::run(args),
        Command::Status(args) => status::run(args).map(done),
        Command::Keeper(args) => beside("keeper", run::keep(args)),
        Command::Guardian(args) => beside("guardian", run::guard(args)),
        Command::Warden(args) => beside("warden", hold::ward(args)),
    };
    let code = ended.unwrap_or_else(|failure| failure.report());
    logging::flush();
    code
}

/// Help goes to stdout, wrong usage to stderr.
fn explain(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match output::print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        },
        // clap would print the value as it is, also what moves a terminal's cursor.
        ErrorKind::ValueValidation => {
            let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
            let (option, value) = (
                context(ContextKind::InvalidArg),
                context(ContextKind::InvalidValue),
            );
            let why = error.source().map_or(text, ToString::to_string);
            Failure::usage(format_args!("invalid value {value:?} for {option}: {why}")).report()
        }
        _ => Failure::usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end()).report(),
    }
}
