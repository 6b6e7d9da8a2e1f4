//! Capabilities (RFC 5492): the ones this speaker understands, and the rest as opaque values.

use crate::read::Reader;

/// Capability codes.
pub mod capability_code {
    /// Multiprotocol extensions (RFC 4760).
    pub const MULTI_PROTOCOL: u8 = 1;
    /// Route refresh (RFC 2918).
    pub const ROUTE_REFRESH: u8 = 2;
    /// Extended next hop encoding (RFC 8950).
    pub const EXTENDED_NEXT_HOP: u8 = 5;
    /// Extended messages (RFC 8654).
    pub const EXTENDED_MESSAGE: u8 = 6;
    /// BGP role (RFC 9234).
    pub const ROLE: u8 = 9;
    /// Graceful restart (RFC 4724, RFC 8538).
    pub const GRACEFUL_RESTART: u8 = 64;
    /// Four-octet AS numbers (RFC 6793).
    pub const FOUR_OCTET_AS: u8 = 65;
    /// ADD-PATH (RFC 7911).
    pub const ADD_PATH: u8 = 69;
    /// Enhanced route refresh (RFC 7313).
    pub const ENHANCED_ROUTE_REFRESH: u8 = 70;
    /// Host and domain name, as FRR and others send it.
    pub const FQDN: u8 = 73;
}

/// One capability of an OPEN.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Capability {
    /// RFC 4760.
    MultiProtocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// RFC 2918.
    RouteRefresh,
    /// RFC 7313.
    EnhancedRouteRefresh,
    /// RFC 8654.
    ExtendedMessage,
    /// RFC 6793: the speaker's AS number.
    FourOctetAs(u32),
    /// RFC 8950: (NLRI AFI, NLRI SAFI, next hop AFI).
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// RFC 4724 and RFC 8538.
    GracefulRestart {
        /// Bit 3: restarting (R); bit 2: notification support (N). The low nibble of the first octet is time.
        flags: u8,
        /// Seconds, 12 bits.
        restart_time: u16,
        /// (AFI, SAFI, flags); bit 7 of the flags: forwarding state preserved (F).
        families: Vec<(u16, u8, u8)>,
    },
    /// RFC 7911: (AFI, SAFI, 1 receive, 2 send, 3 both).
    AddPath(Vec<(u16, u8, u8)>),
    /// RFC 9234: 0 provider, 1 route server, 2 route server client, 3 customer, 4 peer.
    Role(u8),
    /// Host and domain name. Informational.
    Fqdn {
        /// Host name; may be empty.
        host: String,
        /// Domain name; may be empty.
        domain: String,
    },
    /// A capability that this codec does not interpret, or an informational one that did not parse.
    Unknown {
        /// Capability code.
        code: u8,
        /// At most 255 octets.
        value: Vec<u8>,
    },
}

/// A value that cannot be read as what its code says.
pub(crate) struct BadCapability;

impl Capability {
    /// The capability code.
    pub fn code(&self) -> u8 {
        match self {
            Capability::MultiProtocol { .. } => capability_code::MULTI_PROTOCOL,
            Capability::RouteRefresh => capability_code::ROUTE_REFRESH,
            Capability::EnhancedRouteRefresh => capability_code::ENHANCED_ROUTE_REFRESH,
            Capability::ExtendedMessage => capability_code::EXTENDED_MESSAGE,
            Capability::FourOctetAs(_) => capability_code::FOUR_OCTET_AS,
            Capability::ExtendedNextHop(_) => capability_code::EXTENDED_NEXT_HOP,
            Capability::GracefulRestart { .. } => capability_code::GRACEFUL_RESTART,
            Capability::AddPath(_) => capability_code::ADD_PATH,
            Capability::Role(_) => capability_code::ROLE,
            Capability::Fqdn { .. } => capability_code::FQDN,
            Capability::Unknown { code, .. } => *code,
        }
    }

    /// Reads one value. Capabilities that change how messages are read must parse; a presence-only capability with a
    /// value, and a broken FQDN, become [`Capability::Unknown`] because no session should fail for them.
    pub(crate) fn decode(code: u8, value: &[u8]) -> Result<Capability, BadCapability> {
        let unknown = || Capability::Unknown {
            code,
            value: value.to_vec(),
        };
        let marker = |capability| {
            if value.is_empty() {
                capability
            } else {
                unknown()
            }
        };
        Ok(match code {
            capability_code::ROUTE_REFRESH => marker(Capability::RouteRefresh),
            capability_code::ENHANCED_ROUTE_REFRESH => marker(Capability::EnhancedRouteRefresh),
            capability_code::EXTENDED_MESSAGE => marker(Capability::ExtendedMessage),
            capability_code::FQDN => read_fqdn(value).unwrap_or_else(unknown),
            capability_code::MULTI_PROTOCOL => {
                let &[a, b, _reserved, safi] = value else {
                    return Err(BadCapability);
                };
                Capability::MultiProtocol {
                    afi: u16::from_be_bytes([a, b]),
                    safi,
                }
            }
            capability_code::FOUR_OCTET_AS => {
                Capability::FourOctetAs(crate::read::be_u32(value).ok_or(BadCapability)?)
            }
            capability_code::ROLE => match value {
                [role] => Capability::Role(*role),
                _ => return Err(BadCapability),
            },
            capability_code::EXTENDED_NEXT_HOP => {
                let (entries, []) = value.as_chunks::<6>() else {
                    return Err(BadCapability);
                };
                let pair = |a, b| u16::from_be_bytes([a, b]);
                Capability::ExtendedNextHop(
                    entries
                        .iter()
                        .map(|&[a, b, c, d, e, f]| (pair(a, b), pair(c, d), pair(e, f)))
                        .collect(),
                )
            }
            capability_code::GRACEFUL_RESTART => {
                let [a, b, families @ ..] = value else {
                    return Err(BadCapability);
                };
                Capability::GracefulRestart {
                    flags: a >> 4,
                    restart_time: u16::from_be_bytes([a & 0x0f, *b]),
                    families: read_families(families)?,
                }
            }
            capability_code::ADD_PATH => Capability::AddPath(read_families(value)?),
            _ => unknown(),
        })
    }

    /// Appends code, length and value. A value longer than 255 octets has no wire form: it is left out whole, and
    /// names are cut, since a wrong length would spoil the rest of the OPEN.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.code(), 0]);
        match self {
            Capability::RouteRefresh
            | Capability::EnhancedRouteRefresh
            | Capability::ExtendedMessage => {}
            Capability::MultiProtocol { afi, safi } => {
                out.extend_from_slice(&afi.to_be_bytes());
                out.extend_from_slice(&[0, *safi]);
            }
            Capability::FourOctetAs(asn) => out.extend_from_slice(&asn.to_be_bytes()),
            Capability::Role(role) => out.push(*role),
            Capability::ExtendedNextHop(entries) => {
                for (afi, safi, next_hop_afi) in entries {
                    for field in [afi, safi, next_hop_afi] {
                        out.extend_from_slice(&field.to_be_bytes());
                    }
                }
            }
            Capability::GracefulRestart {
                flags,
                restart_time,
                families,
            } => {
                let word = (u16::from(*flags) << 12) | (restart_time & 0x0fff);
                out.extend_from_slice(&word.to_be_bytes());
                put_families(families, out);
            }
            Capability::AddPath(families) => put_families(families, out),
            Capability::Fqdn { host, domain } => {
                for name in [host, domain] {
                    let cut = name.floor_char_boundary(MAX_NAME);
                    let name = name.as_bytes().get(..cut).unwrap_or_default();
                    out.push(name.len() as u8);
                    out.extend_from_slice(name);
                }
            }
            Capability::Unknown { value, .. } => out.extend_from_slice(value),
        }
        match u8::try_from(out.len() - start - 2) {
            Ok(len) => {
                if let Some(field) = out.get_mut(start + 1) {
                    *field = len;
                }
            }
            Err(_) => out.truncate(start),
        }
    }
}

/// Longest name in octets: two of them and their lengths fit a capability.
const MAX_NAME: usize = 126;

fn read_families(value: &[u8]) -> Result<Vec<(u16, u8, u8)>, BadCapability> {
    let (entries, []) = value.as_chunks::<4>() else {
        return Err(BadCapability);
    };
    Ok(entries
        .iter()
        .map(|&[a, b, safi, flags]| (u16::from_be_bytes([a, b]), safi, flags))
        .collect())
}

fn put_families(families: &[(u16, u8, u8)], out: &mut Vec<u8>) {
    for (afi, safi, flags) in families {
        out.extend_from_slice(&afi.to_be_bytes());
        out.extend_from_slice(&[*safi, *flags]);
    }
}

fn read_fqdn(value: &[u8]) -> Option<Capability> {
    let mut reader = Reader::new(value);
    let mut name = || {
        let len = reader.u8()?;
        let text = core::str::from_utf8(reader.take(usize::from(len))?).ok()?;
        (len as usize <= MAX_NAME).then(|| text.to_owned())
    };
    let (host, domain) = (name()?, name()?);
    reader
        .is_empty()
        .then_some(Capability::Fqdn { host, domain })
}
