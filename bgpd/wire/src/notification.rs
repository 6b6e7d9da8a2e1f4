//! NOTIFICATION messages: every code and subcode by name, and their words.

use core::fmt;

use crate::frame::{MessageType, finish_message, start_message};

/// Error codes (RFC 4271 §4.5, RFC 7313, RFC 9687).
pub mod code {
    /// Message Header Error.
    pub const MESSAGE_HEADER: u8 = 1;
    /// OPEN Message Error.
    pub const OPEN_MESSAGE: u8 = 2;
    /// UPDATE Message Error.
    pub const UPDATE_MESSAGE: u8 = 3;
    /// Hold Timer Expired.
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    /// Finite State Machine Error.
    pub const FINITE_STATE_MACHINE: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313).
    pub const ROUTE_REFRESH_MESSAGE: u8 = 7;
    /// Send Hold Timer Expired (RFC 9687).
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;
}

/// Subcodes of [`code::MESSAGE_HEADER`].
pub mod header_error {
    /// The marker is not all ones.
    pub const CONNECTION_NOT_SYNCHRONIZED: u8 = 1;
    /// Data: the length field.
    pub const BAD_MESSAGE_LENGTH: u8 = 2;
    /// Data: the type field.
    pub const BAD_MESSAGE_TYPE: u8 = 3;
}

/// Subcodes of [`code::OPEN_MESSAGE`]; 0 is "malformed, nothing more specific".
pub mod open_error {
    /// A malformed OPEN that no other subcode describes.
    pub const UNSPECIFIC: u8 = 0;
    /// Data: the largest version supported, two octets.
    pub const UNSUPPORTED_VERSION: u8 = 1;
    /// The AS is not the configured one, or it is 0 (RFC 7607).
    pub const BAD_PEER_AS: u8 = 2;
    /// The BGP identifier is 0, or our own on an internal session (RFC 6286).
    pub const BAD_BGP_IDENTIFIER: u8 = 3;
    /// An optional parameter of unknown type.
    pub const UNSUPPORTED_OPTIONAL_PARAMETER: u8 = 4;
    /// A hold time of 1 or 2 seconds, or one refused by configuration.
    pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
    /// Data: the capabilities that are required (RFC 5492).
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// The BGP roles of the two sides do not fit (RFC 9234).
    pub const ROLE_MISMATCH: u8 = 11;
}

/// Subcodes of [`code::UPDATE_MESSAGE`].
pub mod update_error {
    /// Lengths that contradict each other, or an attribute twice.
    pub const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
    /// Data: the attribute.
    pub const UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE: u8 = 2;
    /// Data: the missing type.
    pub const MISSING_WELL_KNOWN_ATTRIBUTE: u8 = 3;
    /// Data: the attribute.
    pub const ATTRIBUTE_FLAGS: u8 = 4;
    /// Data: the attribute.
    pub const ATTRIBUTE_LENGTH: u8 = 5;
    /// Data: the attribute.
    pub const INVALID_ORIGIN: u8 = 6;
    /// Data: the attribute.
    pub const INVALID_NEXT_HOP: u8 = 8;
    /// Data: the attribute.
    pub const OPTIONAL_ATTRIBUTE: u8 = 9;
    /// Prefixes that cannot be parsed.
    pub const INVALID_NETWORK_FIELD: u8 = 10;
    /// An AS_PATH that cannot be parsed, or contains AS 0.
    pub const MALFORMED_AS_PATH: u8 = 11;
}

/// Subcodes of [`code::FINITE_STATE_MACHINE`] (RFC 6608).
pub mod fsm_error {
    /// Not specified.
    pub const UNSPECIFIED: u8 = 0;
    /// Unexpected message in state OpenSent.
    pub const IN_OPEN_SENT: u8 = 1;
    /// Unexpected message in state OpenConfirm.
    pub const IN_OPEN_CONFIRM: u8 = 2;
    /// Unexpected message in state Established.
    pub const IN_ESTABLISHED: u8 = 3;
}

/// Subcodes of [`code::CEASE`] (RFC 4486, RFC 8538, RFC 9384).
pub mod cease {
    /// Data: optionally AFI, SAFI and the bound.
    pub const MAXIMUM_PREFIXES_REACHED: u8 = 1;
    /// Data: optionally a shutdown message (RFC 9003).
    pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
    /// The peer is no longer configured.
    pub const PEER_DECONFIGURED: u8 = 3;
    /// Data: optionally a shutdown message (RFC 9003).
    pub const ADMINISTRATIVE_RESET: u8 = 4;
    /// The connection is not welcome now.
    pub const CONNECTION_REJECTED: u8 = 5;
    /// A setting that the OPEN carries has changed.
    pub const OTHER_CONFIGURATION_CHANGE: u8 = 6;
    /// This connection lost the collision (RFC 4271 §6.8).
    pub const CONNECTION_COLLISION_RESOLUTION: u8 = 7;
    /// Memory, tables, file descriptors.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// Data: the notification that it stands for (RFC 8538).
    pub const HARD_RESET: u8 = 9;
    /// BFD says that the path is down (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// Subcodes of [`code::ROUTE_REFRESH_MESSAGE`] (RFC 7313).
pub mod refresh_error {
    /// Data: the whole message.
    pub const INVALID_MESSAGE_LENGTH: u8 = 1;
}

/// Longest data that keeps a NOTIFICATION within an ordinary message.
const MAX_DATA: usize = crate::frame::MAX_MESSAGE_LEN - crate::frame::HEADER_LEN - 2;
/// Longest shutdown message in octets (RFC 9003 §2).
const MAX_SHUTDOWN_TEXT: usize = 255;

/// Why a session ends.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Notification {
    /// One of [`code`].
    pub code: u8,
    /// Meaning depends on the code; 0 is "unspecific".
    pub subcode: u8,
    /// Meaning depends on code and subcode.
    pub data: Vec<u8>,
}

impl Notification {
    /// A notification without data.
    pub fn new(code: u8, subcode: u8) -> Self {
        Self::with_data(code, subcode, Vec::new())
    }

    /// A notification with data.
    pub fn with_data(code: u8, subcode: u8, data: Vec<u8>) -> Self {
        Self {
            code,
            subcode,
            data,
        }
    }

    /// Cease with a [`cease`] subcode.
    pub fn cease(subcode: u8) -> Self {
        Self::new(code::CEASE, subcode)
    }

    /// Hold Timer Expired.
    pub fn hold_timer_expired() -> Self {
        Self::new(code::HOLD_TIMER_EXPIRED, 0)
    }

    /// Send Hold Timer Expired (RFC 9687).
    pub fn send_hold_timer_expired() -> Self {
        Self::new(code::SEND_HOLD_TIMER_EXPIRED, 0)
    }

    /// Finite State Machine Error with an [`fsm_error`] subcode.
    pub fn fsm(subcode: u8) -> Self {
        Self::new(code::FINITE_STATE_MACHINE, subcode)
    }

    /// OPEN Message Error with an [`open_error`] subcode.
    pub fn open(subcode: u8) -> Self {
        Self::new(code::OPEN_MESSAGE, subcode)
    }

    /// Administrative Shutdown with a message to the other operator (RFC 9003), cut to 255 octets of UTF-8.
    pub fn administrative_shutdown(text: &str) -> Self {
        Self::with_data(
            code::CEASE,
            cease::ADMINISTRATIVE_SHUTDOWN,
            shutdown_data(text),
        )
    }

    /// Administrative Reset with a message to the other operator (RFC 9003), cut to 255 octets of UTF-8.
    pub fn administrative_reset(text: &str) -> Self {
        Self::with_data(
            code::CEASE,
            cease::ADMINISTRATIVE_RESET,
            shutdown_data(text),
        )
    }

    /// The same reason as a Hard Reset, which graceful restart does not survive (RFC 8538 §3).
    pub fn into_hard_reset(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::with_data(code::CEASE, cease::HARD_RESET, data)
    }

    /// Whether this is a Hard Reset (RFC 8538).
    pub fn is_hard_reset(&self) -> bool {
        self.code == code::CEASE && self.subcode == cease::HARD_RESET
    }

    /// The notification that a Hard Reset carries.
    pub fn encapsulated(&self) -> Option<Notification> {
        if !self.is_hard_reset() {
            return None;
        }
        match self.data.as_slice() {
            [code, subcode, data @ ..] => Some(Self::with_data(*code, *subcode, data.to_vec())),
            _ => None,
        }
    }

    /// Reads a message body. A body too short for code and subcode, which framing never lets through, reads as 0/0.
    pub fn decode(body: &[u8]) -> Notification {
        match body {
            [code, subcode, data @ ..] => Self::with_data(*code, *subcode, data.to_vec()),
            _ => Self::new(0, 0),
        }
    }

    /// Appends the message, header included. Data that would exceed an ordinary message is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = start_message(MessageType::Notification, out);
        out.extend_from_slice(&[self.code, self.subcode]);
        out.extend(self.data.iter().take(MAX_DATA));
        finish_message(start, out);
    }

    /// The other operator's message (RFC 9003) of an Administrative Shutdown or Reset, also inside a Hard Reset.
    /// Control characters and invalid UTF-8 come out as U+FFFD, so that it can be logged. `None` when there is none or
    /// its length octet is wrong.
    pub fn shutdown_message(&self) -> Option<String> {
        if let Some(inner) = self.encapsulated() {
            // A Hard Reset inside a Hard Reset has no meaning; one level bounds the recursion.
            return (!inner.is_hard_reset())
                .then(|| inner.shutdown_message())
                .flatten();
        }
        let takes_text = matches!(
            self.subcode,
            cease::ADMINISTRATIVE_SHUTDOWN | cease::ADMINISTRATIVE_RESET
        );
        if self.code != code::CEASE || !takes_text {
            return None;
        }
        let (len, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(*len)).filter(|t| !t.is_empty())?;
        Some(
            String::from_utf8_lossy(text)
                .chars()
                .map(|c| {
                    if c.is_control() {
                        char::REPLACEMENT_CHARACTER
                    } else {
                        c
                    }
                })
                .collect(),
        )
    }

    fn words(&self) -> (&'static str, Option<&'static str>) {
        let subcode = match (self.code, self.subcode) {
            (1, 1) => "Connection Not Synchronized",
            (1, 2) => "Bad Message Length",
            (1, 3) => "Bad Message Type",
            (2, 1) => "Unsupported Version Number",
            (2, 2) => "Bad Peer AS",
            (2, 3) => "Bad BGP Identifier",
            (2, 4) => "Unsupported Optional Parameter",
            (2, 6) => "Unacceptable Hold Time",
            (2, 7) => "Unsupported Capability",
            (2, 11) => "Role Mismatch",
            (3, 1) => "Malformed Attribute List",
            (3, 2) => "Unrecognized Well-known Attribute",
            (3, 3) => "Missing Well-known Attribute",
            (3, 4) => "Attribute Flags Error",
            (3, 5) => "Attribute Length Error",
            (3, 6) => "Invalid ORIGIN Attribute",
            (3, 8) => "Invalid NEXT_HOP Attribute",
            (3, 9) => "Optional Attribute Error",
            (3, 10) => "Invalid Network Field",
            (3, 11) => "Malformed AS_PATH",
            (5, 1) => "Unexpected Message in OpenSent",
            (5, 2) => "Unexpected Message in OpenConfirm",
            (5, 3) => "Unexpected Message in Established",
            (6, 1) => "Maximum Number of Prefixes Reached",
            (6, 2) => "Administrative Shutdown",
            (6, 3) => "Peer De-configured",
            (6, 4) => "Administrative Reset",
            (6, 5) => "Connection Rejected",
            (6, 6) => "Other Configuration Change",
            (6, 7) => "Connection Collision Resolution",
            (6, 8) => "Out of Resources",
            (6, 9) => "Hard Reset",
            (6, 10) => "BFD Down",
            (7, 1) => "Invalid Message Length",
            _ => "",
        };
        let code = match self.code {
            1 => "Message Header Error",
            2 => "OPEN Message Error",
            3 => "UPDATE Message Error",
            4 => "Hold Timer Expired",
            5 => "Finite State Machine Error",
            6 => "Cease",
            7 => "ROUTE-REFRESH Message Error",
            8 => "Send Hold Timer Expired",
            _ => "Unknown",
        };
        (code, (!subcode.is_empty()).then_some(subcode))
    }
}

fn shutdown_data(text: &str) -> Vec<u8> {
    let cut = text.floor_char_boundary(MAX_SHUTDOWN_TEXT);
    let text = text.as_bytes().get(..cut).unwrap_or_default();
    let mut data = Vec::with_capacity(1 + text.len());
    data.push(text.len() as u8);
    data.extend_from_slice(text);
    data
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = self.words();
        f.write_str(code)?;
        match subcode {
            Some(words) => write!(f, "/{words}")?,
            None if self.subcode != 0 || code == "Unknown" => {
                write!(f, " ({}/{})", self.code, self.subcode)?;
            }
            None => {}
        }
        if let Some(inner) = self.encapsulated().filter(|n| !n.is_hard_reset()) {
            return write!(f, ": {inner}");
        }
        match self.shutdown_message() {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(notification: &Notification, words: &str, body: &[u8]) {
        assert_eq!(notification.to_string(), words);
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        assert_eq!(&bytes[19..], body);
        assert_eq!(&Notification::decode(&bytes[19..]), notification);
    }

    #[test]
    fn words_and_bytes() {
        check(
            &Notification::cease(cease::CONNECTION_COLLISION_RESOLUTION),
            "Cease/Connection Collision Resolution",
            &[6, 7],
        );
        check(
            &Notification::hold_timer_expired(),
            "Hold Timer Expired",
            &[4, 0],
        );
        check(
            &Notification::send_hold_timer_expired(),
            "Send Hold Timer Expired",
            &[8, 0],
        );
        check(
            &Notification::administrative_shutdown("bye"),
            "Cease/Administrative Shutdown: bye",
            &[6, 2, 3, b'b', b'y', b'e'],
        );
        check(
            &Notification::administrative_reset("x").into_hard_reset(),
            "Cease/Hard Reset: Cease/Administrative Reset: x",
            &[6, 9, 6, 4, 1, b'x'],
        );
        check(
            &Notification::new(3, 200),
            "UPDATE Message Error (3/200)",
            &[3, 200],
        );
        check(&Notification::new(0, 0), "Unknown (0/0)", &[0, 0]);
    }

    #[test]
    fn shutdown_text_is_cut_at_a_character_and_read_with_care() {
        let long = "é".repeat(200);
        let notification = Notification::administrative_shutdown(&long);
        assert_eq!(notification.data.len(), 255);
        assert_eq!(notification.shutdown_message().unwrap(), "é".repeat(127));

        let raw = |data: &[u8]| Notification::with_data(6, 2, data.to_vec()).shutdown_message();
        assert_eq!(raw(&[3, b'a', b'\n', 0xff]).unwrap(), "a\u{fffd}\u{fffd}");
        assert_eq!(raw(&[4, b'a']), None);
        assert_eq!(raw(&[0]), None);
        assert_eq!(raw(&[]), None);
        assert_eq!(
            Notification::with_data(6, 3, vec![1, b'a']).shutdown_message(),
            None
        );
    }

    #[test]
    fn hard_resets_do_not_nest() {
        let mut data = Vec::new();
        for _ in 0..1000 {
            data.extend_from_slice(&[6, 9]);
        }
        let nested = Notification::with_data(6, 9, data);
        assert_eq!(nested.to_string(), "Cease/Hard Reset");
        assert_eq!(nested.shutdown_message(), None);
    }

    #[test]
    fn data_never_outgrows_a_message() {
        let mut bytes = Vec::new();
        Notification::with_data(3, 1, vec![7; 60_000]).encode(&mut bytes);
        assert_eq!(bytes.len(), 4096);
        assert_eq!(&bytes[16..18], &[0x10, 0]);
    }
}
