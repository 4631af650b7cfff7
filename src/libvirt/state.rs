//! State strings: which leases a guest had, and at which versions, as sanlock and libvirt write it.
//!
//! ```text
//! LOCKSPACE:NAME(:PATH:OFFSET){1..4}[:VERSION|:SH]     one lease
//! ```
//!
//! Several are joined by spaces. A backslash makes the next character part of its field. libvirt
//! keeps such a string with a suspended guest and sends it along with a migrating one.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::format::{LeaseVersion, LockspaceName, NameBytes, ResourceName};

/// Bytes of a path that fit.
const PATH_MAX: usize = 1023;
/// Bytes of the text of one lease, with escapes.
const LEASE_MAX: usize = 4400;
/// Disks of one lease.
const PLACES_MAX: usize = 4;
/// Before so many colons a space is part of a lease, escaped or not.
const COLONS_BEFORE_SPACE: usize = 3;

/// One lease of a state string.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseState {
    /// Its lockspace.
    pub lockspace: LockspaceName,
    /// Its name.
    pub name: ResourceName,
    /// The disks that hold it, one to four.
    pub places: Vec<LeasePlace>,
    /// How it was held.
    pub hold: HoldState,
}

/// Where a copy of a lease lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the format has no third field")]
pub struct LeasePlace {
    /// The file or device.
    pub path: PathBuf,
    /// Byte offset of the lease on it.
    pub offset: u64,
}

/// How a lease was held when the string was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the format has no fourth")]
pub enum HoldState {
    /// Exclusively, in this version. 0 is what sanlock writes for a lease that was not held.
    Version(LeaseVersion),
    /// In shared mode.
    Shared,
    /// The string does not say.
    Unsaid,
}

/// Why a text is no state string: where, and what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of a state string {kind}")]
#[non_exhaustive]
pub struct StateError {
    /// Which byte of the text; of a lease the first one.
    pub at: usize,
    /// What is wrong there.
    #[source]
    pub kind: StateErrorKind,
}

/// What is wrong with a state string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateErrorKind {
    /// There is nothing in it, or nothing between two spaces.
    #[error("begins no lease, where one must be")]
    Empty,
    /// A backslash with nothing after it.
    #[error("is a backslash that escapes nothing")]
    LooseEscape,
    /// A zero byte.
    #[error("is zero")]
    Nul,
    /// Too few fields, or too many.
    #[error(
        "begins a lease of {fields} fields: it takes lockspace, name, one to four paths with offsets, and a version or SH"
    )]
    Fields {
        /// How many it has.
        fields: usize,
    },
    /// A field is empty, or longer than what it stands for can be.
    #[error("begins a lease whose field {field} has {len} bytes: 1 to {max} are possible")]
    Length {
        /// Which field, from 1.
        field: usize,
        /// Its bytes, without escapes.
        len: usize,
        /// Bytes possible.
        max: usize,
    },
    /// A field is not the number that it should be.
    #[error("begins a lease whose field {field} is no number")]
    Number {
        /// Which field, from 1.
        field: usize,
    },
}

impl StateErrorKind {
    pub(crate) const fn at(self, at: usize) -> StateError {
        StateError { at, kind: self }
    }
}

impl LeaseState {
    /// A lease on one disk.
    #[must_use]
    pub fn new(
        lockspace: LockspaceName,
        name: ResourceName,
        path: impl Into<PathBuf>,
        offset: u64,
        hold: HoldState,
    ) -> Self {
        Self {
            lockspace,
            name,
            places: vec![LeasePlace {
                path: path.into(),
                offset,
            }],
            hold,
        }
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        escape(out, self.lockspace.as_name().text());
        out.push(b':');
        escape(out, self.name.as_name().text());
        for place in &self.places {
            out.push(b':');
            escape(out, place.path.as_os_str().as_bytes());
            out.extend_from_slice(format!(":{}", place.offset).as_bytes());
        }
        match self.hold {
            HoldState::Version(version) => {
                out.extend_from_slice(format!(":{version}").as_bytes());
            }
            HoldState::Shared => out.extend_from_slice(b":SH"),
            HoldState::Unsaid => {}
        }
    }
}

/// The state string of these leases. What [`parse_state`] reads as the same.
///
/// sanlock escapes paths and not names; here names are escaped too, and a backslash in a path is, or
/// the string could not be read again.
#[must_use]
pub fn state_string(leases: &[LeaseState]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, lease) in leases.iter().enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        lease.write_to(&mut out);
    }
    out
}

fn escape(out: &mut Vec<u8>, field: &[u8]) {
    for &byte in field {
        if matches!(byte, b'\\' | b':' | b' ') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// The leases of a state string, one or more. White space around it is skipped.
///
/// Stricter than sanlock's own reader, which takes `1M` for 1 and a version of no digits for 0.
///
/// # Errors
///
/// [`StateError`] for any text that is not a whole one.
pub fn parse_state(text: &[u8]) -> Result<Vec<LeaseState>, StateError> {
    let end = text.trim_ascii_end().len();
    // A space at the end that is escaped belongs to a field, which cannot be the last one.
    let body = text.get(..end).unwrap_or_default();
    let start = body.len().saturating_sub(body.trim_ascii_start().len());
    let mut leases = Vec::new();
    let (mut lease_at, mut fields) = (start, vec![Vec::new()]);
    let mut bytes = body.iter().enumerate().skip(start);
    while let Some((at, &byte)) = bytes.next() {
        let byte = match byte {
            0 => return Err(StateErrorKind::Nul.at(at)),
            b'\\' => match bytes.next() {
                None => return Err(StateErrorKind::LooseEscape.at(at)),
                Some((at, 0)) => return Err(StateErrorKind::Nul.at(at)),
                Some((_, &escaped)) => escaped,
            },
            b':' => {
                fields.push(Vec::new());
                continue;
            }
            b' ' if fields.len() > COLONS_BEFORE_SPACE => {
                leases.push(lease(lease_at..at, &fields)?);
                (lease_at, fields) = (at.saturating_add(1), vec![Vec::new()]);
                continue;
            }
            byte => byte,
        };
        if let Some(field) = fields.last_mut() {
            field.push(byte);
        }
    }
    leases.push(lease(lease_at..end, &fields)?);
    Ok(leases)
}

/// The lease in these bytes of the text, whose fields, without escapes, are these: one or more.
fn lease(bytes: Range<usize>, fields: &[Vec<u8>]) -> Result<LeaseState, StateError> {
    let read = match fields {
        [nothing] if nothing.is_empty() => Err(StateErrorKind::Empty),
        _ => expect_length(1, bytes.len(), LEASE_MAX).and_then(|()| lease_of(fields)),
    };
    read.map_err(|kind| kind.at(bytes.start))
}

fn lease_of(fields: &[Vec<u8>]) -> Result<LeaseState, StateErrorKind> {
    let wrong = StateErrorKind::Fields {
        fields: fields.len(),
    };
    let [lockspace, name, rest @ ..] = fields else {
        return Err(wrong);
    };
    let pairs = rest.chunks_exact(2);
    let hold = pairs.remainder();
    if !(1..=PLACES_MAX).contains(&pairs.len()) {
        return Err(wrong);
    }
    let lockspace = LockspaceName::from_disk(name_field(1, lockspace)?);
    let name = ResourceName::from_disk(name_field(2, name)?);
    let mut places = Vec::with_capacity(pairs.len());
    for (pair, field) in pairs.zip((3_usize..).step_by(2)) {
        let [path, offset] = pair else { continue };
        expect_length(field, path.len(), PATH_MAX)?;
        let field = field.saturating_add(1);
        places.push(LeasePlace {
            path: Path::new(OsStr::from_bytes(path)).to_owned(),
            offset: number(offset, false).ok_or(StateErrorKind::Number { field })?,
        });
    }
    let hold = match hold {
        [] => HoldState::Unsaid,
        [shared, ..] if shared == b"SH" => HoldState::Shared,
        [version, ..] => {
            let field = fields.len();
            let version = number(version, true).ok_or(StateErrorKind::Number { field })?;
            HoldState::Version(LeaseVersion::new(version))
        }
    };
    Ok(LeaseState {
        lockspace,
        name,
        places,
        hold,
    })
}

fn expect_length(field: usize, len: usize, max: usize) -> Result<(), StateErrorKind> {
    if (1..=max).contains(&len) {
        Ok(())
    } else {
        Err(StateErrorKind::Length { field, len, max })
    }
}

fn name_field(field: usize, bytes: &[u8]) -> Result<NameBytes, StateErrorKind> {
    expect_length(field, bytes.len(), LockspaceName::MAX_LEN)?;
    Ok(NameBytes::padded(bytes))
}

/// A decimal number without leading zeros; `0x` and hexadecimal digits, where sanlock takes them.
fn number(field: &[u8], or_hex: bool) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let is_plain =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit());
    match text.strip_prefix("0x") {
        Some(digits) if or_hex && is_plain(digits) => u64::from_str_radix(digits, 16).ok(),
        // sanlock would take one with a leading zero for an octal number.
        None if is_plain(text) && (text.len() == 1 || !text.starts_with('0')) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lockspace(name: &str) -> LockspaceName {
        LockspaceName::new(name).unwrap()
    }

    fn resource(name: &str) -> ResourceName {
        ResourceName::new(name).unwrap()
    }

    fn version(version: u64) -> HoldState {
        HoldState::Version(LeaseVersion::new(version))
    }

    #[test]
    fn a_string_of_sanlock_is_read() {
        let read = parse_state(
            b"__LIBVIRT__DISKS__:bfa0240911bc17753e0b473688822159:/var/lib/libvirt/sanlock/bfa0240911bc17753e0b473688822159:0:7",
        );
        let name = "bfa0240911bc17753e0b473688822159";
        let path = format!("/var/lib/libvirt/sanlock/{name}");
        assert_eq!(
            read,
            Ok(vec![LeaseState::new(
                lockspace("__LIBVIRT__DISKS__"),
                resource(name),
                path,
                0,
                version(7)
            )])
        );
    }

    #[test]
    fn several_are_separated_by_spaces_but_not_by_those_of_a_path() {
        let read = parse_state(b"LS:a b:/p q:0:1 LS:c:/p\\ q\\:r:1048576:SH LS:d:/p:0\n").unwrap();
        let shown: Vec<_> = read
            .iter()
            .map(|lease| {
                let place = &lease.places[0];
                (
                    lease.name.to_string(),
                    place.path.clone(),
                    place.offset,
                    lease.hold,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("a b".to_owned(), "/p q".into(), 0, version(1)),
                ("c".to_owned(), "/p q:r".into(), 1 << 20, HoldState::Shared),
                ("d".to_owned(), "/p".into(), 0, HoldState::Unsaid),
            ]
        );
    }

    #[test]
    fn up_to_four_disks() {
        let text = b"LS:R:/a:0:/b:1:/c:2:/d:3:0x1f".as_slice();
        let read = parse_state(text).unwrap();
        assert_eq!(read[0].places.len(), 4);
        assert_eq!(read[0].hold, version(31));
        let five = parse_state(b"LS:R:/a:0:/b:1:/c:2:/d:3:/e:4:5");
        assert_eq!(five, Err(StateErrorKind::Fields { fields: 13 }.at(0)));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let long = format!("LS:R:/{}:0:1", "x".repeat(1023));
        let fields = |at, fields| StateErrorKind::Fields { fields }.at(at);
        let number = |field| StateErrorKind::Number { field }.at(0);
        let length = |field, len, max| StateErrorKind::Length { field, len, max }.at(0);
        for (text, error) in [
            ("", StateErrorKind::Empty.at(0)),
            ("  ", StateErrorKind::Empty.at(0)),
            ("LS", fields(0, 1)),
            ("LS:R", fields(0, 2)),
            ("LS:R:/a", fields(0, 3)),
            ("LS:R:/a:0:1 x", fields(12, 1)),
            ("LS:R:/a:0:1\\", StateErrorKind::LooseEscape.at(11)),
            ("LS:R:/a\0:0:1", StateErrorKind::Nul.at(7)),
            ("LS:R:/a\\\0:0:1", StateErrorKind::Nul.at(8)),
            (":R:/a:0:1", length(1, 0, 48)),
            ("LS:R::0:1", length(3, 0, 1023)),
            (&long, length(3, 1024, 1023)),
            ("LS:R:/a:1M:1", number(4)),
            ("LS:R:/a:-1:1", number(4)),
            ("LS:R:/a:0x10:1", number(4)),
            ("LS:R:/a:0:", number(5)),
            ("LS:R:/a:0:SHARED", number(5)),
            ("LS:R:/a:0:010", number(5)),
            ("LS:R:/a:0:99999999999999999999", number(5)),
        ] {
            assert_eq!(parse_state(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn any_name_and_path_goes_to_text_and_back() {
        let odd = OsStr::from_bytes(b"/\xff \\:\\\\ :");
        let leases = [
            LeaseState::new(
                lockspace("L: \\"),
                resource(": x"),
                odd,
                u64::MAX,
                version(9),
            ),
            LeaseState::new(lockspace("L"), resource("R"), "/a", 0, HoldState::Shared),
            LeaseState::new(lockspace("L"), resource("R"), "/a", 0, HoldState::Unsaid),
        ];
        assert_eq!(
            parse_state(&state_string(&leases)).as_deref(),
            Ok(&leases[..])
        );
    }
}
