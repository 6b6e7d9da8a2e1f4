//! Policy routing by source address, as a pod with several interfaces needs it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::addr::family;
use crate::channel::Asked;
use crate::error::NetlinkError;
use crate::socket::Netlink;

const RTM_NEWRULE: u16 = 32;

/// What comes from one address is looked up in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRule {
    /// The source address.
    pub from: IpAddr,
    /// The table.
    pub table: u32,
    /// Its place among all rules; lower comes first, the main table's is 32766.
    pub priority: u32,
}

impl fmt::Display for SourceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} lookup {}", self.from, self.table)
    }
}

impl Netlink {
    /// Adds a rule; fails if there is the same one.
    pub fn rule_add(&mut self, rule: &SourceRule) -> Result<(), NetlinkError> {
        let mut message = RuleMessage::default();
        message.header.family = family(rule.from);
        message.header.src_len = IpNet::from(rule.from).prefix_len();
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Source(rule.from),
            RuleAttribute::Table(rule.table),
            RuleAttribute::Priority(rule.priority),
        ];
        let asked = Asked {
            op: "add rule",
            object: rule,
        };
        let message = RouteNetlinkMessage::NewRule(message);
        self.change(message, NLM_F_CREATE | NLM_F_EXCL, asked)
    }

    /// Rules of both families that tell packets by their one source address alone.
    pub fn rules(&mut self) -> Result<Vec<SourceRule>, NetlinkError> {
        let asked = Asked {
            op: "list",
            object: &"rules",
        };
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RuleMessage::default();
            request.header.family = family;
            for (kind, payload) in self.dump(RouteNetlinkMessage::GetRule(request), asked)? {
                if kind == RTM_NEWRULE {
                    let message = RuleMessage::parse(&payload).map_err(|e| asked.decode(e))?;
                    rules.extend(decode(&message));
                }
            }
        }
        Ok(rules)
    }
}

fn decode(message: &RuleMessage) -> Option<SourceRule> {
    let mut from = None;
    let mut rule = (u32::from(message.header.table), 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => from = Some(*address),
            RuleAttribute::Table(table) => rule.0 = *table,
            RuleAttribute::Priority(priority) => rule.1 = *priority,
            RuleAttribute::Destination(_)
            | RuleAttribute::Iifname(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::FwMark(_) => return None,
            _ => {}
        }
    }
    let from = from?;
    let whole = message.header.src_len == IpNet::from(from).prefix_len();
    (whole && message.header.action == RuleAction::ToTable).then_some(SourceRule {
        from,
        table: rule.0,
        priority: rule.1,
    })
}
