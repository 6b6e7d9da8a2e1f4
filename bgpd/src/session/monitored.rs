//! What BMP stations must know of a session and only the session knows: its OPENs, its ends, its last words.

use std::net::SocketAddr;
use std::time::SystemTime;

use bgp_core::fsm::{ConnId, Message};
use bgp_core::negotiation::Negotiated;
use bgp_core::rib::PeerUp;
use bytes::Bytes;

use super::Session;
use crate::bmp::{Monitored, Treated};

impl Session {
    /// Remembers of what is sent what collectors are told later.
    pub(super) fn note(&mut self, conn: ConnId, message: &Message) {
        match message {
            Message::Open(_) => {
                if let Some(found) = self.conn_mut(conn) {
                    let mut bytes = Vec::new();
                    message.encode(&mut bytes);
                    found.opens[0] = Bytes::from(bytes);
                }
            }
            Message::Notification(notification) => {
                if let Some(up) = self.up.as_mut().filter(|up| up.conn == conn) {
                    up.last_words = Some(notification.clone());
                }
            }
            Message::Keepalive => {}
        }
    }

    pub(super) fn monitored(
        &mut self,
        up: &PeerUp,
        (local, remote): (SocketAddr, SocketAddr),
        conn: ConnId,
        negotiated: &Negotiated,
    ) -> Monitored {
        let opens = self.conn_mut(conn).map(|found| found.opens.clone());
        let [sent_open, received_open] = opens.unwrap_or_default();
        Monitored {
            session: up.session,
            peer: up.name.clone(),
            peer_as: up.remote_as,
            bgp_id: up.bgp_id,
            local,
            remote,
            sent_open,
            received_open,
            families: up.families,
            add_path: negotiated.add_path_receive,
            max_len: negotiated.max_receive,
            since: SystemTime::now(),
            treated: Treated::default(),
        }
    }
}
