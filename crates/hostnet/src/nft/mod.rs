//! nftables over netlink: one table of the `inet` family, written in one transaction, verified by its comment.
//!
//! A transaction carries the generation of the ruleset that was looked at: when anybody changed anything meanwhile, the
//! kernel refuses it. So a table is never replaced that was not seen to be ours.

mod encode;
mod expr;

use netlink_sys::protocols::NETLINK_NETFILTER;

pub use expr::{Comparison, Expr, Meta};

use crate::channel::{Answer, Asked, Attributes as Decoded, Channel, u32_be_at};
use crate::error::NetlinkError;
use crate::netns::{self, NetNs};
use encode::Attributes;

const SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const BATCH_GENID: u16 = 1;
const MSG_NEWTABLE: u16 = 0;
const MSG_GETTABLE: u16 = 1;
const MSG_DELTABLE: u16 = 2;
const MSG_NEWCHAIN: u16 = 3;
const MSG_GETCHAIN: u16 = 4;
const MSG_NEWRULE: u16 = 6;
const MSG_GETRULE: u16 = 7;
const MSG_GETGEN: u16 = 16;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFGENMSG_LEN: usize = 4;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const GEN_ID: u16 = 1;
/// Kind of the comment in a table's user data, as `nft` reads and writes it.
const UDATA_COMMENT: u8 = 0;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Hook number of prerouting (`NF_INET_PRE_ROUTING`).
const PREROUTING: u32 = 0;
const POLICY_ACCEPT: u32 = 1;

/// A table of the `inet` family, as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its comment: the mark. At most 127 octets.
    pub comment: &'static str,
    /// Its chains; those that are jumped to come first.
    pub chains: Vec<Chain>,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Priority at the hook prerouting, where what no rule decides goes on; `None`: only jumps lead here.
    pub prerouting: Option<i32>,
    /// Rules in their order.
    pub rules: Vec<Vec<Expr>>,
}

/// A blocking nfnetlink socket, bound for life to one network namespace.
pub struct Nft {
    channel: Channel,
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        let channel = Channel::open(NETLINK_NETFILTER)?;
        Ok(Self { channel })
    }

    /// Opens a socket in `ns`. Needs CAP_SYS_ADMIN over the namespace, as `setns(2)` does.
    pub fn open_in(ns: &NetNs) -> Result<Self, NetlinkError> {
        netns::run_in(ns, Self::open)?
    }

    /// Number of the ruleset: another one after every transaction of anybody in this namespace.
    pub fn generation(&mut self) -> Result<u32, NetlinkError> {
        let asked = Asked {
            op: "read",
            object: &"nftables generation",
        };
        let none = Attributes::default();
        let answers = self.ask(MSG_GETGEN, NFPROTO_UNSPEC, 0, &none, asked)?;
        attributes(answers.first())
            .find(|(kind, _)| *kind == GEN_ID)
            .and_then(|(_, value)| u32_be_at(value, 0))
            .ok_or_else(|| asked.decode("no generation in the answer"))
    }

    /// Makes the table be exactly this, in one transaction: packets meet the old rules or the new ones. A table of the name
    /// whose comment is another is left alone.
    pub fn table_replace(&mut self, table: &Table) -> Result<(), NetlinkError> {
        let generation = self.generation()?;
        let there = self.verify(table)?;
        let mut batch = Batch::new(&mut self.channel, generation);
        let name = named(TABLE_NAME, table.name);
        if there {
            batch.push(MSG_DELTABLE, 0, &name);
        }
        let mut attributes = named(TABLE_NAME, table.name);
        attributes.bytes(TABLE_USERDATA, &comment(table.comment));
        batch.push(MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, &attributes);
        for chain in &table.chains {
            batch.push(
                MSG_NEWCHAIN,
                NLM_F_CREATE | NLM_F_EXCL,
                &chain_attributes(table, chain),
            );
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                let attributes = rule_attributes(table, chain, rule);
                batch.push(MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &attributes);
            }
        }
        batch.commit("write", table.name)
    }

    /// Deletes the table if its comment is the mark; `false` if there is none.
    pub fn table_delete(&mut self, table: &Table) -> Result<bool, NetlinkError> {
        let generation = self.generation()?;
        if !self.verify(table)? {
            return Ok(false);
        }
        let mut batch = Batch::new(&mut self.channel, generation);
        batch.push(MSG_DELTABLE, 0, &named(TABLE_NAME, table.name));
        batch.commit("delete", table.name).map(|()| true)
    }

    /// What the kernel holds of this table, as octets to be compared with those of an earlier look; values of counters are
    /// left out. `None` when something of it is missing altogether.
    pub fn table_look(&mut self, table: &Table) -> Result<Option<Vec<u8>>, NetlinkError> {
        if !self.verify(table)? {
            return Ok(None);
        }
        let asked = Asked {
            op: "read",
            object: &table.name,
        };
        let mut seen = Vec::new();
        for chain in &table.chains {
            let mut which = named(CHAIN_TABLE, table.name);
            which.text(CHAIN_NAME, chain.name);
            let answers = match self.ask(MSG_GETCHAIN, NFPROTO_INET, 0, &which, asked) {
                Err(error) if error.is_not_found() => return Ok(None),
                other => other?,
            };
            for (kind, value) in attributes(answers.first()) {
                if [CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE].contains(&kind) {
                    seen.extend_from_slice(value);
                }
            }
        }
        let which = named(RULE_TABLE, table.name);
        for rule in self.ask(MSG_GETRULE, NFPROTO_INET, NLM_F_DUMP, &which, asked)? {
            for (kind, value) in attributes(Some(&rule)) {
                match kind {
                    RULE_CHAIN => seen.extend_from_slice(value),
                    RULE_EXPRESSIONS => seen.extend(expr::without_counts(value)),
                    _ => {}
                }
            }
        }
        Ok(Some(seen))
    }

    /// Whether the table is there; an error when it is, and is not ours.
    fn verify(&mut self, table: &Table) -> Result<bool, NetlinkError> {
        let asked = Asked {
            op: "read",
            object: &table.name,
        };
        let which = named(TABLE_NAME, table.name);
        let answers = match self.ask(MSG_GETTABLE, NFPROTO_INET, 0, &which, asked) {
            Err(error) if error.is_not_found() => return Ok(false),
            other => other?,
        };
        let found = attributes(answers.first())
            .find(|(kind, _)| *kind == TABLE_USERDATA)
            .and_then(|(_, value)| comment_of(value));
        if found.as_deref() == Some(table.comment) {
            return Ok(true);
        }
        Err(NetlinkError::ForeignTable {
            name: table.name.to_owned(),
            found,
            expected: table.comment.to_owned(),
        })
    }

    fn ask(
        &mut self,
        kind: u16,
        family: u8,
        flags: u16,
        attributes: &Attributes,
        asked: Asked<'_>,
    ) -> Result<Vec<Answer>, NetlinkError> {
        let sequence = self.channel.next_sequence();
        let mut bytes = Vec::new();
        let flags = match flags {
            NLM_F_DUMP => NLM_F_REQUEST | NLM_F_DUMP,
            flags => NLM_F_REQUEST | NLM_F_ACK | flags,
        };
        let kind = SUBSYS_NFTABLES << 8 | kind;
        message(&mut bytes, kind, flags, sequence, (family, 0), attributes);
        self.channel.send(&bytes, asked)?;
        self.channel.receive(asked).map(|(answers, _)| answers)
    }
}

/// Messages that the kernel takes all or none of.
struct Batch<'a> {
    channel: &'a mut Channel,
    bytes: Vec<u8>,
    first: u32,
}

impl<'a> Batch<'a> {
    fn new(channel: &'a mut Channel, generation: u32) -> Self {
        let first = channel.next_sequence();
        let mut bytes = Vec::new();
        let mut attributes = Attributes::default();
        attributes.number(BATCH_GENID, generation);
        let to = (NFPROTO_UNSPEC, SUBSYS_NFTABLES);
        message(
            &mut bytes,
            BATCH_BEGIN,
            NLM_F_REQUEST,
            first,
            to,
            &attributes,
        );
        Self {
            channel,
            bytes,
            first,
        }
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        let sequence = self.channel.next_sequence();
        message(
            &mut self.bytes,
            SUBSYS_NFTABLES << 8 | kind,
            NLM_F_REQUEST | NLM_F_ACK | flags,
            sequence,
            (NFPROTO_INET, 0),
            attributes,
        );
    }

    fn commit(mut self, op: &'static str, table: &str) -> Result<(), NetlinkError> {
        let object = format!("nftables table inet {table}");
        let asked = Asked {
            op,
            object: &object,
        };
        let to = (NFPROTO_UNSPEC, SUBSYS_NFTABLES);
        let none = Attributes::default();
        // It is not answered, so it needs no number of its own.
        message(
            &mut self.bytes,
            BATCH_END,
            NLM_F_REQUEST,
            self.first,
            to,
            &none,
        );
        self.channel.send(&self.bytes, asked)?;
        self.channel.receive_from(self.first, asked).map(drop)
    }
}

fn message(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
    attributes: &Attributes,
) {
    let attributes = attributes.as_slice();
    let length = 16 + NFGENMSG_LEN + attributes.len();
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
}

fn named(kind: u16, name: &str) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text(kind, name);
    attributes
}

fn chain_attributes(table: &Table, chain: &Chain) -> Attributes {
    let mut attributes = named(CHAIN_TABLE, table.name);
    attributes.text(CHAIN_NAME, chain.name);
    if let Some(priority) = chain.prerouting {
        attributes.nest(CHAIN_HOOK, |hook| {
            hook.number(HOOK_NUMBER, PREROUTING);
            hook.number(HOOK_PRIORITY, priority as u32);
        });
        attributes.number(CHAIN_POLICY, POLICY_ACCEPT);
        attributes.text(CHAIN_TYPE, "filter");
    }
    attributes
}

fn rule_attributes(table: &Table, chain: &Chain, rule: &[Expr]) -> Attributes {
    let mut attributes = named(RULE_TABLE, table.name);
    attributes.text(RULE_CHAIN, chain.name);
    attributes.nest(RULE_EXPRESSIONS, |list| {
        for expr in rule {
            expr.encode(list);
        }
    });
    attributes
}

/// User data: kind, length, value with its NUL.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[UDATA_COMMENT, length], text.as_bytes(), &[0]].concat()
}

fn comment_of(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        userdata = rest.get(usize::from(*length)..)?;
    }
    None
}

fn attributes(answer: Option<&Answer>) -> Decoded<'_> {
    let payload = answer.and_then(|(_, payload)| payload.get(NFGENMSG_LEN..));
    Decoded(payload.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_reads_as_it_was_written_and_damage_is_none() {
        assert_eq!(comment_of(&comment("mark")).as_deref(), Some("mark"));
        // Behind something else.
        let behind = [&[7, 2, 1, 1][..], &comment("mark")].concat();
        assert_eq!(comment_of(&behind).as_deref(), Some("mark"));
        for damaged in [&[][..], &[0], &[0, 9, b'm'], &[1, 200]] {
            assert_eq!(comment_of(damaged), None, "{damaged:?}");
        }
    }
}
