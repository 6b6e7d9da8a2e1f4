//! `bgp policy test`: what route policies would say of a route, without an agent. Pure: the resources come in, a report
//! goes out.

use std::fmt::Write;
use std::net::IpAddr;

use bgp_core::policy::{
    AttributeEditor, AttributeView, Chain, Changed, DecidedBy, Decision, Direction, Family,
    ImportContext, LargeCommunity, NextHop, Origin, PathAttributes, PolicySet, RouteView, Step,
    compile,
};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use roadbed_api::kinds::{
    CommunityName, CommunityPattern, ExtCommunityName, ExtCommunityPattern, LargeCommunityPattern,
    NextHopChange, PolicySource,
};
use roadbed_api::{BgpConfigSpec, BgpRoutePolicySpec, IpPoolSpec, Kind, Object, Resource, Spec};
use serde::Serialize;

use crate::error::CtlError;

/// Kinds that a test reads.
pub const KINDS: [Kind; 3] = [Kind::BGPConfig, Kind::IPPool, Kind::BGPRoutePolicy];

/// The policies to test and the route to test them with.
#[derive(Debug, Args)]
pub struct PolicyTest {
    /// Policy to ask; repeated: the policies of a peer, in their order. default, accept-all and reject-all exist too
    #[arg(long = "policy", required = true, value_name = "NAME")]
    pub policies: Vec<String>,
    /// File, directory or - with the policies (for the policy default also the pools), or a router's .toml; absent: the store
    #[arg(short, long = "file", value_name = "FILE")]
    pub file: Vec<std::path::PathBuf>,
    /// Which way the route goes; only the policy default asks
    #[arg(long, value_enum, default_value_t = Way::Import)]
    pub direction: Way,
    /// The route's prefix
    #[arg(long, value_parser = crate::cli::parse_prefix)]
    pub prefix: IpNet,
    /// AS numbers of the path, the nearest first; sets cannot be given
    #[arg(
        long,
        value_name = "\"AS ...\"",
        default_value = "",
        hide_default_value = true
    )]
    pub as_path: String,
    /// Community (65000:1, no-export); may be repeated
    #[arg(long = "community", value_name = "COMMUNITY", value_delimiter = ',')]
    pub communities: Vec<String>,
    /// Large community (65000:1:2); may be repeated
    #[arg(
        long = "large-community",
        value_name = "COMMUNITY",
        value_delimiter = ','
    )]
    pub large_communities: Vec<String>,
    /// Extended community (rt:65000:1); may be repeated
    #[arg(
        long = "ext-community",
        value_name = "COMMUNITY",
        value_delimiter = ','
    )]
    pub ext_communities: Vec<String>,
    /// LOCAL_PREF
    #[arg(long, value_name = "N")]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC
    #[arg(long, value_name = "N")]
    pub med: Option<u32>,
    /// The route's next hop
    #[arg(long, value_name = "ADDRESS")]
    pub next_hop: Option<IpAddr>,
    /// Name of the peer that the route was received from
    #[arg(long, value_name = "NAME")]
    pub peer: Option<String>,
    /// Where the route comes from: ownBlock, node, service, static or learned
    #[arg(long, value_parser = parse_source, default_value = "learned")]
    pub source: PolicySource,
    /// Our AS towards the peer, for prependAs without asNumber; default: that of BGPConfig/default
    #[arg(long, value_name = "AS")]
    pub local_as: Option<u32>,
}

/// Which way a route goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// From a peer
    Import,
    /// To a peer
    Export,
}

/// What the policies say.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// The policies asked.
    pub policies: Vec<String>,
    /// `accept` or `reject`.
    pub decision: &'static str,
    /// Who decided, in words.
    pub decided_by: String,
    /// The rule that decided, when one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleReport>,
    /// The route as it came.
    pub before: RouteText,
    /// The route as it passes; absent when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<RouteText>,
}

/// A rule.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// The policy that has it.
    pub policy: String,
    /// Its position, from 0.
    pub index: u16,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A route as people read it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteText {
    /// The prefix.
    pub prefix: String,
    /// The next hop: an address, `self`, or nothing.
    pub next_hop: Option<String>,
    /// AS numbers, the nearest first.
    pub as_path: String,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities.
    pub communities: Vec<String>,
    /// Large communities.
    pub large_communities: Vec<String>,
    /// Extended communities.
    pub extended_communities: Vec<String>,
}

fn parse_source(text: &str) -> Result<PolicySource, String> {
    let known = PolicySource::ALL.into_iter();
    known.clone().find(|s| s.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = known.map(PolicySource::as_str).collect();
        format!("write one of {}", names.join(", "))
    })
}

/// Evaluates the route with the policies among these objects.
///
/// # Errors
/// A policy that does not exist or is not valid, a route that cannot be, an AS that is missing.
pub fn test(what: &PolicyTest, objects: &[Object]) -> Result<PolicyReport, CtlError> {
    let policies: Vec<Resource<BgpRoutePolicySpec>> = typed(objects)?;
    let set = compile(&policies).map_err(|problems| {
        CtlError::Refused(
            problems
                .iter()
                .map(|p| format!("{}: {}", p.path, p.message))
                .collect(),
        )
    })?;
    let chain = chain(&set, &what.policies)?;
    let configs: Vec<Resource<BgpConfigSpec>> = typed(objects)?;
    let config = configs
        .into_iter()
        .next()
        .map(|c| c.spec)
        .unwrap_or_default();
    let pools: Vec<Resource<IpPoolSpec>> = typed(objects)?;
    let context = ImportContext {
        pools: pools.iter().map(|pool| pool.spec.cidr).collect(),
        node_prefixes: config.node_prefixes,
        accept_default_route: config.accept_default_route,
    };
    let local_as = what.local_as.or(config.as_number);
    if local_as.is_none() && prepends_own_as(&chain) {
        return Err(CtlError::Usage(
            "a rule prepends our own AS, and no BGPConfig says which that is: say --local-as"
                .to_owned(),
        ));
    }
    let attributes = attributes(what)?;
    let route = RouteView {
        prefix: what.prefix,
        route: AttributeView {
            attributes: &attributes,
            next_hop: what.next_hop.map(next_hop),
            peer: what.peer.as_deref(),
            source: what.source,
            family: Family::of(&what.prefix),
            local_as: local_as.unwrap_or_default(),
        },
    };
    let direction = match what.direction {
        Way::Import => Direction::Import(&context),
        Way::Export => Direction::Export,
    };
    let outcome = chain.evaluate(&route, direction);
    let before = text(what, &attributes, None);
    let (decision, after) = match outcome.decision {
        Decision::Reject => ("reject", None),
        Decision::Accept(Changed {
            attributes: changed,
            next_hop,
            ..
        }) => (
            "accept",
            Some(text(
                what,
                changed.as_ref().unwrap_or(&attributes),
                next_hop,
            )),
        ),
    };
    let decided_by = outcome.by.to_string();
    let rule = match outcome.by {
        DecidedBy::Rule {
            policy,
            index,
            name,
        } => Some(RuleReport {
            policy: policy.to_string(),
            index,
            name: name.map(|name| name.to_string()),
        }),
        _ => None,
    };
    Ok(PolicyReport {
        policies: what.policies.clone(),
        decision,
        decided_by,
        rule,
        before,
        after,
    })
}

fn typed<S: Spec>(objects: &[Object]) -> Result<Vec<Resource<S>>, CtlError> {
    let of_kind = objects.iter().filter(|object| object.kind == S::KIND);
    of_kind
        .map(|object| {
            object
                .typed()
                .map_err(|e| CtlError::Refused(vec![e.to_string()]))
        })
        .collect()
}

fn chain(set: &PolicySet, names: &[String]) -> Result<Chain, CtlError> {
    set.chain(names)
        .map_err(|e| CtlError::Nothing(e.to_string()))
}

/// Whether what is shown may depend on our own AS.
fn prepends_own_as(chain: &Chain) -> bool {
    chain.steps().iter().any(|step| match step {
        Step::Builtin(_) => false,
        Step::Named(policy) => policy.spec().rules.iter().any(|rule| {
            let prepend = rule.changes.prepend_as;
            prepend.is_some_and(|prepend| prepend.as_number.is_none())
        }),
    })
}

fn next_hop(address: IpAddr) -> NextHop {
    match address {
        IpAddr::V4(address) => NextHop::V4(address),
        IpAddr::V6(global) => NextHop::V6 {
            global,
            link_local: None,
        },
    }
}

fn attributes(what: &PolicyTest) -> Result<PathAttributes, CtlError> {
    let wrong = |option: &str, text: &str, problem: &dyn std::fmt::Display| {
        CtlError::Usage(format!(
            "--{option}: \"{}\" {problem}",
            text.escape_default()
        ))
    };
    let mut asns = Vec::new();
    for text in what.as_path.split_whitespace() {
        let asn = text.parse::<u32>().ok().filter(|asn| *asn != 0);
        asns.push(asn.ok_or_else(|| {
            wrong(
                "as-path",
                text,
                &"is not an AS number: write 1 to 4294967295, with spaces between",
            )
        })?);
    }
    let mut communities = Vec::new();
    for text in &what.communities {
        let pattern: CommunityPattern = text.parse().map_err(|e| wrong("community", text, &e))?;
        let exact = pattern.is_exact().then_some(pattern.value);
        communities.push(exact.ok_or_else(|| wrong("community", text, &MANY))?);
    }
    let mut large = Vec::new();
    for text in &what.large_communities {
        let option = "large-community";
        let pattern: LargeCommunityPattern = text.parse().map_err(|e| wrong(option, text, &e))?;
        let [Some(global), Some(local1), Some(local2)] = pattern.parts else {
            return Err(wrong(option, text, &MANY));
        };
        large.push(LargeCommunity {
            global,
            local1,
            local2,
        });
    }
    let mut ext = Vec::new();
    for text in &what.ext_communities {
        let pattern: ExtCommunityPattern =
            text.parse().map_err(|e| wrong("ext-community", text, &e))?;
        let exact = pattern.is_exact().then_some(pattern.value.to_be_bytes());
        ext.push(exact.ok_or_else(|| wrong("ext-community", text, &MANY))?);
    }
    Ok(AttributeEditor::new(Origin::Igp)
        .set_as_path_sequence(&asns)
        .set_local_pref(what.local_pref)
        .set_med(what.med)
        .set_communities(&communities)
        .set_large_communities(&large)
        .set_ext_communities(&ext)
        .build())
}

const MANY: &str = "names many: a route has no *";

fn text(
    what: &PolicyTest,
    attributes: &PathAttributes,
    next_hop: Option<NextHopChange>,
) -> RouteText {
    let next_hop = match next_hop {
        None | Some(NextHopChange::Keep) => what.next_hop.map(|address| address.to_string()),
        Some(change) => Some(change.to_string()),
    };
    let ext = attributes.ext_communities().map(u64::from_be_bytes);
    RouteText {
        prefix: what.prefix.to_string(),
        next_hop,
        as_path: attributes.as_path().to_string(),
        local_pref: attributes.hot().local_pref,
        med: attributes.hot().med,
        communities: attributes
            .communities()
            .map(|c| CommunityName(c).to_string())
            .collect(),
        large_communities: attributes
            .large_communities()
            .map(|c| c.to_string())
            .collect(),
        extended_communities: ext.map(|c| ExtCommunityName(c).to_string()).collect(),
    }
}

/// The decision, who made it, and the route before and after.
pub fn table(report: &PolicyReport) -> String {
    let mut out = format!("{} by {}\n\n", report.decision, report.decided_by);
    let before = rows(&report.before);
    let after = report.after.as_ref().map(rows);
    let width = before.iter().map(|(_, value)| value.chars().count()).max();
    let width = width.unwrap_or(0).max("BEFORE".len());
    let mut line = |name: &str, before: &str, after: &str| {
        let line = format!("{name:<22}{before:<width$}  {after}");
        let _ = writeln!(out, "{}", line.trim_end());
    };
    line("", "BEFORE", if after.is_some() { "AFTER" } else { "" });
    for (i, (name, value)) in before.iter().enumerate() {
        let changed = after.as_ref().and_then(|rows| rows.get(i));
        let changed = changed.map_or("", |(_, value)| value.as_str());
        if (value.as_str(), changed) != ("-", "-") {
            line(name, value, changed);
        }
    }
    out
}

fn rows(route: &RouteText) -> [(&'static str, String); 8] {
    let dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or("-".to_owned());
    let list = |values: &[String]| dash(Some(values.join(",")));
    let number = |value: Option<u32>| dash(value.map(|v| v.to_string()));
    [
        ("PREFIX", route.prefix.clone()),
        ("NEXT HOP", dash(route.next_hop.clone())),
        ("AS PATH", dash(Some(route.as_path.clone()))),
        ("LOCAL PREF", number(route.local_pref)),
        ("MED", number(route.med)),
        ("COMMUNITIES", list(&route.communities)),
        ("LARGE COMMUNITIES", list(&route.large_communities)),
        ("EXTENDED COMMUNITIES", list(&route.extended_communities)),
    ]
}
