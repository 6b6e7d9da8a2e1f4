//! AS paths: checking received ones, walking canonical ones, and converting between two and four octets (RFC 6793).

use core::fmt;

use smallvec::SmallVec;

use super::words;
use crate::open::AS_TRANS;
use crate::read::Reader;

pub(crate) const SET: u8 = 1;
pub(crate) const SEQUENCE: u8 = 2;
const CONFED_SEQUENCE: u8 = 3;
const CONFED_SET: u8 = 4;
/// A segment's count is one octet.
const MAX_SEGMENT: u8 = 255;

/// Whether a segment's order means anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SegmentKind {
    /// AS_SET: unordered; counts as one in the path length.
    Set,
    /// AS_SEQUENCE: the nearest AS first.
    Sequence,
}

/// One segment of an [`AsPath`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// Set or sequence.
    pub kind: SegmentKind,
    value: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The AS numbers as on the wire.
    pub fn asns(&self) -> impl Iterator<Item = u32> + use<'a> {
        words(self.value)
    }

    /// How many AS numbers; never 0 in a path that passed decoding.
    pub fn len(&self) -> usize {
        self.value.len() / 4
    }

    /// Whether there is no AS number.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }
}

/// An AS path in four-octet form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AsPath<'a> {
    value: &'a [u8],
}

impl<'a> AsPath<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Self { value }
    }

    /// The segments, nearest first.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let mut reader = Reader::new(self.value);
        core::iter::from_fn(move || {
            let kind = match reader.u8()? {
                SET => SegmentKind::Set,
                _ => SegmentKind::Sequence,
            };
            let count = usize::from(reader.u8()?);
            let value = reader.take(count * 4)?;
            Some(Segment { kind, value })
        })
    }

    /// Every AS number, those of sets included.
    pub fn asns(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.segments().flat_map(|segment| segment.asns())
    }

    /// Whether an AS number occurs anywhere, sets included.
    pub fn contains_as(&self, asn: u32) -> bool {
        self.asns().any(|found| found == asn)
    }

    /// How often an AS number occurs, sets included (allow-as-in counts this).
    pub fn count(&self, asn: u32) -> usize {
        self.asns().filter(|found| *found == asn).count()
    }

    /// The rightmost AS number of the last sequence: where the route comes from. `None` when the path is empty or ends
    /// with a set (RFC 6811 §2 calls that "none").
    pub fn origin_as(&self) -> Option<u32> {
        let last = self.segments().last()?;
        match last.kind {
            SegmentKind::Sequence => last.asns().last(),
            SegmentKind::Set => None,
        }
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Whether an AS_SET occurs (RFC 9774).
    pub fn has_as_set(&self) -> bool {
        self.segments()
            .any(|segment| segment.kind == SegmentKind::Set)
    }

    /// Whether two octets are too few for one of its AS numbers, so that AS4_PATH must go along.
    pub(crate) fn needs_as4(&self) -> bool {
        self.asns().any(|asn| asn > u32::from(u16::MAX))
    }

    /// The two-octet value, with AS_TRANS for what does not fit.
    pub(crate) fn to_two_octet(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.value.len());
        for segment in self.segments() {
            let kind = match segment.kind {
                SegmentKind::Set => SET,
                SegmentKind::Sequence => SEQUENCE,
            };
            out.extend_from_slice(&[kind, segment.len() as u8]);
            for asn in segment.asns() {
                let short = u16::try_from(asn).unwrap_or(AS_TRANS);
                out.extend_from_slice(&short.to_be_bytes());
            }
        }
        out
    }

    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.value
    }
}

impl fmt::Display for AsPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.segments().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            let (open, separator, close) = match segment.kind {
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::Sequence => ("", " ", ""),
            };
            f.write_str(open)?;
            for (position, asn) in segment.asns().enumerate() {
                if position > 0 {
                    f.write_str(separator)?;
                }
                write!(f, "{asn}")?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPath({self})")
    }
}

/// Octets per AS number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AsWidth {
    Two,
    Four,
}

impl AsWidth {
    fn octets(self) -> usize {
        match self {
            AsWidth::Two => 2,
            AsWidth::Four => 4,
        }
    }

    #[inline]
    fn read(self, reader: &mut Reader<'_>) -> Option<u32> {
        match self {
            AsWidth::Two => reader.u16().map(u32::from),
            AsWidth::Four => reader.u32(),
        }
    }
}

/// What is wrong with a received path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PathFault {
    Truncated,
    SegmentType,
    EmptySegment,
    ConfedSegment,
    AsZero,
}

impl PathFault {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            PathFault::Truncated => "AS_PATH segment overruns the attribute",
            PathFault::SegmentType => "AS_PATH segment of unknown type",
            PathFault::EmptySegment => "AS_PATH segment without AS number",
            PathFault::ConfedSegment => "AS_PATH confederation segment from outside",
            PathFault::AsZero => "AS_PATH contains AS 0",
        }
    }
}

/// Checks a received path (RFC 7606 §7.2, RFC 7607, RFC 5065 §5). Confederation segments pass where `confed_allowed`:
/// in AS4_PATH they are to be skipped (RFC 6793 §6).
pub(crate) fn check_as_path(
    value: &[u8],
    width: AsWidth,
    confed_allowed: bool,
) -> Result<(), PathFault> {
    let mut reader = Reader::new(value);
    while let Some(kind) = reader.u8() {
        match kind {
            SET | SEQUENCE => {}
            CONFED_SEQUENCE | CONFED_SET if confed_allowed => {}
            CONFED_SEQUENCE | CONFED_SET => return Err(PathFault::ConfedSegment),
            _ => return Err(PathFault::SegmentType),
        }
        let count = reader.u8().ok_or(PathFault::Truncated)?;
        if count == 0 {
            return Err(PathFault::EmptySegment);
        }
        let asns = reader
            .take(usize::from(count) * width.octets())
            .ok_or(PathFault::Truncated)?;
        let has_zero = match width {
            AsWidth::Two => asns.as_chunks::<2>().0.contains(&[0; 2]),
            AsWidth::Four => asns.as_chunks::<4>().0.contains(&[0; 4]),
        };
        if has_zero {
            return Err(PathFault::AsZero);
        }
    }
    Ok(())
}

/// The four-octet value of a two-octet path and the AS4_PATH that came with it; both have passed [`check_as_path`].
///
/// RFC 6793 §4.2.3: an AS4_PATH longer than the path is ignored; otherwise the leading AS numbers that it lacks are
/// taken from the path.
pub(crate) fn merge_as4(two_octet: &[u8], as4: Option<&[u8]>) -> SmallVec<[u8; 256]> {
    let path_len = wire_path_len(two_octet, AsWidth::Two);
    let as4 = as4
        .map(|value| (value, wire_path_len(value, AsWidth::Four)))
        .filter(|(_, len)| *len <= path_len);
    let mut writer = PathWriter::default();
    let from_path = path_len - as4.map_or(0, |(_, len)| len);
    writer.copy(two_octet, AsWidth::Two, from_path);
    if let Some((value, len)) = as4 {
        writer.copy(value, AsWidth::Four, len);
    }
    writer.out
}

/// Path length of RFC 4271 §9.1.2.2 a, confederation segments not counted.
fn wire_path_len(value: &[u8], width: AsWidth) -> usize {
    let mut reader = Reader::new(value);
    let mut len = 0;
    while let (Some(kind), Some(count)) = (reader.u8(), reader.u8()) {
        let count = usize::from(count);
        if reader.take(count * width.octets()).is_none() {
            break;
        }
        len += match kind {
            SEQUENCE => count,
            SET => 1,
            _ => 0,
        };
    }
    len
}

/// Builds a four-octet path; sequences that touch become one.
#[derive(Default)]
struct PathWriter {
    out: SmallVec<[u8; 256]>,
    /// Where the count octet of the sequence at the end is.
    open_sequence: Option<usize>,
}

impl PathWriter {
    /// Copies the first `budget` path elements: an AS number of a sequence, or a whole set.
    fn copy(&mut self, value: &[u8], width: AsWidth, mut budget: usize) {
        let mut reader = Reader::new(value);
        while let (Some(kind), Some(count)) = (reader.u8(), reader.u8()) {
            let Some(asns) = reader.take(usize::from(count) * width.octets()) else {
                return;
            };
            let mut asns = Reader::new(asns);
            match kind {
                SEQUENCE => {
                    while budget > 0
                        && let Some(asn) = width.read(&mut asns)
                    {
                        self.push(asn);
                        budget -= 1;
                    }
                }
                SET if budget > 0 => {
                    budget -= 1;
                    self.open_sequence = None;
                    self.out.extend_from_slice(&[SET, count]);
                    while let Some(asn) = width.read(&mut asns) {
                        self.out.extend_from_slice(&asn.to_be_bytes());
                    }
                }
                _ => {}
            }
        }
    }

    fn push(&mut self, asn: u32) {
        let open = self
            .open_sequence
            .and_then(|at| self.out.get_mut(at))
            .filter(|count| **count < MAX_SEGMENT);
        match open {
            Some(count) => *count += 1,
            None => {
                self.out.extend_from_slice(&[SEQUENCE, 1]);
                self.open_sequence = Some(self.out.len() - 1);
            }
        }
        self.out.extend_from_slice(&asn.to_be_bytes());
    }
}

/// The four-octet value of one sequence, split where a segment is full.
pub(crate) fn sequence(asns: impl Iterator<Item = u32>) -> SmallVec<[u8; 256]> {
    let mut writer = PathWriter::default();
    asns.for_each(|asn| writer.push(asn));
    writer.out
}
