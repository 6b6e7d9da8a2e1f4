//! Communities of the three kinds as people write them, with `*` for a part that may be anything.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::PatternError;

/// Names of well-known communities (IANA registry, RFC 1997, 7999, 8326, 9494).
const WELL_KNOWN: [(&str, u32); 7] = [
    ("graceful-shutdown", 0xffff_0000),
    ("llgr-stale", 0xffff_0006),
    ("no-llgr", 0xffff_0007),
    ("blackhole", 0xffff_029a),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
];

/// One or many communities of RFC 1997: `65000:1`, `65000:*`, `no-export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommunityPattern {
    /// The octets that count, the others zero.
    pub value: u32,
    /// Which octets count.
    pub mask: u32,
}

/// One or many large communities of RFC 8092: `65000:1:2`, `65000:1:*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LargeCommunityPattern {
    /// Global administrator and the two local parts; `None` is `*`.
    pub parts: [Option<u32>; 3],
}

/// One or many extended communities of RFC 4360: `rt:65000:1`, `soo:192.0.2.1:7`, `rt:65000:*`, or all eight octets as
/// `0x` and 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtCommunityPattern {
    /// The octets that count, the others zero.
    pub value: u64,
    /// Which octets count.
    pub mask: u64,
}

impl CommunityPattern {
    /// Names that stand for one community.
    pub fn well_known() -> impl Iterator<Item = &'static str> {
        WELL_KNOWN.into_iter().map(|(name, _)| name)
    }

    /// Whether it has no `*`.
    pub fn is_exact(&self) -> bool {
        self.mask == u32::MAX
    }

    /// Whether a community is one of them.
    pub fn matches(&self, community: u32) -> bool {
        community & self.mask == self.value
    }
}

impl LargeCommunityPattern {
    /// Whether it has no `*`.
    pub fn is_exact(&self) -> bool {
        self.parts.iter().all(Option::is_some)
    }

    /// Whether a community with these parts is one of them.
    pub fn matches(&self, community: [u32; 3]) -> bool {
        self.parts
            .iter()
            .zip(community)
            .all(|(wanted, part)| wanted.is_none_or(|wanted| wanted == part))
    }
}

impl ExtCommunityPattern {
    /// Whether it has no `*`.
    pub fn is_exact(&self) -> bool {
        self.mask == u64::MAX
    }

    /// Whether a community is one of them.
    pub fn matches(&self, community: u64) -> bool {
        community & self.mask == self.value
    }
}

/// A decimal part without sign, or `*`.
fn part<T: FromStr>(text: &str) -> Option<Option<T>> {
    match text {
        "*" => Some(None),
        _ if text.starts_with('+') => None,
        _ => text.parse().ok().map(Some),
    }
}

impl FromStr for CommunityPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            let (value, mask) = (*value, u32::MAX);
            return Ok(Self { value, mask });
        }
        let parts = text
            .split_once(':')
            .and_then(|(high, low)| Some((part::<u16>(high)?, part::<u16>(low)?)));
        let Some((high, low)) = parts else {
            let names = Self::well_known().collect::<Vec<_>>().join(", ");
            return Err(PatternError(format!(
                "is not a community: write 65000:1 (each part 0 to 65535, or *) or one of {names}"
            )));
        };
        let word = |part: Option<u16>| part.map_or((0, 0), |v| (u32::from(v), 0xffff));
        let ((high, high_mask), (low, low_mask)) = (word(high), word(low));
        Ok(Self {
            value: high << 16 | low,
            mask: high_mask << 16 | low_mask,
        })
    }
}

impl FromStr for LargeCommunityPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let parts: Option<Vec<Option<u32>>> = text.split(':').map(part).collect();
        let parts = parts.and_then(|parts| <[Option<u32>; 3]>::try_from(parts).ok());
        parts.map(|parts| Self { parts }).ok_or_else(|| {
            PatternError(
                "is not a large community: write 65000:1:2 (each part 0 to 4294967295, or *)"
                    .to_owned(),
            )
        })
    }
}

impl FromStr for ExtCommunityPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        parse_ext(text).ok_or_else(|| {
            PatternError(
                "is not an extended community: write rt:65000:1, soo:192.0.2.1:7, rt:4200000000:* or 0x with 16 hexadecimal digits"
                    .to_owned(),
            )
        })
    }
}

/// RFC 4360 §3.1, §3.2; RFC 5668 §2 for AS numbers beyond 16 bits.
fn parse_ext(text: &str) -> Option<ExtCommunityPattern> {
    if let Some(hex) = text.strip_prefix("0x") {
        let plain = hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u64::from_str_radix(hex, 16).ok().filter(|_| plain)?;
        let mask = u64::MAX;
        return Some(ExtCommunityPattern { value, mask });
    }
    let mut parts = text.split(':');
    let sub_type: u64 = match parts.next()? {
        "rt" => 0x02,
        "soo" => 0x03,
        _ => return None,
    };
    let (admin, local) = (parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    // A two-octet AS leaves four octets for the local part, everything else two.
    let (kind, admin, local_bits) = match admin.parse::<Ipv4Addr>() {
        Ok(router) => (0x01u64, u64::from(router.to_bits()), 16),
        Err(_) => match part::<u32>(admin)?? {
            asn if u16::try_from(asn).is_ok() => (0x00, u64::from(asn), 32),
            asn => (0x02, u64::from(asn), 16),
        },
    };
    let local_mask = (1u64 << local_bits) - 1;
    let (local, mask) = match part::<u64>(local)? {
        None => (0, !local_mask),
        Some(local) if local <= local_mask => (local, u64::MAX),
        Some(_) => return None,
    };
    Some(ExtCommunityPattern {
        value: kind << 56 | sub_type << 48 | admin << local_bits | local,
        mask,
    })
}

/// A community of RFC 1997 as people write it.
#[derive(Clone, Copy, Debug)]
pub struct CommunityName(pub u32);

impl fmt::Display for CommunityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WELL_KNOWN.iter().find(|(_, value)| *value == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// An extended community as people write it.
#[derive(Clone, Copy, Debug)]
pub struct ExtCommunityName(pub u64);

impl fmt::Display for ExtCommunityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        let name = match (value >> 48) & 0xff {
            0x02 => "rt",
            0x03 => "soo",
            _ => return write!(f, "{value:#018x}"),
        };
        let (wide, narrow) = ((value >> 16) as u32, value & 0xffff);
        match value >> 56 {
            0x00 => write!(f, "{name}:{}:{}", (value >> 32) as u16, value as u32),
            0x01 => write!(f, "{name}:{}:{narrow}", Ipv4Addr::from(wide)),
            // A small AS in the wide form would read back as the narrow form.
            0x02 if wide > u32::from(u16::MAX) => write!(f, "{name}:{wide}:{narrow}"),
            _ => write!(f, "{value:#018x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities() {
        let check = |text: &str, expected: Option<(u32, u32)>| {
            let found = text.parse::<CommunityPattern>();
            assert_eq!(found.ok().map(|p| (p.value, p.mask)), expected, "{text}");
        };
        check("65000:1", Some((0xfde8_0001, u32::MAX)));
        check("65000:*", Some((0xfde8_0000, 0xffff_0000)));
        check("*:7", Some((7, 0xffff)));
        check("*:*", Some((0, 0)));
        check("no-export", Some((0xffff_ff01, u32::MAX)));
        for wrong in [
            "",
            "65000",
            "65536:1",
            "1:65536",
            "a:b",
            "1:2:3",
            "+1:2",
            "No-Export",
            "-1:0",
        ] {
            check(wrong, None);
        }
        assert_eq!(CommunityName(0xffff_029a).to_string(), "blackhole");
        assert_eq!(CommunityName(0xfde8_0001).to_string(), "65000:1");
    }

    #[test]
    fn large_communities() {
        let check = |text: &str, expected: Option<[Option<u32>; 3]>| {
            let found = text.parse::<LargeCommunityPattern>();
            assert_eq!(found.ok().map(|p| p.parts), expected, "{text}");
        };
        check("65000:1:2", Some([Some(65000), Some(1), Some(2)]));
        check("4294967295:*:0", Some([Some(u32::MAX), None, Some(0)]));
        for wrong in ["65000:1", "1:2:3:4", "4294967296:1:1", "::", "+1:1:1"] {
            check(wrong, None);
        }
        let some: LargeCommunityPattern = "65000:*:2".parse().unwrap();
        assert!(some.matches([65000, 9, 2]) && !some.matches([65000, 9, 3]));
    }

    #[test]
    fn extended_communities() {
        let check = |text: &str, expected: Option<(u64, u64)>| {
            let found = text.parse::<ExtCommunityPattern>();
            assert_eq!(
                found.as_ref().ok().map(|p| (p.value, p.mask)),
                expected,
                "{text}"
            );
            if let Ok(pattern) = found
                && pattern.is_exact()
            {
                assert_eq!(ExtCommunityName(pattern.value).to_string(), text);
            }
        };
        check("rt:65000:1", Some((0x0002_fde8_0000_0001, u64::MAX)));
        check("soo:192.0.2.1:7", Some((0x0103_c000_0201_0007, u64::MAX)));
        check("rt:4200000000:7", Some((0x0202_fa56_ea00_0007, u64::MAX)));
        check(
            "rt:65000:*",
            Some((0x0002_fde8_0000_0000, 0xffff_ffff_0000_0000)),
        );
        check(
            "rt:4200000000:*",
            Some((0x0202_fa56_ea00_0000, 0xffff_ffff_ffff_0000)),
        );
        check(
            "0x4004fde849742400",
            Some((0x4004_fde8_4974_2400, u64::MAX)),
        );
        for wrong in [
            "rt:1",
            "rt:1:2:3",
            "xx:1:2",
            "rt:4200000000:65536",
            "rt:*:1",
            "0x12",
            "0x+123456789abcdef",
            "rt:1:4294967296",
        ] {
            check(wrong, None);
        }
    }
}
