//! Anti-spoofing: nftables table `roadbed` lets packets in from a pod only when the way back to their source leads to
//! that pod. Reverse path filtering by setting knows IPv4 alone, and `all` overrides it.
//!
//! ADR 8 says why it is built so. Nothing in it is per pod: the rules ask the routing table, so a pod whose routes are not there yet can send nothing.
//! Neighbours of pods are permanent on both ends, so no neighbour discovery of a pod is ever needed.

use std::time::Duration;

use roadbed_api::names::{HOST_IFNAME_PREFIX, NFT_COMMENT, NFT_TABLE};
use roadbed_hostnet::NetlinkError;
use roadbed_hostnet::nft::{Chain, Comparison, Expr, Meta, Nft, Table};
use tokio::sync::watch;

/// How long a table that somebody deleted may be missing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Before connection tracking, which need not know of packets that are dropped (`NF_IP_PRI_RAW`).
const PRIORITY: i32 = -300;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ICMPV6: u8 = 58;
/// ICMPv6 types from router solicitation to redirect (RFC 4861 §4).
const DISCOVERY: [u8; 2] = [133, 137];

/// Whether the table stands: why not, if not.
pub type Verdict = Result<(), String>;

/// The table as it should be.
pub fn table() -> Table {
    use Comparison::{AtLeast, AtMost, Equal};
    let dropped = |conditions: Vec<Expr>| [conditions, vec![Expr::Counter, Expr::Drop]].concat();
    let is = |meta, value: u8| [Expr::Meta(meta), Expr::Compare(Equal, vec![value])];
    let discovery = [
        &is(Meta::Family, IPV6)[..],
        &is(Meta::Transport, ICMPV6)[..],
        &[
            Expr::Transport { offset: 0, len: 1 },
            Expr::Compare(AtLeast, vec![DISCOVERY[0]]),
            Expr::Compare(AtMost, vec![DISCOVERY[1]]),
        ],
    ];
    // The lookup of the way back lets pass what has no source yet: 0.0.0.0/8 and the unspecified address.
    let nobody_v4 = [
        &is(Meta::Family, IPV4)[..],
        &[
            Expr::Network { offset: 12, len: 1 },
            Expr::Compare(Equal, vec![0]),
        ],
    ];
    let nobody_v6 = [
        &is(Meta::Family, IPV6)[..],
        &[
            Expr::Network { offset: 8, len: 16 },
            Expr::Compare(Equal, vec![0; 16]),
        ],
    ];
    let elsewhere = vec![Expr::WayBack, Expr::Compare(Equal, vec![0; 4])];
    Table {
        name: NFT_TABLE,
        comment: NFT_COMMENT,
        chains: vec![
            Chain {
                name: "from-pod",
                prerouting: None,
                rules: vec![
                    dropped(discovery.concat()),
                    dropped(nobody_v4.concat()),
                    dropped(nobody_v6.concat()),
                    dropped(elsewhere),
                ],
            },
            Chain {
                name: "prerouting",
                prerouting: Some(PRIORITY),
                rules: vec![vec![
                    Expr::Meta(Meta::InputName),
                    Expr::Compare(Equal, HOST_IFNAME_PREFIX.into()),
                    Expr::Jump("from-pod"),
                ]],
            },
        ],
    }
}

/// Keeps the table as it should be, whatever others do to it.
struct Keeper {
    nft: Nft,
    table: Table,
    /// Generation of the ruleset at the last look, and what the table was after it was written.
    seen: Option<(u32, Vec<u8>)>,
}

impl Keeper {
    /// Looks and repairs; whether something was to be repaired.
    fn look(&mut self) -> Result<bool, NetlinkError> {
        let generation = self.nft.generation()?;
        if let Some((last, written)) = &mut self.seen {
            if *last == generation {
                return Ok(false);
            }
            if self.nft.table_look(&self.table)?.as_ref() == Some(written) {
                *last = generation;
                return Ok(false);
            }
        }
        let repaired = self.seen.take().is_some();
        self.nft.table_replace(&self.table)?;
        let generation = self.nft.generation()?;
        // Missing again already: the next look writes it anew.
        if let Some(written) = self.nft.table_look(&self.table)? {
            self.seen = Some((generation, written));
        }
        Ok(repaired)
    }
}

/// Writes the table and keeps it; what becomes of it is published. A node that cannot have it goes on without.
pub async fn start() -> watch::Receiver<Verdict> {
    let mut keeper = None;
    let (first, kept) = look(keeper).await;
    keeper = kept;
    let (verdict, receiver) = watch::channel(first);
    if let Err(reason) = &*verdict.borrow() {
        tracing::error!(%reason, "pods can forge source addresses");
    }
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        loop {
            interval.tick().await;
            let (now, kept) = look(keeper).await;
            keeper = kept;
            verdict.send_if_modified(|last| {
                let changed = *last != now;
                match &now {
                    Err(reason) if changed => {
                        tracing::error!(%reason, "pods can forge source addresses");
                    }
                    Ok(()) if changed => tracing::info!("anti-spoofing stands"),
                    _ => {}
                }
                *last = now;
                changed
            });
        }
    });
    receiver
}

async fn look(keeper: Option<Keeper>) -> (Verdict, Option<Keeper>) {
    let looked = tokio::task::spawn_blocking(move || {
        let mut keeper = match keeper {
            Some(keeper) => keeper,
            None => Keeper {
                nft: Nft::open()?,
                table: table(),
                seen: None,
            },
        };
        if keeper.look()? {
            tracing::warn!("somebody changed nftables table inet roadbed: it was written anew");
        }
        Ok::<Keeper, NetlinkError>(keeper)
    })
    .await;
    match looked {
        Ok(Ok(keeper)) => (Ok(()), Some(keeper)),
        Ok(Err(error)) => (Err(error.to_string()), None),
        Err(error) => (Err(error.to_string()), None),
    }
}
