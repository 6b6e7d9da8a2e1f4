//! One netlink socket of any protocol: bytes out, framed answers in.
//!
//! Messages come back as raw `(type, payload)` so that each module decodes only what it needs: one exotic link on the
//! host must not make listing our own fail.

use std::fmt::Display;

use netlink_sys::{Socket, SocketAddr};

use crate::error::NetlinkError;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSG_HEADER_LEN: usize = 16;
/// The kernel fills a dump datagram up to the reader's last buffer size, at most 32 KiB; single answers are smaller.
const RECEIVE_BUFFER: usize = 128 * 1024;

/// A blocking netlink socket, bound for life to one network namespace.
pub(crate) struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What is being asked about what, for error messages.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) op: &'static str,
    pub(crate) object: &'a dyn Display,
}

impl Asked<'_> {
    fn io(&self, source: std::io::Error) -> NetlinkError {
        NetlinkError::io(self.op, self.object, source)
    }

    pub(crate) fn decode(&self, reason: impl ToString) -> NetlinkError {
        NetlinkError::Decode {
            op: self.op,
            object: self.object.to_string(),
            reason: reason.to_string(),
        }
    }

    fn kernel(&self, errno: i32, message: Option<String>) -> NetlinkError {
        NetlinkError::Kernel {
            op: self.op,
            object: self.object.to_string(),
            errno,
            message,
        }
    }
}

/// One answer: netlink message type and the bytes after the netlink header.
pub(crate) type Answer = (u16, Vec<u8>);

impl Channel {
    /// Opens a socket of this protocol (`NETLINK_*`) in the calling thread's network namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let asked = Asked {
            op: "open",
            object: &"netlink socket",
        };
        let mut socket = Socket::new(protocol).map_err(|e| asked.io(e))?;
        socket.bind_auto().map_err(|e| asked.io(e))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(|e| asked.io(e))?;
        // Explanations with errors, without the whole request echoed back.
        socket.set_ext_ack(true).map_err(|e| asked.io(e))?;
        socket.set_cap_ack(true).map_err(|e| asked.io(e))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
        })
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// A number that no earlier message of this socket has.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends one datagram of whole messages; the last is numbered by the last [`Self::next_sequence`].
    pub(crate) fn send(&mut self, bytes: &[u8], asked: Asked<'_>) -> Result<(), NetlinkError> {
        self.socket
            .send(bytes, 0)
            .map(drop)
            .map_err(|e| asked.io(e))
    }

    /// Reads to the end of the last message's answer. `true`: the kernel said the dump is inconsistent.
    pub(crate) fn receive(
        &mut self,
        asked: Asked<'_>,
    ) -> Result<(Vec<Answer>, bool), NetlinkError> {
        self.receive_from(self.sequence, asked)
    }

    /// As [`Self::receive`], for several messages numbered from `first` on: the first refusal of any of them counts.
    pub(crate) fn receive_from(
        &mut self,
        first: u32,
        asked: Asked<'_>,
    ) -> Result<(Vec<Answer>, bool), NetlinkError> {
        let last = self.sequence;
        let mut answers = Vec::new();
        let mut interrupted = false;
        loop {
            self.fill(asked)?;
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let frame = Frame::split(&mut rest)
                    .ok_or_else(|| asked.decode("truncated netlink message"))?;
                // Left over from a batch that was refused.
                if frame.sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
                match frame.kind {
                    NLMSG_NOOP => {}
                    NLMSG_ERROR | NLMSG_DONE => match frame.verdict() {
                        (0, _) if frame.sequence == last => return Ok((answers, interrupted)),
                        (0, _) => {}
                        (errno, message) => return Err(asked.kernel(errno, message)),
                    },
                    kind => answers.push((kind, frame.payload.to_vec())),
                }
            }
        }
    }

    /// Reads what became of the last messages, one verdict for each of `each`.
    pub(crate) fn receive_each(
        &mut self,
        all: Asked<'_>,
        each: &[Asked<'_>],
    ) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        let first = self
            .sequence
            .wrapping_sub(each.len() as u32)
            .wrapping_add(1);
        let mut verdicts: Vec<Option<Result<(), NetlinkError>>> = Vec::new();
        verdicts.resize_with(each.len(), || None);
        while verdicts.iter().any(Option::is_none) {
            self.fill(all)?;
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let frame = Frame::split(&mut rest)
                    .ok_or_else(|| all.decode("truncated netlink message"))?;
                let place = frame.sequence.wrapping_sub(first) as usize;
                let Some((asked, verdict)) = each.get(place).zip(verdicts.get_mut(place)) else {
                    continue;
                };
                if frame.kind == NLMSG_ERROR {
                    *verdict = Some(match frame.verdict() {
                        (0, _) => Ok(()),
                        (errno, message) => Err(asked.kernel(errno, message)),
                    });
                }
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// Waits for the next datagram of a multicast group; all its messages.
    pub(crate) fn heard(&mut self, asked: Asked<'_>) -> Result<Vec<Answer>, NetlinkError> {
        self.fill(asked)?;
        let mut rest = self.buffer.as_slice();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let frame =
                Frame::split(&mut rest).ok_or_else(|| asked.decode("truncated netlink message"))?;
            messages.push((frame.kind, frame.payload.to_vec()));
        }
        Ok(messages)
    }

    /// Reads one datagram into the buffer.
    fn fill(&mut self, asked: Asked<'_>) -> Result<(), NetlinkError> {
        self.buffer.clear();
        let received = loop {
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(|e| asked.io(e))?,
            }
        };
        if received > self.buffer.len() {
            return Err(asked.decode(format_args!(
                "an answer of {received} bytes does not fit the buffer"
            )));
        }
        Ok(())
    }
}

/// One netlink message inside a datagram.
struct Frame<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the next message off `rest`; `None` when the bytes do not hold one.
    fn split(rest: &mut &'a [u8]) -> Option<Self> {
        let header = rest.get(..NLMSG_HEADER_LEN)?;
        let length = u32_at(header, 0)? as usize;
        let payload = rest.get(NLMSG_HEADER_LEN..length)?;
        let frame = Self {
            kind: u16_at(header, 4)?,
            flags: u16_at(header, 6)?,
            sequence: u32_at(header, 8)?,
            payload,
        };
        *rest = rest.get(align4(length)..).unwrap_or_default();
        Some(frame)
    }

    /// The positive errno (0 = success) of an ERROR or DONE message, and the kernel's explanation.
    fn verdict(&self) -> (i32, Option<String>) {
        let errno = u32_at(self.payload, 0).map_or(0, |v| (v as i32).saturating_neg());
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return (errno, None);
        }
        // An ERROR echoes the request's header, and unless capped its body, before the attributes.
        let attributes = match self.kind {
            NLMSG_DONE => 4,
            _ if self.flags & NLM_F_CAPPED != 0 => 4 + NLMSG_HEADER_LEN,
            _ => 4 + u32_at(self.payload, 4).map_or(NLMSG_HEADER_LEN, |len| align4(len as usize)),
        };
        (
            errno,
            extack_message(self.payload.get(attributes..).unwrap_or_default()),
        )
    }
}

fn extack_message(attributes: &[u8]) -> Option<String> {
    Attributes(attributes)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| {
            String::from_utf8_lossy(value)
                .trim_end_matches('\0')
                .to_owned()
        })
        .filter(|text| !text.is_empty())
}

/// Iterates over `struct nlattr` sequences: (type without flags, value). Stops at the first malformed one.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u16_at(self.0, 0)? as usize;
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(align4(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn align4(length: usize) -> usize {
    length.saturating_add(3) & !3
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .try_into()
        .ok()
        .map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..at + 8)?
        .try_into()
        .ok()
        .map(u64::from_ne_bytes)
}

pub(crate) fn u32_be_at(bytes: &[u8], at: usize) -> Option<u32> {
    u32_at(bytes, at).map(u32::from_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from(((value.len() + 4) as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(align4(bytes.len()), 0);
        bytes
    }

    fn verdict_of(flags: u16, payload: Vec<u8>) -> (i32, Option<String>) {
        Frame {
            kind: NLMSG_ERROR,
            flags,
            sequence: 1,
            payload: &payload,
        }
        .verdict()
    }

    #[test]
    fn extack_text_is_found_behind_a_capped_and_an_uncapped_request() {
        let text = attribute(NLMSGERR_ATTR_MSG, b"Nexthop has invalid gateway\0");
        let offset = attribute(2, &7u32.to_ne_bytes());
        let mut capped = Vec::from((-libc::EINVAL).to_ne_bytes());
        capped.extend(44u32.to_ne_bytes());
        capped.extend([0; 12]);
        let mut uncapped = capped.clone();
        capped.extend(offset.iter().chain(&text));
        uncapped.extend([0xff; 28]);
        uncapped.extend(text.iter().chain(&offset));
        let expected = (libc::EINVAL, Some("Nexthop has invalid gateway".to_owned()));
        assert_eq!(verdict_of(NLM_F_ACK_TLVS | NLM_F_CAPPED, capped), expected);
        assert_eq!(verdict_of(NLM_F_ACK_TLVS, uncapped), expected);
    }

    #[test]
    fn malformed_frames_end_the_iteration_instead_of_panicking() {
        assert!(Frame::split(&mut [0u8; 8].as_slice()).is_none());
        let mut short = [0u8; 16];
        short[0] = 15;
        assert!(Frame::split(&mut short.as_slice()).is_none());
        let mut long = [0u8; 16];
        long[0] = 17;
        assert!(Frame::split(&mut long.as_slice()).is_none());
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes(&[9, 0, 1, 0, 1]).count(), 0);
        assert_eq!(verdict_of(NLM_F_ACK_TLVS, vec![0xff, 0xff]), (0, None));
    }
}
