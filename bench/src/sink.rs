//! The receiving end of one session: decodes what arrives and knows at any moment whether that is what must arrive.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bgp_wire::{
    DecodeContext, Family, HEADER_LEN, MAX_MESSAGE_LEN, MessageType, Nlri, NlriSlice, Notification,
    Origin, Update, Verdict, decode_update, frame,
};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::workload::{DAEMON, DAEMON_AS, Workload};

/// Whose path an attribute set is.
#[derive(Clone, Copy, Debug)]
struct Source {
    peer: u16,
    set: u32,
}

/// What was decoded and found right, by its bytes: the same comes again for every peer.
#[derive(Debug, Default)]
pub(crate) struct Known {
    sets: HashMap<Box<[u8]>, Source, RandomState>,
    /// Whole bodies of UPDATEs that announce neighbouring prefixes, where there are several peers to send them to.
    bodies: HashMap<Box<[u8]>, (Source, Range<usize>), RandomState>,
}

/// One session's receiver.
#[derive(Debug)]
pub(crate) struct Sink {
    me: usize,
    workload: Arc<Workload>,
    wanted: Arc<Vec<u16>>,
    /// Per prefix: the peer whose path was announced last, plus one; 0: none.
    have: Vec<u16>,
    correct: usize,
    buffer: Vec<u8>,
    pub(crate) opens: usize,
    pub(crate) keepalives: usize,
    /// Prefixes announced or withdrawn so far.
    pub(crate) changes: u64,
    /// UPDATEs so far.
    pub(crate) updates: u64,
}

impl Sink {
    pub(crate) fn new(me: usize, workload: &Arc<Workload>) -> Self {
        Self {
            me,
            workload: Arc::clone(workload),
            wanted: Arc::new(Vec::new()),
            have: vec![0; workload.prefixes],
            correct: 0,
            buffer: Vec::with_capacity(1 << 18),
            opens: 0,
            keepalives: 0,
            changes: 0,
            updates: 0,
        }
    }

    /// Forgets a connection that came to nothing.
    pub(crate) fn restart(&mut self) {
        self.buffer.clear();
        self.have.fill(0);
        (self.opens, self.keepalives) = (0, 0);
        self.expect(Arc::clone(&self.wanted));
    }

    /// From now on `wanted` must be here, see [`Workload::wanted`].
    pub(crate) fn expect(&mut self, wanted: Arc<Vec<u16>>) {
        self.wanted = wanted;
        let own = self.me as u16 + 1;
        self.correct = self
            .wanted
            .iter()
            .zip(&self.have)
            .filter(|(wanted, have)| **have == if **wanted == own { 0 } else { **wanted })
            .count();
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.correct == self.wanted.len()
    }

    /// For the message of a run that did not get there.
    pub(crate) fn missing(&self) -> usize {
        self.wanted.len() - self.correct
    }

    /// Takes what was read.
    pub(crate) fn feed(&mut self, bytes: &[u8], known: &mut Known) -> Result<()> {
        if self.buffer.is_empty() {
            let used = self.messages(bytes, known)?;
            self.buffer.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let used = self.messages(&buffer, known)?;
        self.buffer = buffer;
        self.buffer.drain(..used);
        Ok(())
    }

    fn messages(&mut self, bytes: &[u8], known: &mut Known) -> Result<usize> {
        let mut used = 0;
        while let Some(message) = bytes.get(used..).filter(|rest| rest.len() >= HEADER_LEN) {
            let Some(frame) = frame(message, MAX_MESSAGE_LEN)? else {
                break;
            };
            match frame.kind {
                MessageType::Open => self.opens += 1,
                MessageType::Keepalive => self.keepalives += 1,
                MessageType::Update => self.update(frame.body, known)?,
                MessageType::RouteRefresh => {}
                MessageType::Notification => bail!(
                    "peer {} was sent a NOTIFICATION: {:?}",
                    self.me,
                    Notification::decode(frame.body)
                ),
            }
            used += frame.len;
        }
        Ok(used)
    }

    fn update(&mut self, body: &[u8], known: &mut Known) -> Result<()> {
        self.updates += 1;
        if let Some((source, range)) = known.bodies.get(body) {
            self.set_all(range.clone(), source.peer + 1);
            return Ok(());
        }
        let (attributes, prefixes) = split(body).context("an UPDATE with impossible lengths")?;
        if let Some(source) = known.sets.get(attributes).copied() {
            let nlri = NlriSlice::validate(prefixes, Family::Ipv4Unicast, false)
                .context("an UPDATE with malformed NLRI")?;
            let range = self.announced(nlri, source)?;
            self.remember(body, (source, range), known);
            return Ok(());
        }
        let update = decode_update(
            body,
            &DecodeContext {
                four_octet_as: true,
                ebgp: !self.workload.ibgp(),
                add_path: [false; 2],
                families: [true, false],
                extended_next_hop: false,
            },
        );
        ensure!(update.verdict == Verdict::Ok, "{:?}", update.faults);
        ensure!(
            update.mp_reach.is_none() && update.mp_unreach.is_none_or(|nlri| nlri.is_empty()),
            "IPv4 routes in multiprotocol attributes"
        );
        for nlri in update.withdrawn.iter() {
            let index = self.index(&nlri)?;
            self.set(index, 0);
        }
        if !update.announced.is_empty() {
            let source = self.source(&update)?;
            let range = self.announced(update.announced, source)?;
            if update.withdrawn.is_empty() {
                known.sets.insert(attributes.into(), source);
                self.remember(body, (source, range), known);
            }
        }
        Ok(())
    }

    fn remember(
        &self,
        body: &[u8],
        (source, range): (Source, Option<Range<usize>>),
        known: &mut Known,
    ) {
        if let Some(range) = range.filter(|_| self.workload.peers > 2) {
            known.bodies.insert(body.into(), (source, range));
        }
    }

    fn index(&self, nlri: &Nlri) -> Result<usize> {
        self.workload
            .index(&nlri.prefix)
            .with_context(|| format!("{} was never announced", nlri.prefix))
    }

    /// The indexes, when they follow one another.
    fn announced(&mut self, nlri: NlriSlice<'_>, source: Source) -> Result<Option<Range<usize>>> {
        let per_set = self.workload.per_set;
        let mut range: Option<Range<usize>> = None;
        let mut together = true;
        for nlri in nlri.iter() {
            let index = self.index(&nlri)?;
            ensure!(
                index / per_set == source.set as usize,
                "{} came with the attributes of set {}",
                nlri.prefix,
                source.set
            );
            self.set(index, source.peer + 1);
            let end = range.as_ref().map_or(index, |range| range.end);
            together &= end == index;
            range = Some(range.map_or(index, |range| range.start)..index + 1);
        }
        Ok(range.filter(|_| together))
    }

    fn set(&mut self, index: usize, have: u16) {
        self.set_all(index..index + 1, have);
    }

    fn set_all(&mut self, range: Range<usize>, have: u16) {
        self.changes += range.len() as u64;
        let own = self.me as u16 + 1;
        // FRR sends a peer's routes back to it when others share its update group; the peer's own loop check drops them.
        let have = if have == own { 0 } else { have };
        let held = &mut self.have[range.clone()];
        if let Some(wanted) = self.wanted.get(range) {
            for (held, wanted) in held.iter_mut().zip(wanted) {
                let wanted = if *wanted == own { 0 } else { *wanted };
                self.correct -= usize::from(*held == wanted);
                self.correct += usize::from(have == wanted);
                *held = have;
            }
        } else {
            held.fill(have);
        }
    }

    /// Checks every attribute, and says whose path it is.
    fn source(&self, update: &Update<'_>) -> Result<Source> {
        let (Some(attributes), Some(next_hop)) = (&update.attributes, update.next_hop) else {
            bail!("routes without attributes or next hop");
        };
        let path: Vec<u32> = attributes.as_path().asns().collect();
        let workload = &self.workload;
        let set = path
            .last()
            .and_then(|origin| Workload::set_of_path(*origin))
            .filter(|set| *set < workload.sets())
            .with_context(|| format!("AS path {path:?} ends in no origin of ours"))?;
        let (peer, expected, expected_next_hop): (usize, Vec<u32>, Ipv4Addr) = if workload.ibgp() {
            let peer = workload.winner(set);
            (peer, workload.path(peer, set), Workload::address(peer))
        } else {
            let first = workload.peer_as(0);
            let peer = path
                .get(1)
                .and_then(|asn| asn.checked_sub(first))
                .map(|peer| peer as usize)
                .filter(|peer| *peer < workload.peers)
                .with_context(|| format!("AS path {path:?} leads over no peer of ours"))?;
            let mut expected = workload.path(peer, set);
            expected.insert(0, DAEMON_AS);
            (peer, expected, DAEMON)
        };
        ensure!(path == expected, "AS path {path:?} instead of {expected:?}");
        ensure!(
            next_hop == expected_next_hop,
            "next hop {next_hop} instead of {expected_next_hop}"
        );
        ensure!(
            attributes.hot().origin == Origin::Igp,
            "origin {:?}",
            attributes.hot().origin
        );
        ensure!(
            attributes.communities().eq(Workload::communities(set)),
            "communities of set {set} are others"
        );
        ensure!(
            !workload.ibgp()
                || (attributes.hot().originator_id == Some(Workload::address(peer))
                    && attributes.cluster_list().eq([DAEMON])),
            "a reflected route without its ORIGINATOR_ID and CLUSTER_LIST"
        );
        Ok(Source {
            peer: peer as u16,
            set: set as u32,
        })
    }
}

/// Attributes and NLRI of a body that withdraws nothing; empty attributes when it does, which no set has.
fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    if *length != [0, 0] {
        return Some((&[], &[]));
    }
    let (length, rest) = rest.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Shape;

    fn workload(shape: Shape, peers: usize) -> Arc<Workload> {
        Arc::new(Workload {
            shape,
            peers,
            prefixes: 120,
            per_set: 4,
        })
    }

    /// A sink of peer 1 that expects everything.
    fn sink(workload: &Arc<Workload>) -> Sink {
        sink_of(1, workload)
    }

    fn sink_of(peer: usize, workload: &Arc<Workload>) -> Sink {
        let mut sink = Sink::new(peer, workload);
        sink.expect(Arc::new(workload.wanted(|_| true)));
        sink
    }

    /// What an ideal daemon sends peer 1 completes it, however it is cut; withdrawing one set is noticed.
    fn check(shape: Shape, peers: usize) {
        let workload = workload(shape, peers);
        let others = (0..peers).filter(|peer| *peer != 1);
        let pieces: Vec<Vec<u8>> = others
            .map(|peer| workload.passed_on(peer, |_| true).unwrap())
            .filter(|piece| !piece.is_empty())
            .collect();
        for chunk in [1, 19, 97, 1 << 20] {
            let (mut sink, mut known) = (sink(&workload), Known::default());
            for piece in &pieces {
                assert!(!sink.is_complete());
                for bytes in piece.chunks(chunk) {
                    sink.feed(bytes, &mut known).unwrap();
                }
            }
            assert!(sink.is_complete(), "{} missing", sink.missing());
            if peers > 2 {
                check_the_next(&workload, &mut known);
            }
            let gone = |set: usize| set == 0;
            let withdrawals = workload.withdrawals(workload.winner(0), gone);
            sink.feed(&withdrawals, &mut known).unwrap();
            assert_eq!(sink.missing(), 4);
            sink.expect(Arc::new(workload.wanted(|set| !gone(set))));
            assert!(sink.is_complete());
        }
    }

    /// The last peer is sent what the first ones were sent, and is complete by its own count.
    fn check_the_next(workload: &Arc<Workload>, known: &mut Known) {
        let me = workload.peers - 1;
        let mut sink = sink_of(me, workload);
        let bodies = known.bodies.len();
        assert!(bodies > 0);
        for peer in (0..me).filter(|peer| *peer != 1) {
            assert!(!sink.is_complete());
            let bytes = workload.passed_on(peer, |_| true).unwrap();
            sink.feed(&bytes, known).unwrap();
        }
        assert_eq!(known.bodies.len(), bodies, "all of it was known");
        let own = workload.passed_on(1, |_| true).unwrap();
        sink.feed(&own, known).unwrap();
        assert!(sink.is_complete(), "{} missing", sink.missing());
    }

    #[test]
    fn an_ideal_daemon_completes_every_shape() {
        check(Shape::Single, 2);
        check(Shape::Distinct, 3);
        check(Shape::Overlap, 5);
        check(Shape::Reflector, 6);
    }

    fn check_refused(shape: Shape, bytes: &[u8], expected: &str) {
        let workload = workload(shape, 3);
        let error = sink(&workload)
            .feed(bytes, &mut Known::default())
            .unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(expected), "{text}\nlacks {expected}");
    }

    #[test]
    fn what_no_daemon_may_send_is_refused() {
        let distinct = workload(Shape::Distinct, 3);
        // As a peer sends it: no AS prepended, next hop kept.
        let unchanged = distinct.announcements(0, |_| true).unwrap();
        check_refused(Shape::Distinct, &unchanged, "AS path");
        let right = distinct.passed_on(0, |set| set == 0).unwrap();
        let changed = |from: &[u8], to: &[u8]| {
            let at = right.windows(from.len()).position(|w| w == from).unwrap();
            let mut bytes = right.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            bytes
        };
        let next_hop = changed(&DAEMON.octets(), &[172, 30, 9, 9]);
        check_refused(Shape::Distinct, &next_hop, "next hop 172.30.9.9");
        let prefix = changed(&[24, 20, 0, 1], &[24, 20, 0, 9]);
        check_refused(
            Shape::Distinct,
            &prefix,
            "20.0.9.0/24 came with the attributes of set 0",
        );
        let stranger = changed(&[24, 20, 0, 1], &[24, 21, 0, 1]);
        check_refused(
            Shape::Distinct,
            &stranger,
            "21.0.1.0/24 was never announced",
        );
        let community = changed(&64901u16.to_be_bytes(), &64999u16.to_be_bytes());
        check_refused(Shape::Distinct, &community, "communities of set 0");
        let reflected = workload(Shape::Reflector, 3);
        let unreflected = reflected.announcements(0, |_| true).unwrap();
        check_refused(Shape::Reflector, &unreflected, "ORIGINATOR_ID");
        let mut notification = vec![0xff; 16];
        notification.extend([0, 21, 3, 6, 2]);
        check_refused(Shape::Distinct, &notification, "NOTIFICATION");
    }

    #[test]
    fn an_echo_of_own_routes_counts_as_none() {
        let workload = workload(Shape::Distinct, 3);
        let (mut sink, mut known) = (sink(&workload), Known::default());
        for peer in 0..3 {
            let bytes = workload.passed_on(peer, |_| true).unwrap();
            sink.feed(&bytes, &mut known).unwrap();
        }
        assert!(sink.is_complete());
    }
}
