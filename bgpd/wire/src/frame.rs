//! Message framing (RFC 4271 §4.1 and §6.1, RFC 8654). Owns the 19-octet header; never looks into a body.

use crate::notification::{Notification, code, header_error};
use crate::read::Reader;

/// Octets of the message header: marker, length, type.
pub const HEADER_LEN: usize = 19;
/// Longest message without the extended message capability, header included.
pub const MAX_MESSAGE_LEN: usize = 4096;
/// Longest message with the extended message capability (RFC 8654), header included.
pub const MAX_EXTENDED_MESSAGE_LEN: usize = 65535;

const MARKER: [u8; 16] = [0xff; 16];

/// The message types of RFC 4271 §4.1 and RFC 2918.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageType {
    /// Type 1.
    Open,
    /// Type 2.
    Update,
    /// Type 3.
    Notification,
    /// Type 4.
    Keepalive,
    /// Type 5 (RFC 2918).
    RouteRefresh,
}

impl MessageType {
    /// The type octet.
    pub fn code(self) -> u8 {
        match self {
            MessageType::Open => 1,
            MessageType::Update => 2,
            MessageType::Notification => 3,
            MessageType::Keepalive => 4,
            MessageType::RouteRefresh => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => MessageType::Open,
            2 => MessageType::Update,
            3 => MessageType::Notification,
            4 => MessageType::Keepalive,
            5 => MessageType::RouteRefresh,
            _ => return None,
        })
    }

    /// Whether a message of this type may have `len` octets, header included.
    fn length_is_valid(self, len: usize) -> bool {
        match self {
            // RFC 8654 §4: OPEN and KEEPALIVE never become extended messages.
            MessageType::Open => (29..=MAX_MESSAGE_LEN).contains(&len),
            MessageType::Update => len >= 23,
            MessageType::Notification => len >= 21,
            MessageType::Keepalive => len == HEADER_LEN,
            MessageType::RouteRefresh => len >= 23,
        }
    }
}

/// One complete message at the start of a receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Which decoder the body belongs to.
    pub kind: MessageType,
    /// The message without its header.
    pub body: &'a [u8],
    /// Octets of the whole message, header included: how much to consume.
    pub len: usize,
}

/// A fault that ends the session: the NOTIFICATION to send and a constant reason for log and counter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason} ({notification})")]
pub struct DecodeError {
    /// What to tell the peer before closing.
    pub notification: Notification,
    /// What was wrong, without values from the wire.
    pub reason: &'static str,
}

impl DecodeError {
    pub(crate) fn new(code: u8, subcode: u8, data: Vec<u8>, reason: &'static str) -> Self {
        Self {
            notification: Notification {
                code,
                subcode,
                data,
            },
            reason,
        }
    }
}

/// Finds the message at the start of `buf`.
///
/// `Ok(None)` asks for more bytes. `max_len` is what was negotiated: [`MAX_MESSAGE_LEN`] or
/// [`MAX_EXTENDED_MESSAGE_LEN`]. Header faults (RFC 4271 §6.1) are reported as soon as their octets have arrived,
/// before the body has, so that a stranger's bytes never wait in a buffer.
pub fn frame(buf: &[u8], max_len: usize) -> Result<Option<Frame<'_>>, DecodeError> {
    if !buf.iter().take(MARKER.len()).all(|b| *b == 0xff) {
        return Err(DecodeError::new(
            code::MESSAGE_HEADER,
            header_error::CONNECTION_NOT_SYNCHRONIZED,
            Vec::new(),
            "marker is not all ones",
        ));
    }
    let mut reader = Reader::new(buf);
    let (Some(_), Some(len), Some(kind)) = (reader.array::<16>(), reader.u16(), reader.u8()) else {
        return Ok(None);
    };
    let bad_length = |reason| {
        DecodeError::new(
            code::MESSAGE_HEADER,
            header_error::BAD_MESSAGE_LENGTH,
            len.to_be_bytes().to_vec(),
            reason,
        )
    };
    let total = usize::from(len);
    if total < HEADER_LEN || total > max_len {
        return Err(bad_length("message length out of range"));
    }
    let Some(kind) = MessageType::from_code(kind) else {
        return Err(DecodeError::new(
            code::MESSAGE_HEADER,
            header_error::BAD_MESSAGE_TYPE,
            vec![kind],
            "unknown message type",
        ));
    };
    if !kind.length_is_valid(total) {
        return Err(bad_length("message length impossible for its type"));
    }
    Ok(reader.take(total - HEADER_LEN).map(|body| Frame {
        kind,
        body,
        len: total,
    }))
}

/// Appends a header whose length field is still zero; [`finish_message`] fills it in. Returns where it starts.
pub(crate) fn start_message(kind: MessageType, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0, 0, kind.code()]);
    start
}

/// Writes the length of the message that starts at `start` and ends with `out`.
pub(crate) fn finish_message(start: usize, out: &mut [u8]) {
    let len = out.len().saturating_sub(start);
    put_u16_at(out, start + MARKER.len(), len);
}

/// Overwrites two octets at `at` with `value`; every caller has kept `value` below 65536.
pub(crate) fn put_u16_at(out: &mut [u8], at: usize, value: usize) {
    debug_assert!(value <= usize::from(u16::MAX));
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&(value as u16).to_be_bytes());
    }
}

/// Appends a KEEPALIVE.
pub fn encode_keepalive(out: &mut Vec<u8>) {
    let start = start_message(MessageType::Keepalive, out);
    finish_message(start, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.push(kind);
        bytes
    }

    /// `expected` is the (code, subcode, data) of the NOTIFICATION.
    fn check_refused(bytes: &[u8], max_len: usize, expected: (u8, u8, &[u8])) {
        let error = frame(bytes, max_len).expect_err("must be refused");
        let n = &error.notification;
        assert_eq!(
            (n.code, n.subcode, n.data.as_slice()),
            expected,
            "{bytes:02x?}"
        );
    }

    #[test]
    fn header_faults_name_their_subcode_and_data() {
        let mut bad_marker = header(19, 4);
        bad_marker[15] = 0xfe;
        check_refused(&bad_marker, 4096, (1, 1, &[]));
        check_refused(b"GET / HTTP/1.1\r\n", 4096, (1, 1, &[]));
        check_refused(&[0x16], 4096, (1, 1, &[]));
        for len in 0..19u16 {
            check_refused(&header(len, 4), 4096, (1, 2, &len.to_be_bytes()));
        }
        check_refused(&header(4097, 2), 4096, (1, 2, &[0x10, 0x01]));
        check_refused(&header(65535, 2), 4096, (1, 2, &[0xff, 0xff]));
        for (len, kind) in [(28, 1), (22, 2), (20, 3), (20, 4), (22, 5)] {
            check_refused(&header(len, kind), 4096, (1, 2, &len.to_be_bytes()));
        }
        for kind in [0u8, 6, 7, 128, 255] {
            check_refused(&header(19, kind), 4096, (1, 3, &[kind]));
        }
    }

    #[test]
    fn extended_messages_are_for_updates_only() {
        check_refused(&header(4097, 1), 65535, (1, 2, &[0x10, 0x01]));
        check_refused(&header(4097, 4), 65535, (1, 2, &[0x10, 0x01]));
        let mut update = header(5000, 2);
        update.resize(5000, 0);
        let found = frame(&update, MAX_EXTENDED_MESSAGE_LEN).unwrap().unwrap();
        assert_eq!((found.kind, found.len), (MessageType::Update, 5000));
    }

    #[test]
    fn every_prefix_of_a_message_asks_for_more() {
        let mut bytes = Vec::new();
        encode_keepalive(&mut bytes);
        let mut notification = header(21, 3);
        notification.extend_from_slice(&[6, 2]);
        for message in [bytes, notification] {
            for cut in 0..message.len() {
                assert_eq!(frame(&message[..cut], 4096), Ok(None));
            }
            let mut twice = message.clone();
            twice.extend_from_slice(&message);
            let found = frame(&twice, 4096).unwrap().unwrap();
            assert_eq!(found.len, message.len());
            assert_eq!(found.body, &message[19..]);
        }
    }
}
