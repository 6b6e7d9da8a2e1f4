//! What is announced, by whom, and what everybody must end up with. Pure: no sockets, no clock.
//!
//! Prefixes are /24s counted from 20.0.0.0; `per_set` neighbouring ones share one attribute set. The last AS number of a
//! path names its set and, towards eBGP, the first one the peer that sent it, so a sink can tell from any UPDATE what its
//! attributes must be.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use bgp_wire::{
    AttributeEditor, EncodeContext, EncodedUpdate, Family, MAX_MESSAGE_LEN, NextHop, Nlri, Origin,
    PathAttributes, encode_reach, encode_unreach,
};
use ipnet::{IpNet, Ipv4Net};

/// The AS of the daemon under test.
pub(crate) const DAEMON_AS: u32 = 65000;
/// The address of the daemon under test; all peers are in its /16.
pub(crate) const DAEMON: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// Length of the common subnet.
pub(crate) const SUBNET_LEN: u8 = 16;

const FIRST_PEER: u32 = u32::from_be_bytes([172, 30, 1, 0]);
const FIRST_PEER_AS: u32 = 65100;
const FIRST_PREFIX: u32 = u32::from_be_bytes([20, 0, 0, 0]);
const PREFIX_LEN: u8 = 24;
/// Private AS numbers (RFC 6996); the set's number is added.
const FIRST_SET_AS: u32 = 4_200_000_000;
const TRANSIT_AS: u32 = 64900;
const DETOUR_AS: u32 = 64901;

pub(crate) const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    add_path: [false; 2],
    max_len: MAX_MESSAGE_LEN,
    extended_next_hop: false,
};

/// Who announces what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// Peer 0 announces everything, peer 1 only listens.
    Single,
    /// Every peer announces its own part and hears the others'.
    Distinct,
    /// Every peer announces everything; of each set another peer has the shortest path.
    Overlap,
    /// As [`Shape::Distinct`], by the clients of a route reflector.
    Reflector,
}

/// One case's routes.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) shape: Shape,
    pub(crate) peers: usize,
    /// Distinct prefixes of all peers.
    pub(crate) prefixes: usize,
    /// Prefixes that share their attributes.
    pub(crate) per_set: usize,
}

impl Workload {
    pub(crate) fn sets(&self) -> usize {
        self.prefixes / self.per_set
    }

    pub(crate) fn ibgp(&self) -> bool {
        self.shape == Shape::Reflector
    }

    pub(crate) fn peer_as(&self, peer: usize) -> u32 {
        if self.ibgp() {
            DAEMON_AS
        } else {
            FIRST_PEER_AS + peer as u32
        }
    }

    pub(crate) fn address(peer: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST_PEER + peer as u32)
    }

    /// The peer whose address this is.
    pub(crate) fn peer_at(&self, address: Ipv4Addr) -> Option<usize> {
        let peer = address.to_bits().checked_sub(FIRST_PEER)? as usize;
        (peer < self.peers).then_some(peer)
    }

    /// The peer whose path everybody else must end up with.
    pub(crate) fn winner(&self, set: usize) -> usize {
        match self.shape {
            Shape::Single => 0,
            Shape::Distinct | Shape::Reflector => set * self.peers / self.sets(),
            Shape::Overlap => set % self.peers,
        }
    }

    fn announces(&self, peer: usize, set: usize) -> bool {
        self.shape == Shape::Overlap || self.winner(set) == peer
    }

    /// The path that `peer` sends.
    pub(crate) fn path(&self, peer: usize, set: usize) -> Vec<u32> {
        let origin = FIRST_SET_AS + set as u32;
        match self.shape {
            Shape::Reflector => vec![TRANSIT_AS, origin],
            Shape::Overlap if self.winner(set) != peer => {
                vec![self.peer_as(peer), TRANSIT_AS, DETOUR_AS, origin]
            }
            _ => vec![self.peer_as(peer), TRANSIT_AS, origin],
        }
    }

    pub(crate) fn communities(set: usize) -> [u32; 2] {
        [
            (TRANSIT_AS << 16) | (set as u32 >> 16),
            (DETOUR_AS << 16) | (set as u32 & 0xffff),
        ]
    }

    /// Set and index of a prefix that belongs to this case.
    pub(crate) fn index(&self, prefix: &IpNet) -> Option<usize> {
        let IpNet::V4(net) = prefix else { return None };
        let slot = net.addr().to_bits().checked_sub(FIRST_PREFIX)? >> 8;
        let index = slot as usize;
        (net.prefix_len() == PREFIX_LEN && index < self.prefixes).then_some(index)
    }

    pub(crate) fn set_of_path(origin: u32) -> Option<usize> {
        Some(origin.checked_sub(FIRST_SET_AS)? as usize)
    }

    fn nlri(&self, set: usize, out: &mut Vec<Nlri>) {
        for index in set * self.per_set..(set + 1) * self.per_set {
            let addr = Ipv4Addr::from_bits(FIRST_PREFIX + ((index as u32) << 8));
            let net = Ipv4Net::new(addr, PREFIX_LEN).expect("a length below 33");
            out.push(Nlri::new(IpNet::V4(net)));
        }
    }

    /// The UPDATEs by which `peer` announces those of its sets that `filter` lets through.
    pub(crate) fn announcements(
        &self,
        peer: usize,
        filter: impl Fn(usize) -> bool,
    ) -> Result<Vec<u8>> {
        self.encode(
            |set| self.announces(peer, set) && filter(set),
            Self::address(peer),
            |set| self.attributes(&self.path(peer, set), set).build(),
        )
    }

    /// What an ideal daemon would pass on of [`Self::announcements`].
    pub(crate) fn passed_on(&self, peer: usize, filter: impl Fn(usize) -> bool) -> Result<Vec<u8>> {
        let next_hop = if self.ibgp() {
            Self::address(peer)
        } else {
            DAEMON
        };
        self.encode(
            |set| self.winner(set) == peer && filter(set),
            next_hop,
            |set| {
                let mut attributes = self.attributes(&self.path(peer, set), set);
                if self.ibgp() {
                    attributes
                        .set_originator_id(Some(next_hop))
                        .prepend_cluster_id(DAEMON);
                } else {
                    attributes.prepend_as(DAEMON_AS, 1);
                }
                attributes.build()
            },
        )
    }

    /// The UPDATEs by which `peer` withdraws what [`Self::announcements`] announces.
    pub(crate) fn withdrawals(&self, peer: usize, filter: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut nlri = Vec::new();
        for set in (0..self.sets()).filter(|set| self.announces(peer, *set) && filter(*set)) {
            self.nlri(set, &mut nlri);
        }
        let mut messages = Vec::new();
        encode_unreach(Family::Ipv4Unicast, &nlri, &ENCODE, &mut messages);
        join(&messages)
    }

    fn encode(
        &self,
        wanted: impl Fn(usize) -> bool,
        next_hop: Ipv4Addr,
        attributes: impl Fn(usize) -> PathAttributes,
    ) -> Result<Vec<u8>> {
        let (mut bytes, mut messages, mut nlri) = (Vec::new(), Vec::new(), Vec::new());
        for set in (0..self.sets()).filter(|set| wanted(*set)) {
            nlri.clear();
            self.nlri(set, &mut nlri);
            encode_reach(
                Family::Ipv4Unicast,
                &attributes(set),
                &NextHop::V4(next_hop),
                &nlri,
                &ENCODE,
                &mut messages,
            )?;
            bytes.extend(messages.drain(..).flat_map(|message| message.bytes));
        }
        Ok(bytes)
    }

    fn attributes(&self, path: &[u32], set: usize) -> AttributeEditor {
        let mut editor = AttributeEditor::new(Origin::Igp);
        editor
            .set_as_path_sequence(path)
            .set_communities(&Self::communities(set));
        if self.ibgp() {
            editor.set_local_pref(Some(100));
        }
        editor
    }

    /// Whose path of each prefix everybody but that peer must have, as peer + 1; 0: nobody's.
    pub(crate) fn wanted(&self, filter: impl Fn(usize) -> bool) -> Vec<u16> {
        (0..self.prefixes)
            .map(|index| index / self.per_set)
            .map(|set| {
                if filter(set) {
                    self.winner(set) as u16 + 1
                } else {
                    0
                }
            })
            .collect()
    }

    /// Refuses numbers that would not fit the addresses used.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.peers >= 2 && self.peers <= 60_000, "2 to 60000 peers");
        ensure!(
            self.sets() >= self.peers || self.shape == Shape::Single,
            "{} attribute sets are too few for {} peers",
            self.sets(),
            self.peers
        );
        Ok(())
    }
}

fn join(messages: &[EncodedUpdate]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| message.bytes.iter().copied())
        .collect()
}
