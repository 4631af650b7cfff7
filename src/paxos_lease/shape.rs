//! How a lease is laid out.

use crate::format::Geometry;

/// How a lease is laid out: its geometry, and how many hosts take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseShape {
    /// Sector size, area size, number of hosts at most.
    pub geometry: Geometry,
    /// How many blocks are in use: host ids above cannot take the lease.
    pub num_hosts: u16,
}

impl LeaseShape {
    /// The shape to begin with when nothing is known of a lease but its lockspace's geometry.
    #[must_use]
    pub const fn of_lockspace(geometry: Geometry) -> Self {
        Self {
            geometry,
            num_hosts: geometry.max_hosts(),
        }
    }

    /// Whether a read of this shape shows all of a lease of the other.
    pub(super) fn covers(self, other: Self) -> bool {
        self.geometry == other.geometry && other.num_hosts <= self.num_hosts
    }

    /// Bytes from the first sector of the lease to the end of the last block in use.
    pub(super) fn len(self) -> usize {
        self.geometry.lease_len(self.num_hosts)
    }
}
