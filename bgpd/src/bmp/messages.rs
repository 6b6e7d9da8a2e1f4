//! From pages and events to BMP messages. Pure: nothing is asked, nothing is sent.
//!
//! All AS_PATHs are told with four-octet AS numbers whatever the peer sends, as RFC 7854 §4.2 allows, so the A flag is
//! never set. Prefixes with equal attributes go into one UPDATE, whatever UPDATEs they came in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bgp_core::rib::{MonitorPage, MonitoredPath, Statistics};
use bgp_wire::bmp::{self, AdjRibIn, BmpError, PeerDown, PeerHeader, Stat, Timestamp};
use bgp_wire::{
    EncodeContext, EncodeError, EncodedUpdate, Family, MAX_EXTENDED_MESSAGE_LEN, Nlri,
    encode_end_of_rib, encode_reach, encode_unreach,
};
use roadbed_api::kinds::RouteMonitoring;

use super::feed::{Ending, Monitored};

/// Messages for a collector.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    pub(super) messages: u64,
}

/// What is to be told of the paths of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// Also what is gone.
    Changes,
    /// To somebody who knows nothing yet.
    Walk,
}

/// Paths that go into the same UPDATEs have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    post_policy: bool,
    family: Family,
    /// `None`: withdrawn.
    set: Option<u32>,
    age: u32,
}

impl Outbox {
    fn add(&mut self, what: &Monitored, encoded: Result<(), BmpError>) {
        match encoded {
            Ok(()) => self.messages += 1,
            Err(error) => tracing::warn!(peer = %what.peer, %error, "BMP message left out"),
        }
    }

    pub(super) fn initiation(&mut self, sys_name: &str) {
        let sys_descr = concat!("Roadbed ", env!("CARGO_PKG_VERSION"));
        let written = bmp::encode_initiation(sys_descr, sys_name, &[], &mut self.bytes);
        self.messages += u64::from(written.is_ok());
    }

    pub(super) fn termination(&mut self, reason: bmp::TerminationReason, text: &str) {
        let written = bmp::encode_termination(reason, text, &mut self.bytes);
        self.messages += u64::from(written.is_ok());
    }

    pub(super) fn peer_up(&mut self, session: &Monitored) {
        let up = bmp::PeerUp {
            local_address: session.local.ip(),
            local_port: session.local.port(),
            remote_port: session.remote.port(),
            sent_open: &session.sent_open,
            received_open: &session.received_open,
            information: &[],
        };
        let header = header(session, AdjRibIn::PrePolicy, timestamp(session.since, 0));
        let written = bmp::encode_peer_up(&header, &up, &mut self.bytes);
        self.add(session, written);
    }

    pub(super) fn peer_down(&mut self, session: &Monitored, ending: &Ending, at: SystemTime) {
        let down = match ending {
            Ending::LocalNotification(ours) => PeerDown::LocalNotification(ours),
            Ending::LocalEvent(event) => PeerDown::LocalEvent(*event),
            Ending::RemoteNotification(theirs) => PeerDown::RemoteNotification(theirs),
            Ending::RemoteClose => PeerDown::RemoteClose,
        };
        let header = header(session, AdjRibIn::PrePolicy, timestamp(at, 0));
        let written = bmp::encode_peer_down(&header, &down, &mut self.bytes);
        self.add(session, written);
    }

    pub(super) fn end_of_rib(
        &mut self,
        session: &Monitored,
        family: Family,
        which: RouteMonitoring,
        now: SystemTime,
    ) {
        let marker = encode_end_of_rib(family).bytes;
        for view in views(which) {
            let header = header(session, *view, timestamp(now, 0));
            let written = bmp::encode_route_monitoring(&header, &marker, &mut self.bytes);
            self.add(session, written);
        }
    }

    pub(super) fn statistics(&mut self, session: &Monitored, stats: &Statistics, now: SystemTime) {
        let (updates, prefixes) = session.treated.get();
        let import = &stats.import;
        let mut list = vec![
            Stat::RejectedByPolicy(import.rejected),
            Stat::ClusterListLoops(import.cluster_list_loops),
            Stat::AsPathLoops(import.as_path_loops),
            Stat::OriginatorIdLoops(import.originator_id_loops),
            Stat::UpdatesTreatedAsWithdraw(updates),
            Stat::PrefixesTreatedAsWithdraw(prefixes),
            Stat::AdjRibInRoutes(stats.received.iter().flatten().sum()),
            Stat::LocRibRoutes(stats.chosen.iter().sum()),
        ];
        for (i, family) in Family::ALL.into_iter().enumerate() {
            if let Some(received) = stats.received[i] {
                list.push(Stat::AdjRibInFamilyRoutes(family, received));
            }
            list.push(Stat::LocRibFamilyRoutes(family, stats.chosen[i]));
        }
        let header = header(session, AdjRibIn::PrePolicy, timestamp(now, 0));
        let written = bmp::encode_stats_report(&header, &list, &mut self.bytes);
        self.add(session, written);
    }

    /// Paths of one session.
    pub(super) fn paths(
        &mut self,
        session: &Monitored,
        page: &MonitorPage,
        paths: &[MonitoredPath],
        which: RouteMonitoring,
        telling: Telling,
        now: SystemTime,
    ) {
        let mut items: Vec<(Key, Nlri)> = Vec::with_capacity(paths.len());
        for path in paths {
            for view in views(which) {
                let post_policy = *view == AdjRibIn::PostPolicy;
                let set = if post_policy {
                    path.accepted
                } else {
                    path.received
                };
                if set.is_none() && telling == Telling::Walk {
                    continue;
                }
                let key = Key {
                    post_policy,
                    family: Family::of(&path.prefix),
                    set,
                    age: path.age,
                };
                let (path_id, prefix) = (path.path_id, path.prefix);
                items.push((key, Nlri { path_id, prefix }));
            }
        }
        items.sort_unstable_by_key(|(key, _)| *key);
        for same in items.chunk_by(|a, b| a.0 == b.0) {
            if let [(key, _), ..] = same {
                let nlri: Vec<Nlri> = same.iter().map(|(_, nlri)| *nlri).collect();
                self.updates(session, page, *key, &nlri, now);
            }
        }
    }

    fn updates(
        &mut self,
        session: &Monitored,
        page: &MonitorPage,
        key: Key,
        nlri: &[Nlri],
        now: SystemTime,
    ) {
        let mut updates = Vec::new();
        if let Err(error) = encode(session, page, key, nlri, &mut updates) {
            tracing::warn!(peer = %session.peer, %error, prefixes = nlri.len(), "routes that BMP cannot tell");
            return;
        }
        let view = match key.post_policy {
            true => AdjRibIn::PostPolicy,
            false => AdjRibIn::PrePolicy,
        };
        let header = header(session, view, timestamp(now, key.age));
        for update in updates {
            let written = bmp::encode_route_monitoring(&header, &update.bytes, &mut self.bytes);
            self.add(session, written);
        }
    }
}

/// As the peer could have sent them.
fn encode(
    session: &Monitored,
    page: &MonitorPage,
    key: Key,
    nlri: &[Nlri],
    out: &mut Vec<EncodedUpdate>,
) -> Result<(), EncodeError> {
    let mut context = EncodeContext {
        four_octet_as: true,
        add_path: session.add_path,
        max_len: session.max_len,
        extended_next_hop: true,
    };
    let set = key.set.and_then(|set| page.sets.get(set as usize));
    let Some((attributes, next_hop)) = set else {
        encode_unreach(key.family, nlri, &context, out);
        return Ok(());
    };
    let encoded = encode_reach(key.family, attributes, next_hop, nlri, &context, out);
    // A path of a two-octet peer is longer here than in its own UPDATE.
    if let Err(EncodeError::AttributesTooLong { .. }) = encoded {
        context.max_len = MAX_EXTENDED_MESSAGE_LEN;
        out.clear();
        return encode_reach(key.family, attributes, next_hop, nlri, &context, out);
    }
    encoded
}

fn views(which: RouteMonitoring) -> &'static [AdjRibIn] {
    match which {
        RouteMonitoring::PrePolicy => &[AdjRibIn::PrePolicy],
        RouteMonitoring::PostPolicy => &[AdjRibIn::PostPolicy],
        RouteMonitoring::Both => &[AdjRibIn::PrePolicy, AdjRibIn::PostPolicy],
    }
}

fn header(session: &Monitored, view: AdjRibIn, time: Timestamp) -> PeerHeader {
    PeerHeader {
        address: session.remote.ip(),
        asn: session.peer_as,
        bgp_id: session.bgp_id,
        view,
        two_octet_as: false,
        time,
    }
}

/// `age`: seconds before.
fn timestamp(at: SystemTime, age: u32) -> Timestamp {
    let since_1970 = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::since_1970(since_1970.saturating_sub(Duration::from_secs(age.into())))
}
