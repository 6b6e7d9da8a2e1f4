//! OPEN (RFC 4271 §4.2 and §6.2), with extended optional parameters (RFC 9072).

use core::net::Ipv4Addr;

use crate::capability::Capability;
use crate::frame::{DecodeError, MessageType, finish_message, put_u16_at, start_message};
use crate::notification::{code, open_error};
use crate::read::Reader;

/// Stands for a four-octet AS number where only two octets fit (RFC 6793).
pub const AS_TRANS: u16 = 23456;

const VERSION: u8 = 4;
const PARAMETER_CAPABILITIES: u8 = 2;
/// As first parameter type: what follows is in the extended encoding (RFC 9072 §2).
const PARAMETER_EXTENDED: u8 = 255;

/// What a speaker says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The AS number: of the four-octet capability where it is present, else [`Open::my_as_2octet`].
    pub my_as: u32,
    /// The two-octet field; [`AS_TRANS`] when the number does not fit.
    pub my_as_2octet: u16,
    /// Proposed hold time in seconds: 0 or at least 3.
    pub hold_time: u16,
    /// BGP identifier, never 0.0.0.0.
    pub bgp_id: Ipv4Addr,
    /// In the order of the message; may repeat.
    pub capabilities: Vec<Capability>,
}

fn refuse(subcode: u8, data: Vec<u8>, reason: &'static str) -> DecodeError {
    DecodeError::new(code::OPEN_MESSAGE, subcode, data, reason)
}

fn malformed(reason: &'static str) -> DecodeError {
    refuse(open_error::UNSPECIFIC, Vec::new(), reason)
}

impl Open {
    /// The two-octet field for an AS number: itself when it fits, else [`AS_TRANS`].
    pub fn two_octet(my_as: u32) -> u16 {
        u16::try_from(my_as).unwrap_or(AS_TRANS)
    }

    /// Reads a message body. Whether AS number, identifier and hold time suit *this* peer is the FSM's to judge; here
    /// only what no peer may say is refused.
    pub fn decode(body: &[u8]) -> Result<Open, DecodeError> {
        let mut reader = Reader::new(body);
        let Some(version) = reader.u8() else {
            return Err(malformed("OPEN too short"));
        };
        if version != VERSION {
            let data = u16::from(VERSION).to_be_bytes().to_vec();
            return Err(refuse(
                open_error::UNSUPPORTED_VERSION,
                data,
                "unsupported BGP version",
            ));
        }
        let (Some(my_as_2octet), Some(hold_time), Some(bgp_id)) =
            (reader.u16(), reader.u16(), reader.u32())
        else {
            return Err(malformed("OPEN too short"));
        };
        let capabilities = read_parameters(reader)?;
        let my_as = capabilities
            .iter()
            .find_map(|c| match c {
                Capability::FourOctetAs(asn) => Some(*asn),
                _ => None,
            })
            .unwrap_or(u32::from(my_as_2octet));
        if my_as == 0 || my_as_2octet == 0 {
            return Err(refuse(open_error::BAD_PEER_AS, Vec::new(), "AS number 0"));
        }
        if matches!(hold_time, 1 | 2) {
            return Err(refuse(
                open_error::UNACCEPTABLE_HOLD_TIME,
                Vec::new(),
                "hold time below 3 seconds",
            ));
        }
        if bgp_id == 0 {
            return Err(refuse(
                open_error::BAD_BGP_IDENTIFIER,
                Vec::new(),
                "BGP identifier 0.0.0.0",
            ));
        }
        Ok(Open {
            my_as,
            my_as_2octet,
            hold_time,
            bgp_id: Ipv4Addr::from_bits(bgp_id),
            capabilities,
        })
    }

    /// Appends the message, header included: all capabilities in one parameter, in the extended encoding (RFC 9072)
    /// when they take more than 253 octets. Capabilities beyond 4096 octets in total are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = start_message(MessageType::Open, out);
        out.push(VERSION);
        out.extend_from_slice(&self.my_as_2octet.to_be_bytes());
        out.extend_from_slice(&self.hold_time.to_be_bytes());
        out.extend_from_slice(&self.bgp_id.octets());
        let mut values = Vec::new();
        for capability in &self.capabilities {
            let before = values.len();
            capability.encode(&mut values);
            if values.len() > MAX_CAPABILITIES {
                values.truncate(before);
                break;
            }
        }
        match u8::try_from(values.len()) {
            Ok(0) => out.push(0),
            Ok(len) if len <= 253 => {
                out.extend_from_slice(&[len + 2, PARAMETER_CAPABILITIES, len]);
                out.extend_from_slice(&values);
            }
            _ => {
                out.extend_from_slice(&[255, PARAMETER_EXTENDED]);
                let at = out.len();
                out.extend_from_slice(&[0, 0, PARAMETER_CAPABILITIES, 0, 0]);
                put_u16_at(out, at, values.len() + 3);
                put_u16_at(out, at + 3, values.len());
                out.extend_from_slice(&values);
            }
        }
        finish_message(start, out);
    }
}

/// What is left of an ordinary message after header (19), fixed fields (10) and extended parameter headers (6).
const MAX_CAPABILITIES: usize = crate::frame::MAX_MESSAGE_LEN - 19 - 10 - 6;

fn read_parameters(mut reader: Reader<'_>) -> Result<Vec<Capability>, DecodeError> {
    let Some(len) = reader.u8() else {
        return Err(malformed("OPEN without parameter length"));
    };
    // RFC 9072 §2: a first parameter of type 255 marks the extended encoding; the one-octet length before it does not
    // count, except that 0 means that there is nothing.
    let extended = len != 0 && reader.rest().first() == Some(&PARAMETER_EXTENDED);
    let len = if extended {
        reader.u8();
        reader
            .u16()
            .ok_or_else(|| malformed("extended parameters truncated"))?
    } else {
        u16::from(len)
    };
    if reader.rest().len() != usize::from(len) {
        return Err(malformed("parameter length contradicts message length"));
    }
    let mut capabilities = Vec::new();
    while let Some(kind) = reader.u8() {
        let len = if extended {
            reader.u16()
        } else {
            reader.u8().map(u16::from)
        };
        let Some(value) = len.and_then(|len| reader.take(usize::from(len))) else {
            return Err(malformed("optional parameter truncated"));
        };
        if kind != PARAMETER_CAPABILITIES {
            return Err(refuse(
                open_error::UNSUPPORTED_OPTIONAL_PARAMETER,
                Vec::new(),
                "unknown optional parameter",
            ));
        }
        read_capabilities(value, &mut capabilities)?;
    }
    Ok(capabilities)
}

fn read_capabilities(value: &[u8], out: &mut Vec<Capability>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(value);
    while let Some(code) = reader.u8() {
        let Some(value) = reader.u8().and_then(|len| reader.take(usize::from(len))) else {
            return Err(malformed("capability truncated"));
        };
        let capability =
            Capability::decode(code, value).map_err(|_| malformed("capability malformed"))?;
        out.push(capability);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
