//! Dense ids: small, copyable, indexes of vectors.

/// A routing table; VRFs would add ids, not types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u16);

/// One established session, chosen by the driver and never used twice: a late event of a closed session
/// finds no peer and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A source of paths inside the RIB. Given when a session is Established; outlives the session until the last
/// of its paths is gone. [`PeerId::LOCAL`] stands for all local routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(crate) u16);

impl PeerId {
    /// Routes that this speaker originates.
    pub const LOCAL: PeerId = PeerId(0);

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A prefix of one table and family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PrefixId(pub(crate) u32);

impl PrefixId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An interned set of path attributes together with its next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttrId(pub(crate) u32);

impl AttrId {
    /// No attributes: nothing announced.
    pub(crate) const NONE: AttrId = AttrId(u32::MAX);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A next hop that some attribute set names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NextHopId(pub(crate) u32);

impl NextHopId {
    /// The speaker itself: of local routes, and of what is announced with next hop self.
    pub(crate) const SELF: NextHopId = NextHopId(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What one NLRI means to the members of an update group: a prefix, or with ADD-PATH one path of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NlriId(pub(crate) u32);

impl NlriId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<PrefixId> for NlriId {
    fn from(id: PrefixId) -> Self {
        NlriId(id.0)
    }
}
