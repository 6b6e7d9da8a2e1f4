//! What a session waits for; what is not there never comes.

use std::time::Instant;

use bgp_core::fsm::ConnId;
use bgp_core::rib::OutMessage;
use roadbed_fib::LocalLink;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::conn::Conn;
use super::{Starting, Up};

pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

pub(super) async fn dialled(
    dialling: &mut Option<(ConnId, AbortOnDropHandle<std::io::Result<TcpStream>>)>,
) -> std::io::Result<TcpStream> {
    match dialling {
        Some((_, task)) => task
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error))),
        None => std::future::pending().await,
    }
}

pub(super) async fn local_link(starting: &mut Option<Starting>) -> Option<LocalLink> {
    match starting {
        Some(starting) => (&mut starting.link).await.ok().flatten(),
        None => std::future::pending().await,
    }
}

pub(super) async fn readable(conn: &Option<Conn>) {
    match conn {
        Some(conn) => conn.readable().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn writable(conn: &Option<Conn>) {
    match conn {
        Some(conn) => conn.writable().await,
        None => std::future::pending().await,
    }
}

/// The next UPDATE for the session that is up. Not polled while the connection still has bytes to write.
pub(super) async fn from_rib(up: &mut Option<Up>) -> Option<OutMessage> {
    match up {
        Some(up) => match up.queue.recv().await {
            Some(message) => Some(message),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
