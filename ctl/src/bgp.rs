//! `bgp peers`, `peer`, `rib`, `routes`, `bmp`, `dump`: what the agent's speaker shows. Asks the agent's socket and nothing
//! else; `dump` writes one file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use roadbed_api::agent::{
    BGP_BMP, BGP_DUMP, BGP_PEERS, BgpPeer, BgpPeers, BgpRoute, BmpStations, RibQuery, bgp_peer_path,
};
use roadbed_client::AgentClient;
use serde::Serialize;

use crate::error::CtlError;
use crate::render::RouteSide;

/// How long the agent may pause within an answer.
const IDLE: Duration = Duration::from_secs(10);
/// Octets copied at a time.
const COPY: usize = 64 << 10;

/// Whose routes.
#[derive(Clone, Debug, Default, Args)]
pub struct Sides {
    /// What this peer sent, rejected routes included, with attributes as received (Adj-RIB-In)
    #[arg(long, value_name = "PEER", conflicts_with = "advertised")]
    pub received: Option<String>,
    /// What this peer is sent, with attributes as sent (Adj-RIB-Out)
    #[arg(long, value_name = "PEER")]
    pub advertised: Option<String>,
}

impl Sides {
    /// How the routes are to be shown.
    pub fn side(&self) -> RouteSide {
        match (&self.received, &self.advertised) {
            (Some(_), _) => RouteSide::Received,
            (None, Some(_)) => RouteSide::Advertised,
            (None, None) => RouteSide::All,
        }
    }
}

/// What `bgp rib` and `bgp routes` show.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BgpRoutes {
    /// In the order of their prefixes; the best path of a prefix first.
    pub routes: Vec<BgpRoute>,
}

/// All sessions.
///
/// # Errors
/// When the agent does not answer.
pub fn peers(agent: &AgentClient) -> Result<BgpPeers, CtlError> {
    Ok(agent.get(BGP_PEERS)?)
}

/// One session.
///
/// # Errors
/// When the agent does not answer, or knows no such peer.
pub fn peer(agent: &AgentClient, name: &str) -> Result<BgpPeer, CtlError> {
    Ok(agent.get(&bgp_peer_path(name))?)
}

/// All BMP stations.
///
/// # Errors
/// When the agent does not answer.
pub fn stations(agent: &AgentClient) -> Result<BmpStations, CtlError> {
    Ok(agent.get(BGP_BMP)?)
}

/// Routes, all or near a prefix.
///
/// # Errors
/// When the agent does not answer, knows no such peer, or has no route near the prefix.
pub fn routes(
    agent: &AgentClient,
    prefix: Option<IpNet>,
    sides: &Sides,
) -> Result<BgpRoutes, CtlError> {
    let query = RibQuery {
        prefix,
        received: sides.received.clone(),
        advertised: sides.advertised.clone(),
    };
    let lines = agent.lines::<BgpRoute>(&query.path(), Some(IDLE))?;
    let mut routes = lines.collect::<Result<Vec<_>, _>>()?;
    if let (Some(prefix), true) = (prefix, routes.is_empty()) {
        return Err(CtlError::Nothing(
            match (&sides.received, &sides.advertised) {
                (Some(peer), _) => format!("{peer} has sent no route inside or around {prefix}"),
                _ => format!("the RIB has no route inside or around {prefix}"),
            },
        ));
    }
    routes.sort_by(|a, b| {
        let key = |r: &BgpRoute| (r.prefix, !r.best);
        let order = key(a).cmp(&key(b));
        order.then_with(|| (&a.peer, a.path_id).cmp(&(&b.peer, b.path_id)))
    });
    Ok(BgpRoutes { routes })
}

/// Writes the RIB to `file` as MRT; its length in octets. What was there is replaced once the dump is whole.
///
/// # Errors
/// When the agent does not answer or stops in the middle, or the file cannot be written.
pub fn dump(agent: &AgentClient, file: &Path) -> Result<u64, CtlError> {
    let failed = |error: &io::Error| CtlError::File {
        path: file.to_owned(),
        reason: format!("the dump cannot be written: {error}"),
    };
    let mut from = agent.octets(BGP_DUMP, Some(IDLE))?;
    let unfinished = Unfinished(beside(file));
    let mut to = File::create(&unfinished.0).map_err(|e| failed(&e))?;
    let mut buffer = vec![0; COPY];
    let mut written = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(CtlError::Incomplete(vec![format!(
                    "the agent stopped in the middle of the dump ({error}): {} is as it was",
                    file.display()
                )]));
            }
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        to.write_all(bytes).map_err(|e| failed(&e))?;
        written += bytes.len() as u64;
    }
    to.sync_all().map_err(|e| failed(&e))?;
    fs::rename(&unfinished.0, file).map_err(|e| failed(&e))?;
    Ok(written)
}

/// Where the dump grows: in the same directory, so that it can take the file's place at once.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    file.with_file_name(name)
}

/// A file that goes when it was not renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already, when all went well.
        fs::remove_file(&self.0).ok();
    }
}
