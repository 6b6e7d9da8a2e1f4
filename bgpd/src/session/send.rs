//! From what the RIB and the FSM say to bytes.

use bgp_core::fsm::{ConnId, Input};
use bgp_core::rib::{Event, OutMessage};
use bgp_wire::NextHop;

use super::conn::Conn;
use super::{PERMITS, Session, slot};
use crate::rib_thread::RibMessage;

impl Session {
    pub(super) fn has_output(&self, i: usize) -> bool {
        self.conns[i].as_ref().is_some_and(Conn::wants_write)
    }

    /// Takes UPDATEs from the RIB into the write under preparation, as many as fit, and writes.
    pub(super) fn send_updates(&mut self, first: Option<&OutMessage>) {
        let Some(up) = &mut self.up else { return };
        let index = slot(up.conn);
        let Some(conn) = self.conns[index].as_mut().filter(|c| c.id == up.conn) else {
            return;
        };
        if let Some(first) = first {
            push(conn, first, &up.next_hops);
        } else if conn.wants_write() {
            return;
        }
        while conn.has_room() {
            let Ok(message) = up.queue.try_recv() else {
                break;
            };
            push(conn, &message, &up.next_hops);
        }
        if conn.wants_write() {
            self.write(index);
        }
    }

    /// Writes what is urgent; on a displaced connection that is a last word, which goes out as it closes.
    pub(super) fn write_to(&mut self, id: ConnId) {
        let place = slot(id);
        if self.conns[place].as_ref().is_some_and(|conn| conn.id == id) {
            self.write(place);
        }
    }

    pub(super) fn write(&mut self, i: usize) {
        let Some(conn) = &mut self.conns[i] else {
            return;
        };
        let id = conn.id;
        // When it fails, reading finds out, after what the peer may have said before.
        let flushed = conn.flush();
        if flushed.progress {
            self.input(Input::WriteProgress { conn: id });
        }
        if flushed.updates > 0 {
            self.input(Input::UpdateSent { conn: id });
            self.updates_sent += flushed.updates as u64;
            self.permit(flushed.update_octets);
        }
    }

    /// Lets the RIB send as many octets again as were written, a quarter of all at a time.
    fn permit(&mut self, written: usize) {
        let Some(up) = &mut self.up else { return };
        up.to_permit += u32::try_from(written).unwrap_or(u32::MAX);
        if up.to_permit >= PERMITS / 4 {
            let count = std::mem::take(&mut up.to_permit);
            self.to_rib
                .push_back(RibMessage::Event(Event::Permit(up.session, count)));
        }
    }
}

fn push(conn: &mut Conn, message: &OutMessage, next_hops: &[Option<NextHop>; 2]) {
    let place = message.next_hop_at.and_then(|(offset, len)| {
        let own = if len == 4 { next_hops[0] } else { next_hops[1] };
        own.map(|own| (offset, len, own.octets().0))
    });
    match place {
        Some((offset, len, octets)) => {
            conn.push_update(&message.bytes, Some((offset, &octets[..len.min(32)])))
        }
        None => conn.push_update(&message.bytes, None),
    }
}
