//! Looking into the RIB while the speaker runs: routes page by page, and the RIB as MRT.
//!
//! Owns nothing: each page is one question to the RIB thread, asked when the one before has been used. So a slow reader
//! costs the RIB nothing. Turns what the RIB shares into words and records outside its thread.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use bgp_core::rib::best::{Ineligible, Verdict};
use bgp_core::rib::{
    Cursor, NextHopState, NoSession, PeerId, Rejection, RouteDetail, RoutePage, RouteQuery,
};
use bgp_wire::mrt::{self, IndexedPeer, RibEntry, RibRecord};
use bgp_wire::{Family, NextHop, PathAttributes};
use roadbed_api::agent::{
    Advertised, BgpRoute, NextHopReport, ReceivedRoute, RouteAttributes, RouteOrigin,
};
use roadbed_api::kinds::{CommunityName, ExtCommunityName};

use crate::RouteSource;
use crate::rib_thread::{RibClosed, RibHandle, RibMessage};

/// Name of the view in MRT dumps.
const VIEW: &str = "roadbed";

/// Looks into the RIB of a running speaker.
#[derive(Clone, Debug)]
pub struct Looking {
    rib: RibHandle,
    local_as: u32,
    router_id: Ipv4Addr,
}

/// Routes on their way out.
#[derive(Debug)]
pub struct Routes {
    rib: RibHandle,
    query: RouteQuery,
    /// What the first page said.
    ready: Option<RoutePage>,
    next: Option<Cursor>,
}

/// A RIB dump on its way out.
#[derive(Debug)]
pub struct Dump {
    rib: RibHandle,
    /// Seconds since 1970.
    begun: u32,
    /// The first record, until it is out.
    head: Option<Vec<u8>>,
    /// Places in the peer index table.
    index: HashMap<PeerId, u16>,
    sequence: u32,
    next: Option<Cursor>,
}

impl Looking {
    pub(crate) fn new(rib: RibHandle, local_as: u32, router_id: Ipv4Addr) -> Self {
        Self {
            rib,
            local_as,
            router_id,
        }
    }

    /// Begins to tell routes.
    ///
    /// # Errors
    /// When the RIB thread has ended; inside, when the peer to which something would be advertised has no session.
    pub async fn routes(&self, query: RouteQuery) -> Result<Result<Routes, NoSession>, RibClosed> {
        let first = page(&self.rib, &query, Cursor::default()).await?;
        Ok(first.map(|page| Routes {
            rib: self.rib.clone(),
            query,
            next: None,
            ready: Some(page),
        }))
    }

    /// Begins a dump. Routes that import policies reject are left out, and those of sessions that come up after it
    /// began.
    ///
    /// # Errors
    /// When the RIB thread has ended.
    pub async fn dump(&self) -> Result<Dump, RibClosed> {
        let sources = self.rib.ask(RibMessage::Sources).await?;
        // Our own routes come from a peer without an address, as collectors write them.
        let mut peers = vec![IndexedPeer {
            bgp_id: self.router_id,
            address: Ipv4Addr::UNSPECIFIED.into(),
            asn: self.local_as,
        }];
        let mut index = HashMap::from([(PeerId::LOCAL, 0)]);
        for (place, source) in (1u16..).zip(sources) {
            index.insert(source.peer_id, place);
            peers.push(IndexedPeer {
                bgp_id: source.bgp_id,
                address: source.address,
                asn: source.remote_as,
            });
        }
        let begun = SystemTime::now().duration_since(UNIX_EPOCH);
        let begun = begun.map_or(0, |since| {
            u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
        });
        let mut head = Vec::new();
        if let Err(error) =
            mrt::encode_peer_index_table(begun, self.router_id, VIEW, &peers, &mut head)
        {
            tracing::warn!(%error, "MRT dump without its peers");
        }
        Ok(Dump {
            rib: self.rib.clone(),
            begun,
            head: Some(head),
            index,
            sequence: 0,
            next: Some(Cursor::default()),
        })
    }
}

async fn page(
    rib: &RibHandle,
    query: &RouteQuery,
    cursor: Cursor,
) -> Result<Result<RoutePage, NoSession>, RibClosed> {
    let query = Box::new(query.clone());
    rib.ask(|reply| RibMessage::Look(query, cursor, reply))
        .await
}

impl Routes {
    /// The next of them, those of one prefix together; `None` after the last.
    ///
    /// # Errors
    /// When the RIB thread has ended.
    pub async fn next(&mut self) -> Result<Option<Vec<BgpRoute>>, RibClosed> {
        let found = match (self.ready.take(), self.next.take()) {
            (Some(page), _) => page,
            (None, Some(cursor)) => match page(&self.rib, &self.query, cursor).await? {
                Ok(page) => page,
                // The session ended meanwhile, and with it what it was sent.
                Err(NoSession(_)) => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        self.next = found.next;
        Ok(Some(found.routes.iter().map(route).collect()))
    }
}

impl Dump {
    /// The next records; `None` after the last.
    ///
    /// # Errors
    /// When the RIB thread has ended.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, RibClosed> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        let Some(cursor) = self.next.take() else {
            return Ok(None);
        };
        let Ok(found) = page(&self.rib, &RouteQuery::default(), cursor).await? else {
            return Ok(None);
        };
        self.next = found.next;
        let mut records = Vec::new();
        for routes in found.routes.chunk_by(|a, b| a.prefix == b.prefix) {
            self.record(routes, &mut records);
        }
        Ok(Some(records))
    }

    fn record(&mut self, routes: &[RouteDetail], out: &mut Vec<u8>) {
        let entries: Vec<RibEntry<'_>> = routes
            .iter()
            .filter(|route| may_be_used(route.verdict))
            .filter_map(|route| {
                Some(RibEntry {
                    peer_index: *self.index.get(&route.peer_id)?,
                    originated: self.begun.saturating_sub(route.age),
                    path_id: route.path_id,
                    attributes: &route.attributes,
                    next_hop: route.next_hop.unwrap_or(unspecified(route)),
                })
            })
            .collect();
        let Some(prefix) = routes
            .first()
            .map(|r| r.prefix)
            .filter(|_| !entries.is_empty())
        else {
            return;
        };
        let record = RibRecord {
            time: self.begun,
            sequence: self.sequence,
            prefix,
            add_path: entries.iter().any(|entry| entry.path_id != 0),
            entries: &entries,
        };
        match mrt::encode_rib(&record, out) {
            Ok(()) => self.sequence = self.sequence.wrapping_add(1),
            Err(error) => tracing::warn!(%prefix, %error, "prefix left out of an MRT dump"),
        }
    }
}

/// Whether the import let it in; the next hop may resolve another time.
fn may_be_used(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Ineligible(reason) => reason == Ineligible::NextHopUnreachable,
        _ => true,
    }
}

fn unspecified(route: &RouteDetail) -> NextHop {
    match Family::of(&route.prefix) {
        Family::Ipv4Unicast => NextHop::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6Unicast => NextHop::V6 {
            global: std::net::Ipv6Addr::UNSPECIFIED,
            link_local: None,
        },
    }
}

fn route(detail: &RouteDetail) -> BgpRoute {
    BgpRoute {
        prefix: detail.prefix,
        origin: match detail.source {
            RouteSource::OwnBlock => RouteOrigin::Block,
            RouteSource::Node => RouteOrigin::Node,
            RouteSource::Static => RouteOrigin::Static,
            RouteSource::Learned => RouteOrigin::Bgp,
        },
        peer: detail.peer.as_ref().map(ToString::to_string),
        path_id: detail.path_id,
        best: matches!(detail.verdict, Verdict::Best(_)),
        multipath: matches!(detail.verdict, Verdict::Shares(_)),
        why: detail.verdict.to_string(),
        rejected: detail
            .rejected
            .as_ref()
            .map(|(reason, by)| Rejection(*reason, by).to_string()),
        stale: detail.stale,
        age_seconds: detail.age.into(),
        next_hop: detail.next_hop.map(|n| n.to_string()),
        next_hop_state: match (detail.next_hop, detail.next_hop_state) {
            (None, _) => NextHopReport::Own,
            (Some(_), NextHopState::Resolved { igp_cost }) => NextHopReport::Resolved { igp_cost },
            (Some(_), NextHopState::Unresolved) => NextHopReport::Unresolved,
            (Some(_), NextHopState::Pending) => NextHopReport::Pending,
        },
        attributes: attributes(&detail.attributes),
        received: detail.received.as_ref().map(|received| ReceivedRoute {
            next_hop: received.next_hop.map(|n| n.to_string()),
            attributes: attributes(&received.attributes),
        }),
        advertised: detail.sent.as_ref().map(|sent| match sent {
            Ok(sent) => Advertised {
                attributes: Some(attributes(&sent.attributes)),
                next_hop: sent.next_hop.map(|n| n.to_string()),
                path_id: sent.path_id,
                why_not: None,
            },
            Err(why) => Advertised {
                attributes: None,
                next_hop: None,
                path_id: 0,
                why_not: Some(why.to_string()),
            },
        }),
    }
}

fn attributes(set: &PathAttributes) -> RouteAttributes {
    let hot = set.hot();
    let communities = set.communities().map(|c| CommunityName(c).to_string());
    let ext = set.ext_communities().map(u64::from_be_bytes);
    RouteAttributes {
        origin: hot.origin.to_string(),
        as_path: set.as_path().to_string(),
        local_pref: hot.local_pref,
        med: hot.med,
        communities: communities.collect(),
        ext_communities: ext.map(|c| ExtCommunityName(c).to_string()).collect(),
        large_communities: set.large_communities().map(|c| c.to_string()).collect(),
        originator_id: hot.originator_id,
        cluster_list: set.cluster_list().collect(),
        aggregator: set.aggregator().map(|(asn, id)| format!("{asn} {id}")),
        atomic_aggregate: set.atomic_aggregate(),
        only_to_customer: set.only_to_customer(),
    }
}
