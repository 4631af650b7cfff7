//! The 48-byte names of lockspaces, resources and hosts.

use std::fmt;

use super::layout::fields;

/// Bytes of a name field.
const LEN: usize = 48;

/// A name field as it is on the disk: any 48 bytes.
///
/// `==` compares all of them. Whether two fields name the same thing is [`NameBytes::same_text`].
/// `Display` shows the bytes before the first NUL; what would move a terminal's cursor or text is
/// escaped. `Debug` shows all bytes but the NULs at the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameBytes([u8; LEN]);

impl Default for NameBytes {
    fn default() -> Self {
        Self::EMPTY
    }
}

fields! {
    NameBytes: 48, Self, |name: Self| name.0;
}

impl NameBytes {
    /// A field without a name.
    pub const EMPTY: Self = Self([0; LEN]);

    /// From the bytes of a field.
    #[must_use]
    pub const fn new(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }

    /// All bytes of the field.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// The bytes before the first NUL, or all 48.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// Whether there is nothing before the first NUL.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text().is_empty()
    }

    /// Whether both are the same name: what comes after the first NUL does not count.
    #[must_use]
    pub fn same_text(&self, other: &Self) -> bool {
        self.text() == other.text()
    }

    /// `text`, padded with NULs; cut to 48 bytes.
    pub(crate) fn padded(text: &[u8]) -> Self {
        Self(std::array::from_fn(|at| {
            text.get(at).copied().unwrap_or_default()
        }))
    }
}

impl fmt::Display for NameBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(&String::from_utf8_lossy(self.text())))
    }
}

impl fmt::Debug for NameBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().rposition(|&byte| byte != 0);
        let shown = end.map_or(&[][..], |end| self.0.get(..=end).unwrap_or(&self.0));
        write!(f, "\"{}\"", shown.escape_ascii())
    }
}

/// A text from a disk or a path, with what would move a terminal's cursor or text escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || reorders_text(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Line separators and the marks that change the direction of writing.
const fn reorders_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text that cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It has no bytes.
    #[error("a name must not be empty")]
    Empty,
    /// It has more bytes than its field has room for.
    #[error("a name of {len} bytes is too long: at most {max} fit")]
    TooLong {
        /// Bytes of the text.
        len: usize,
        /// Bytes that such a name may have.
        max: usize,
    },
    /// It has a NUL inside.
    #[error("a name must not contain a NUL, but byte {at} is one")]
    Nul {
        /// Where, in bytes from the start.
        at: usize,
    },
}

fn parse(text: &str, max: usize) -> Result<NameBytes, NameError> {
    let len = text.len();
    if len == 0 {
        return Err(NameError::Empty);
    }
    if len > max {
        return Err(NameError::TooLong { len, max });
    }
    match text.bytes().position(|byte| byte == 0) {
        Some(at) => Err(NameError::Nul { at }),
        None => Ok(NameBytes::padded(text.as_bytes())),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NameBytes);

        impl $name {
            /// Bytes that such a name may have.
            pub const MAX_LEN: usize = $max;

            /// The name of this text.
            ///
            /// # Errors
            ///
            /// [`NameError`] if it is empty, longer than [`Self::MAX_LEN`] bytes, or contains a
            /// NUL.
            pub fn new(text: &str) -> Result<Self, NameError> {
                parse(text, Self::MAX_LEN).map(Self)
            }

            /// The name in a field, up to its first NUL. Accepts any bytes; the name is empty if the
            /// field is.
            #[must_use]
            pub fn from_disk(field: NameBytes) -> Self {
                Self(NameBytes::padded(field.text()))
            }

            /// As it is on the disk, padded with NULs.
            #[must_use]
            pub const fn as_name(&self) -> NameBytes {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name!(
    /// The name of a lockspace: 1 to 48 bytes, no NUL.
    LockspaceName, LEN
);
name!(
    /// The name of a resource within a lockspace: 1 to 48 bytes, no NUL.
    ResourceName, LEN
);
name!(
    /// The name of a host: 1 to 47 bytes, no NUL. Distinguishes two hosts that were given the same
    /// host id.
    ///
    /// sanlock cuts a host name of 48 bytes when it writes it, and then does not recognise it as
    /// its own.
    HostName, LEN - 1
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let long = "L".repeat(48);
        assert_eq!(
            LockspaceName::new(&long).unwrap().as_name().text(),
            long.as_bytes()
        );
        assert_eq!(ResourceName::new(&long).unwrap().to_string(), long);
        assert_eq!(
            HostName::new(&long),
            Err(NameError::TooLong { len: 48, max: 47 })
        );
        assert_eq!(
            HostName::new(&long[1..]).unwrap().as_name().as_bytes()[47],
            0
        );
        let longer = "é".repeat(25);
        assert_eq!(
            LockspaceName::new(&longer),
            Err(NameError::TooLong { len: 50, max: 48 })
        );
        assert_eq!(ResourceName::new(""), Err(NameError::Empty));
        assert_eq!(HostName::new("a\0b"), Err(NameError::Nul { at: 1 }));
    }

    #[test]
    fn the_tail_after_a_nul_does_not_count() {
        let name = LockspaceName::new("LS").unwrap().as_name();
        let mut bytes = *name.as_bytes();
        bytes[40] = b'x';
        let with_tail = NameBytes::new(bytes);
        assert_ne!(name, with_tail);
        assert!(name.same_text(&with_tail));
        assert_eq!(LockspaceName::from_disk(with_tail).as_name(), name);
        bytes[2] = b'x';
        assert!(!name.same_text(&NameBytes::new(bytes)));
        assert!(!name.same_text(&NameBytes::new([0; 48])));
        assert!(NameBytes::new([0; 48]).is_empty());
        let full = NameBytes::new([b'L'; 48]);
        assert!(!full.same_text(&LockspaceName::new(&"L".repeat(47)).unwrap().as_name()));
        assert!(full.same_text(&LockspaceName::new(&"L".repeat(48)).unwrap().as_name()));
    }

    #[test]
    fn debug_leaves_out_the_padding_alone() {
        let shown = |text: &[u8]| format!("{:?}", NameBytes::padded(text));
        assert_eq!(shown(b""), "\"\"");
        assert_eq!(shown(b"h1"), "\"h1\"");
        assert_eq!(shown(b"h1\0tail\x1b"), "\"h1\\x00tail\\x1b\"");
        assert_eq!(shown(&[b'L'; 48]), format!("\"{}\"", "L".repeat(48)));
    }

    #[test]
    fn display_is_safe_for_a_terminal() {
        let shown = |text: &[u8]| NameBytes::padded(text).to_string();
        assert_eq!(shown(b"h1\0tail"), "h1");
        assert_eq!(shown(b"\x1b[2J\r\n"), "\\u{1b}[2J\\r\\n");
        assert_eq!(shown("gäst".as_bytes()), "gäst");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(shown(b"\xff"), "\u{fffd}");
        assert_eq!(format!("{:>4}|", NameBytes::padded(b"h1")), "  h1|");
    }
}
