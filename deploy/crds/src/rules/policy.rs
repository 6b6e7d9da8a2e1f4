//! Route policies. A rule here is about one of 1000 rules: what it costs counts a thousand times.

use roadbed_api::kinds::BUILTIN_POLICIES;

use super::{Rule, as_number, fixed, told};

pub(super) fn rules() -> Vec<Rule> {
    let builtin = BUILTIN_POLICIES.map(|name| format!("'{name}'")).join(", ");
    let mut rules = vec![
        told(
            "",
            format!("!(self.metadata.name in [{builtin}])"),
            "\"%s\" is a built-in route policy: choose another name",
            &["self.metadata.name"],
        ),
        fixed(
            "spec.rules[]",
            format!("has(self.action) || {}", changes()),
            "does nothing: give it an action (accept or reject), something to set, or both",
        ),
        fixed(
            "spec.rules[]",
            format!(
                "!has(self.action) || self.action != 'reject' || !({})",
                changes()
            ),
            "a rejected route is not changed: leave it out or accept",
        )
        .field(".set"),
        fixed(
            "spec.rules[].name",
            "self != '' && !self.matches('[[:cntrl:]\\\\x{80}-\\\\x{9f}]')",
            "use 1 to 63 printable characters",
        ),
    ];
    for place in [
        "spec.rules[].match.prefixes",
        "spec.rules[].match.families",
        "spec.rules[].match.communities",
        "spec.rules[].match.largeCommunities",
        "spec.rules[].match.extendedCommunities",
        "spec.rules[].match.nextHops",
        "spec.rules[].match.peers",
        "spec.rules[].match.sources",
    ] {
        rules.push(fixed(
            place,
            "size(self) > 0",
            "is empty and would match no route: leave it out to match every route",
        ));
    }
    rules.push(fixed(
        "spec.rules[].match.asPathLength",
        "has(self.ge) || has(self.le)",
        "give ge, le or both",
    ));
    rules.push(
        told(
            "spec.rules[].match.asPathLength",
            "!has(self.ge) || !has(self.le) || self.ge <= self.le",
            "%s is more than le, %s: no path is that long",
            &["string(self.ge)", "string(self.le)"],
        )
        .field(".ge"),
    );
    rules.extend(as_number("spec.rules[].set.prependAs.asNumber"));
    for place in [
        "spec.rules[].set.communities",
        "spec.rules[].set.largeCommunities",
        "spec.rules[].set.extendedCommunities",
    ] {
        rules.push(
            fixed(
                place,
                format!(
                    "!has(self.set) || !({} || {})",
                    entries("self.add"),
                    entries("self.remove")
                ),
                "replaces all communities: write add and remove without it, or put all into it",
            )
            .field(".set"),
        );
    }
    rules.push(told(
        "spec.rules[].set.nextHop",
        "self == 'self' || self == 'keep' || isIP(self)",
        "\"%s\" is not a next hop: write self, keep or an address",
        &["self"],
    ));
    rules.push(told(
        "spec.rules[].set.nextHop",
        "!isIP(self) || !(ip(self).isUnspecified() || ip(self).isLoopback() || cidr('224.0.0.0/4').containsIP(self) || cidr('ff00::/8').containsIP(self))",
        "%s is not an address that packets can be sent to",
        &["string(ip(self))"],
    ));
    rules
}

/// A rule of a policy changes something of a route.
fn changes() -> String {
    let list = |field: &str| {
        let list = format!("self.set.{field}");
        format!(
            "(has({list}) && (has({list}.set) || {} || {}))",
            entries(&format!("{list}.add")),
            entries(&format!("{list}.remove"))
        )
    };
    format!(
        "has(self.set) && (has(self.set.localPref) || has(self.set.med) || has(self.set.prependAs) || has(self.set.nextHop) || {} || {} || {})",
        list("communities"),
        list("largeCommunities"),
        list("extendedCommunities")
    )
}

fn entries(list: &str) -> String {
    format!("(has({list}) && size({list}) > 0)")
}
