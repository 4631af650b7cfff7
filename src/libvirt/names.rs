//! The names that libvirt gives to lockspace and leases.

use std::path::Path;

use md5::{Digest, Md5};

use crate::format::{Hex, LockspaceName, NameBytes, ResourceName};

/// The name of libvirt's lockspace, and of the file that holds it.
pub const LOCKSPACE_NAME: &str = "__LIBVIRT__DISKS__";

/// [`LOCKSPACE_NAME`] as the name of a lockspace.
#[must_use]
pub fn lockspace_name() -> LockspaceName {
    LockspaceName::from_disk(padded(LOCKSPACE_NAME.as_bytes()))
}

/// The name of the lease for the disk at `path`, and of the file that holds it: the MD5 of the
/// path's bytes, as 32 lower-case hexadecimal digits.
///
/// The path is taken as it is. Links are not resolved and nothing is normalised: libvirt does
/// neither, so `/a/b` and `/a//b` are two leases, on every host alike.
#[must_use]
pub fn lease_name(path: &Path) -> ResourceName {
    let digest = Md5::digest(path.as_os_str().as_encoded_bytes());
    ResourceName::from_disk(padded(Hex(&digest).to_string().as_bytes()))
}

/// `text`, which is no longer than that, in a name field.
pub(super) fn padded(text: &[u8]) -> NameBytes {
    let mut bytes = [0; LockspaceName::MAX_LEN];
    for (to, &from) in bytes.iter_mut().zip(text) {
        *to = from;
    }
    NameBytes::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_named_as_libvirt_names_it() {
        for (path, name) in [
            (
                "/var/lib/libvirt/images/demo.img",
                "bfa0240911bc17753e0b473688822159",
            ),
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ] {
            assert_eq!(lease_name(Path::new(path)).to_string(), name);
        }
        assert_ne!(
            lease_name(Path::new("/a/b")),
            lease_name(Path::new("/a//b"))
        );
    }

    #[test]
    fn names_are_what_their_constructors_would_make() {
        assert_eq!(
            lockspace_name(),
            LockspaceName::new(LOCKSPACE_NAME).unwrap()
        );
        let name = lease_name(Path::new("/a"));
        assert_eq!(name, ResourceName::new(&name.to_string()).unwrap());
    }
}
