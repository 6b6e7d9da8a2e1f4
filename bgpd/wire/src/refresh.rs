//! ROUTE-REFRESH (RFC 2918) with the message subtypes of RFC 7313.

use crate::family::Family;
use crate::frame::{DecodeError, HEADER_LEN, MessageType, finish_message, start_message};
use crate::notification::{code, header_error, refresh_error};
use crate::read::Reader;

/// Message subtypes of RFC 7313 §3.2; other values are to be ignored.
pub mod refresh_subtype {
    /// A request to send all routes again.
    pub const REQUEST: u8 = 0;
    /// Beginning of a route refresh.
    pub const BEGIN: u8 = 1;
    /// End of a route refresh.
    pub const END: u8 = 2;
}

/// A ROUTE-REFRESH message. ORF entries (RFC 5291), never negotiated by this speaker, are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RouteRefresh {
    /// AFI and SAFI as received; they may name a family that this speaker does not carry.
    pub family_raw: (u16, u8),
    /// One of [`refresh_subtype`], or a value to ignore.
    pub subtype: u8,
}

impl RouteRefresh {
    /// A message of the given [`refresh_subtype`] about a family.
    pub fn new(family: Family, subtype: u8) -> Self {
        Self {
            family_raw: (family.afi(), family.safi()),
            subtype,
        }
    }

    /// Reads a message body. RFC 7313 §5: BoRR and EoRR of another length than 4 end the session with 7/1 and the whole
    /// message as data.
    pub fn decode(body: &[u8]) -> Result<RouteRefresh, DecodeError> {
        let mut reader = Reader::new(body);
        let (Some(afi), Some(subtype), Some(safi)) = (reader.u16(), reader.u8(), reader.u8())
        else {
            let len = (HEADER_LEN + body.len()) as u16;
            return Err(DecodeError::new(
                code::MESSAGE_HEADER,
                header_error::BAD_MESSAGE_LENGTH,
                len.to_be_bytes().to_vec(),
                "ROUTE-REFRESH too short",
            ));
        };
        if !reader.is_empty() && matches!(subtype, refresh_subtype::BEGIN | refresh_subtype::END) {
            let mut message = Vec::with_capacity(HEADER_LEN + body.len());
            let start = start_message(MessageType::RouteRefresh, &mut message);
            message.extend_from_slice(body);
            finish_message(start, &mut message);
            return Err(DecodeError::new(
                code::ROUTE_REFRESH_MESSAGE,
                refresh_error::INVALID_MESSAGE_LENGTH,
                message,
                "BoRR or EoRR of wrong length",
            ));
        }
        Ok(RouteRefresh {
            family_raw: (afi, safi),
            subtype,
        })
    }

    /// Appends the message, header included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = start_message(MessageType::RouteRefresh, out);
        let (afi, safi) = self.family_raw;
        out.extend_from_slice(&afi.to_be_bytes());
        out.extend_from_slice(&[self.subtype, safi]);
        finish_message(start, out);
    }

    /// The family, when it is one that this codec carries.
    pub fn family(&self) -> Option<Family> {
        let (afi, safi) = self.family_raw;
        Family::from_afi_safi(afi, safi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_bytes_and_way_back() {
        let refresh = RouteRefresh::new(Family::Ipv6Unicast, refresh_subtype::BEGIN);
        let mut bytes = Vec::new();
        refresh.encode(&mut bytes);
        assert_eq!(&bytes[16..], &[0, 23, 5, 0, 2, 1, 1]);
        let decoded = RouteRefresh::decode(&bytes[19..]).unwrap();
        assert_eq!(decoded, refresh);
        assert_eq!(decoded.family(), Some(Family::Ipv6Unicast));
    }

    #[test]
    fn wrong_lengths() {
        let error = RouteRefresh::decode(&[0, 1, 0]).unwrap_err();
        assert_eq!(
            (error.notification.code, error.notification.subcode),
            (1, 2)
        );
        let error = RouteRefresh::decode(&[0, 1, 2, 1, 9]).unwrap_err();
        assert_eq!(
            (error.notification.code, error.notification.subcode),
            (7, 1)
        );
        assert_eq!(error.notification.data.len(), 24);
        assert_eq!(&error.notification.data[16..], &[0, 24, 5, 0, 1, 2, 1, 9]);
        // ORF entries after a plain request are legal on the wire.
        assert!(RouteRefresh::decode(&[0, 1, 0, 1, 1, 64, 0, 0]).is_ok());
    }
}
