//! Rules as the kernel knows them: expressions that load into a register, compare it, and decide.

use super::encode::Attributes;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_REG_VERDICT: u32 = 0;
/// Every expression loads into this register and every comparison reads it.
const NFT_REG_1: u32 = 1;
const NF_DROP: i32 = 0;
const NFT_JUMP: i32 = -3;

/// One expression of a rule; a comparison that fails ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads a fact about the packet.
    Meta(Meta),
    /// Loads `len` octets of the network header.
    Network {
        /// First octet.
        offset: u32,
        /// Octets, at most 16.
        len: u32,
    },
    /// Loads `len` octets of the transport header.
    Transport {
        /// First octet.
        offset: u32,
        /// Octets, at most 16.
        len: u32,
    },
    /// Loads four octets: not all zero when the way back to the source address leads over the interface the packet came by.
    WayBack,
    /// Goes on when what is loaded compares so with these octets.
    Compare(Comparison, Vec<u8>),
    /// Counts packets and octets that come this far.
    Counter,
    /// Drops the packet.
    Drop,
    /// Goes through a chain of the same table.
    Jump(&'static str),
}

/// What [`Expr::Meta`] loads (`NFT_META_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    /// Name of the interface the packet came by, 16 octets; compared with fewer, it is a prefix.
    InputName = 6,
    /// 2: IPv4, 10: IPv6; one octet.
    Family = 15,
    /// Protocol above IP, one octet.
    Transport = 16,
}

/// How [`Expr::Compare`] compares (`NFT_CMP_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Comparison {
    /// Equal.
    Equal = 0,
    /// At most.
    AtMost = 3,
    /// At least.
    AtLeast = 5,
}

impl Expr {
    pub(super) fn encode(&self, list: &mut Attributes) {
        let (name, data) = self.parts();
        list.nest(NFTA_LIST_ELEM, |element| {
            element.text(NFTA_EXPR_NAME, name);
            element.nest(NFTA_EXPR_DATA, |inner| inner.append(data));
        });
    }

    fn parts(&self) -> (&'static str, Attributes) {
        let mut data = Attributes::default();
        let name = match self {
            Self::Meta(key) => {
                data.number(1, NFT_REG_1);
                data.number(2, *key as u32);
                "meta"
            }
            Self::Network { offset, len } => payload(&mut data, 1, *offset, *len),
            Self::Transport { offset, len } => payload(&mut data, 2, *offset, *len),
            Self::WayBack => {
                const RESULT_OIF: u32 = 1;
                const SADDR: u32 = 1;
                const IIF: u32 = 8;
                const PRESENT: u32 = 32;
                data.number(1, NFT_REG_1);
                data.number(2, RESULT_OIF);
                data.number(3, SADDR | IIF | PRESENT);
                "fib"
            }
            Self::Compare(comparison, value) => {
                data.number(1, NFT_REG_1);
                data.number(2, *comparison as u32);
                data.nest(3, |inner| inner.bytes(NFTA_DATA_VALUE, value));
                "cmp"
            }
            Self::Counter => "counter",
            Self::Drop => verdict(&mut data, NF_DROP, None),
            Self::Jump(chain) => verdict(&mut data, NFT_JUMP, Some(chain)),
        };
        (name, data)
    }
}

fn payload(data: &mut Attributes, base: u32, offset: u32, len: u32) -> &'static str {
    data.number(1, NFT_REG_1);
    data.number(2, base);
    data.number(3, offset);
    data.number(4, len);
    "payload"
}

fn verdict(data: &mut Attributes, code: i32, chain: Option<&str>) -> &'static str {
    data.number(1, NFT_REG_VERDICT);
    data.nest(2, |inner| {
        inner.nest(NFTA_DATA_VERDICT, |verdict| {
            verdict.number(NFTA_VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                verdict.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
    "immediate"
}

/// What a list of expressions says, without what changes by itself: the values of counters.
pub(super) fn without_counts(list: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for (_, element) in crate::channel::Attributes(list) {
        let mut counter = false;
        for (kind, value) in crate::channel::Attributes(element) {
            counter |= kind == NFTA_EXPR_NAME && value.starts_with(b"counter");
            if !(counter && kind == NFTA_EXPR_DATA) {
                kept.extend_from_slice(value);
            }
        }
    }
    kept
}
