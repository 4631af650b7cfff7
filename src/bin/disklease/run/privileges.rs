//! Programs that would run as another user, out of the reach of our signals.

use std::env;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use crate::exit::Failure;
use crate::output::shown_path;

/// The bit of a set-user-id program.
const SET_USER_ID: u32 = 0o4000;

/// Whether this process may send signals to those of all users.
pub(super) fn reaches_all() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::KILL))
}

/// Refuses a command that is a set-user-id program of another user. It would start without that
/// user's rights, and fail by something that says nothing of us.
pub(super) fn check(program: &OsStr) -> Result<(), Failure> {
    let is_other = |file: &Metadata| {
        file.is_file() && file.mode() & SET_USER_ID != 0 && file.uid() != geteuid().as_raw()
    };
    match found(program) {
        Some((path, file)) if is_other(&file) => Err(Failure::new(
            126,
            format_args!(
                "{} is a set-user-id program, and what runs as user {} cannot be ended by this user: run disklease itself as root, or say --unkillable ignore",
                shown_path(&path),
                file.uid()
            ),
        )),
        _ => Ok(()),
    }
}

/// The file that is run for `program`, as far as it is found here.
fn found(program: &OsStr) -> Option<(PathBuf, Metadata)> {
    let with_metadata = |path: PathBuf| path.metadata().ok().map(|file| (path, file));
    if Path::new(program).components().count() != 1 || program.as_encoded_bytes().contains(&b'/') {
        return with_metadata(PathBuf::from(program));
    }
    let path = env::var_os("PATH")?;
    let mut all = env::split_paths(&path).filter_map(|dir| with_metadata(dir.join(program)));
    all.find(|(_, file)| file.is_file() && file.mode() & 0o111 != 0)
}
