//! Values of options, checked as clap reads them.

use std::error::Error;
use std::time::Duration;

use disklease::HostId;
use disklease::format::HostName;
use disklease::timing::{FireTimeout, IoTimeout};

/// Why a text is no such value.
pub(crate) type Refused = Box<dyn Error + Send + Sync>;

/// Whole seconds.
pub(crate) fn secs(text: &str) -> Result<Duration, Refused> {
    Ok(Duration::from_secs(text.parse()?))
}

pub(crate) fn io_timeout(text: &str) -> Result<IoTimeout, Refused> {
    Ok(IoTimeout::new(secs(text)?)?)
}

pub(crate) fn fire_timeout(text: &str) -> Result<FireTimeout, Refused> {
    Ok(FireTimeout::new(secs(text)?)?)
}

pub(crate) fn host_id(text: &str) -> Result<HostId, Refused> {
    Ok(HostId::new(text.parse()?)?)
}

pub(crate) fn host_name(text: &str) -> Result<HostName, Refused> {
    Ok(HostName::new(text)?)
}
