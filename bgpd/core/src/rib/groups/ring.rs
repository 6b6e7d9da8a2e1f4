//! The ring of encoded messages of an update group: bounded in bytes, whatever a slow member does.

use std::collections::VecDeque;

use crate::rib::OutMessage;
use crate::rib::ids::PeerId;

/// Bytes that a ring holds at most for its slowest member: some 2,000 full messages, or 40,000 small ones. A member further behind
/// walks, which costs encoding but no memory. In tests a dozen small messages.
const MAX_BYTES: usize = if cfg!(test) { 1 << 10 } else { 8 << 20 };

/// What a message occupies, its entry and what the allocator keeps beside it included: small ones are mostly that.
fn size(message: &OutMessage) -> usize {
    const BESIDE: usize = if cfg!(test) { 0 } else { 128 };
    message.bytes.len() + BESIDE
}

/// Who gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Every member but this one: it is the source of the routes.
    AllBut(PeerId),
    /// This member alone: it became the source and is withdrawn what it had.
    Only(PeerId),
}

pub(super) struct RingEntry {
    pub(super) message: OutMessage,
    audience: Audience,
    /// The round that made it.
    version: u64,
}

impl RingEntry {
    pub(super) fn is_for(&self, peer: PeerId) -> bool {
        match self.audience {
            Audience::AllBut(source) => source != peer,
            Audience::Only(only) => only == peer,
        }
    }
}

#[derive(Default)]
pub(super) struct Ring {
    entries: VecDeque<RingEntry>,
    /// Sequence number of the first entry.
    start: u64,
    bytes: usize,
}

impl Ring {
    pub(super) fn push(&mut self, message: OutMessage, audience: Audience, version: u64) {
        self.bytes += size(&message);
        self.entries.push_back(RingEntry {
            message,
            audience,
            version,
        });
    }

    /// One past the last sequence number.
    pub(super) fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn get(&self, position: u64) -> Option<&RingEntry> {
        let offset = position.checked_sub(self.start)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Forgets what every member has.
    pub(super) fn drop_before(&mut self, position: u64) {
        while self.start < position && self.drop_first() {}
    }

    /// Where to cut when the ring is over its bound: the position that leaves its newer half.
    pub(super) fn cut(&self) -> Option<u64> {
        if self.bytes <= MAX_BYTES {
            return None;
        }
        let mut left = self.bytes;
        let older = self.entries.iter().take_while(|entry| {
            let over = left > MAX_BYTES / 2;
            left -= size(&entry.message);
            over
        });
        Some(self.start + older.count() as u64)
    }

    /// The last round that a member at this position has in full; at the end of the ring that is `current`.
    pub(super) fn version_at(&self, position: u64, current: u64) -> u64 {
        self.get(position)
            .map_or(current, |entry| entry.version.saturating_sub(1))
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let bytes: usize = self.entries.iter().map(|e| size(&e.message)).sum();
        assert_eq!(self.bytes, bytes);
    }

    fn drop_first(&mut self) -> bool {
        let Some(entry) = self.entries.pop_front() else {
            return false;
        };
        self.bytes -= size(&entry.message);
        self.start += 1;
        true
    }
}
