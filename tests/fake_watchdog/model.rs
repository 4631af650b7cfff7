//! What a watchdog device does, as `Documentation/watchdog/watchdog-api.rst` of the kernel has it.

use std::time::{Duration, Instant};

/// What kind of device it is.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "what a device can and cannot do"
)]
pub(crate) struct Traits {
    /// Stops only at a close after "V"; else at every close.
    pub(crate) magic_close: bool,
    pub(crate) keepalive: bool,
    pub(crate) settable: bool,
    /// Can be stopped while it is open.
    pub(crate) disables: bool,
    /// Before anybody sets it.
    pub(crate) timeout: i32,
    /// More is cut to this.
    pub(crate) longest: i32,
}

impl Default for Traits {
    fn default() -> Self {
        Self {
            magic_close: true,
            keepalive: true,
            settable: true,
            disables: true,
            timeout: 60,
            longest: 65_535,
        }
    }
}

/// What has happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Opened,
    SetTimeout(i32),
    /// By a write of something else than "V".
    Fed,
    /// By an ioctl.
    KeptAlive,
    /// "V".
    Magic,
    /// Stopped while it is open.
    Disabled,
    /// After which it does not count.
    Stopped,
    /// While it counts.
    ClosedUnclean,
}

/// The device.
#[derive(Debug)]
pub(crate) struct Model {
    traits: Traits,
    timeout: i32,
    open: bool,
    may_stop: bool,
    /// Since when it counts, if it does.
    fed_at: Option<Instant>,
    fired_at: Option<Instant>,
    /// Writes fail.
    pub(crate) broken: bool,
    events: Vec<(Instant, Event)>,
}

impl Model {
    pub(crate) fn new(traits: Traits) -> Self {
        Self {
            traits,
            timeout: traits.timeout,
            open: false,
            may_stop: false,
            fed_at: None,
            fired_at: None,
            broken: false,
            events: Vec::new(),
        }
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = (Instant, Event)> {
        self.events.iter().copied()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn is_counting(&self) -> bool {
        self.fed_at.is_some()
    }

    /// When the host would have been reset for the first time.
    pub(crate) fn fired_at(&mut self) -> Option<Instant> {
        if let Some(fed_at) = self.fed_at {
            let due = fed_at + Duration::from_secs(u64::try_from(self.timeout).unwrap());
            if due <= Instant::now() {
                self.fired_at.get_or_insert(due);
            }
        }
        self.fired_at
    }

    fn note(&mut self, event: Event) {
        self.fired_at();
        self.events.push((Instant::now(), event));
    }

    fn count(&mut self) {
        self.fed_at = Some(Instant::now());
    }

    pub(super) fn open(&mut self) -> bool {
        if self.open {
            return false;
        }
        self.note(Event::Opened);
        self.open = true;
        self.may_stop = false;
        self.count();
        true
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        if self.broken {
            return false;
        }
        self.may_stop = bytes.contains(&b'V');
        self.note(if self.may_stop {
            Event::Magic
        } else {
            Event::Fed
        });
        self.count();
        true
    }

    pub(super) fn keepalive(&mut self) {
        self.note(Event::KeptAlive);
        self.count();
    }

    pub(super) fn set_timeout(&mut self, wanted: i32) -> Option<i32> {
        if !self.traits.settable || wanted < 1 {
            return None;
        }
        self.note(Event::SetTimeout(wanted));
        self.timeout = wanted.min(self.traits.longest);
        self.count();
        Some(self.timeout)
    }

    pub(super) fn disable(&mut self) -> bool {
        if self.traits.disables {
            self.note(Event::Disabled);
            self.fed_at = None;
        }
        self.traits.disables
    }

    pub(super) fn timeout(&self) -> i32 {
        self.timeout
    }

    /// `struct watchdog_info`.
    pub(super) fn support(&self) -> Vec<u8> {
        let mut options = 0_u32;
        if self.traits.settable {
            options |= 0x80;
        }
        if self.traits.magic_close {
            options |= 0x100;
        }
        if self.traits.keepalive {
            options |= 0x8000;
        }
        let mut info = [options.to_ne_bytes(), [0; 4]].concat();
        info.extend_from_slice(b"Fake Watchdog");
        info.resize(40, 0);
        info
    }

    pub(super) fn close(&mut self) {
        self.open = false;
        if self.may_stop || !self.traits.magic_close || self.fed_at.is_none() {
            self.note(Event::Stopped);
            self.fed_at = None;
        } else {
            self.note(Event::ClosedUnclean);
            self.count();
        }
    }
}
