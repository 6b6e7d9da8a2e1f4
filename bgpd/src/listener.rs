//! Accepts connections and hands each to the session of the peer that it comes from; everyone else is closed at once.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use roadbed_api::kinds::Password;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::transport;

/// Connections that may wait for one session; more are closed.
pub(crate) const ACCEPT_QUEUE: usize = 4;
/// At most one log line about each nuisance in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long to leave others time to close a file when there are none left.
const WITHOUT_FILES: Duration = Duration::from_millis(100);
/// Connections that the kernel holds for us. A peer that dials while strangers have filled the queue waits for a
/// retransmission, a second or more; a held connection costs some 2 KiB.
const BACKLOG: i32 = 1024;

/// The listening socket cannot be had.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "TCP port {port} is in use: another BGP speaker runs in this network namespace; stop it or set listenPort"
    )]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// No right to listen below port 1024.
    #[error(
        "no permission to listen on TCP port {port}: CAP_NET_BIND_SERVICE is missing, or set listenPort above 1023"
    )]
    Forbidden {
        /// The port.
        port: u16,
    },
    /// Anything else.
    #[error("cannot listen on TCP port {port}: {source}")]
    Other {
        /// The port.
        port: u16,
        /// The system's answer.
        source: io::Error,
    },
}

/// Who may connect, where their connections go, and which keys they sign with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// Peers with an address of their own.
    pub(crate) peers: HashMap<IpAddr, mpsc::Sender<TcpStream>>,
    /// Everyone else inside a prefix; the longest counts.
    pub(crate) ranges: Vec<(IpNet, mpsc::Sender<TcpStream>)>,
    /// TCP-MD5 keys, of peers and of ranges. The kernel prefers the longest prefix, too.
    pub(crate) keys: HashMap<IpNet, Password>,
}

impl Admission {
    fn of(&self, address: IpAddr) -> Option<&mpsc::Sender<TcpStream>> {
        self.peers.get(&address).or_else(|| {
            let inside = self.ranges.iter().filter(|(p, _)| p.contains(&address));
            inside.max_by_key(|(p, _)| p.prefix_len()).map(|(_, to)| to)
        })
    }
}

/// Opens the listening socket: all addresses, both families, or IPv4 alone where the kernel has no IPv6.
pub(crate) fn bind(port: u16) -> Result<TcpListener, ListenError> {
    let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let bound = match open(any_v6) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => open(any_v4),
        ok => ok,
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::PortInUse { port },
        io::ErrorKind::PermissionDenied => ListenError::Forbidden { port },
        _ => ListenError::Other { port, source },
    })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted speaker must not wait for its own old connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    transport::prepare_listener(&socket, transport::family(address.ip()));
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A nuisance that is counted whenever it happens and logged now and then.
#[derive(Default)]
struct Nuisance {
    count: u64,
    logged: Option<Instant>,
}

impl Nuisance {
    /// Counts one more; the count, when it is to be logged.
    fn happened(&mut self) -> Option<u64> {
        self.count += 1;
        if self.logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return None;
        }
        self.logged = Some(Instant::now());
        Some(self.count)
    }
}

/// Accepts until the speaker drops its side of `admission`; not before that has changed, since nobody is a stranger as long
/// as the peers are not known: connections wait.
pub(crate) async fn run(listener: TcpListener, mut admission: watch::Receiver<Admission>) {
    if admission.changed().await.is_err() {
        return;
    }
    let mut keys = HashMap::new();
    let wanted = admission.borrow_and_update().keys.clone();
    sign(&listener, &mut keys, wanted);
    let (mut strangers, mut refusals) = (Nuisance::default(), Nuisance::default());
    loop {
        let accepted = tokio::select! {
            biased;
            changed = admission.changed() => match changed {
                Ok(()) => {
                    let wanted = admission.borrow_and_update().keys.clone();
                    sign(&listener, &mut keys, wanted);
                    continue;
                }
                Err(_) => return,
            },
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            // Who dialled has gone again: no reason to keep the next one waiting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                // Out of file descriptors, most likely.
                if let Some(times) = refusals.happened() {
                    tracing::warn!(%error, times, "cannot accept a connection");
                }
                tokio::time::sleep(WITHOUT_FILES).await;
                continue;
            }
        };
        let address = remote.ip().to_canonical();
        let session = admission.borrow().of(address).cloned();
        let Some(session) = session else {
            if let Some(strangers) = strangers.happened() {
                tracing::info!(%address, strangers, "closed a connection from an address that is no peer");
            }
            continue;
        };
        // A session that has not taken the last ones does not get more.
        drop(session.try_send(stream));
    }
}

/// Has the listening socket ask for exactly the wanted keys. Connections that are up keep theirs.
fn sign(
    listener: &TcpListener,
    keys: &mut HashMap<IpNet, Password>,
    wanted: HashMap<IpNet, Password>,
) {
    let family = match listener.local_addr() {
        Ok(address) => transport::family(address.ip()),
        Err(_) => return,
    };
    let gone = keys
        .keys()
        .filter(|peers| !wanted.contains_key(*peers))
        .map(|peers| (*peers, None));
    let new = wanted
        .iter()
        .filter(|(peers, key)| keys.get(*peers) != Some(*key))
        .map(|(peers, key)| (*peers, Some(key)));
    for (peers, key) in gone.chain(new) {
        // Its sessions still ask for the key on each connection, so none comes up without.
        if let Err(error) = transport::sign(listener, family, peers, key) {
            tracing::error!(%peers, %error, "TCP-MD5 key not set for incoming connections");
        }
    }
    *keys = wanted;
}
