//! Peers.

use super::{Rule, as_number, cidr, fixed, told, unicast};

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = whereabouts();
    rules.extend(as_number("spec.asNumber"));
    rules.extend(as_number("spec.localAsNumber"));
    rules.extend(timers());
    rules.extend(transport());
    rules.extend(families());
    for place in [
        "spec.maxPrefixes.ipv4-unicast",
        "spec.maxPrefixes.ipv6-unicast",
        "spec.maxPrefixesOut.ipv4-unicast",
        "spec.maxPrefixesOut.ipv6-unicast",
    ] {
        rules.push(
            fixed(
                place,
                "!has(self.restartSeconds) || self.action == 'idle'",
                "is for action idle: with warn the session does not end",
            )
            .field(".restartSeconds"),
        );
    }
    rules.push(
        fixed(
            "spec",
            "!has(self.roleStrict) || !self.roleStrict || has(self.role)",
            "asks for a role of ours as well: set role",
        )
        .field(".roleStrict"),
    );
    rules.push(
        fixed(
            "spec",
            "!has(self.asMigration) || has(self.localAsNumber)",
            "is about a former AS on this session: set localAsNumber to it",
        )
        .field(".asMigration"),
    );
    rules.push(told(
        "spec.shutdown",
        "size(bytes(self)) <= 255",
        "has %s octets: RFC 9003 allows 255",
        &["string(size(bytes(self)))"],
    ));
    rules.push(fixed(
        "spec.shutdown",
        "!self.matches('[[:cntrl:]\\\\x{80}-\\\\x{9f}]')",
        "has control characters: write plain words",
    ));
    for place in ["spec.importPolicies[]", "spec.exportPolicies[]"] {
        rules.push(fixed(
            place,
            "self != ''",
            "is empty: name a BGPRoutePolicy or one of default, accept-all, reject-all",
        ));
    }
    rules
}

/// Which connections are the peer's.
fn whereabouts() -> Vec<Rule> {
    let mut rules = vec![
        fixed(
            "spec",
            "has(self.address) || has(self.listenRange)",
            "is missing: give the peer's address, or a listenRange for peers that connect to us",
        )
        .field(".address"),
        told(
            "spec",
            "!has(self.address) || !has(self.listenRange)",
            "%s contradicts address, which is one peer's: remove one",
            &["isCIDR(self.listenRange) ? string(cidr(self.listenRange)) : self.listenRange"],
        )
        .field(".listenRange"),
    ];
    rules.extend(unicast("spec.address", "is not a unicast address"));
    rules.push(fixed(
        "spec.sourceAddress",
        "isIP(self)",
        "invalid IP address syntax",
    ));
    let both = "!has(self.sourceAddress) || !has(self.address) || !isIP(self.sourceAddress) || !isIP(self.address)";
    rules.push(
        told(
            "spec",
            format!("{both} || ip(self.sourceAddress).family() == ip(self.address).family()"),
            "%s and address %s are of different families",
            &["string(ip(self.sourceAddress))", "string(ip(self.address))"],
        )
        .field(".sourceAddress"),
    );
    rules.push(
        told(
            "spec",
            format!("{both} || !(ip(self.sourceAddress) == ip(self.address))"),
            "%s is the peer's own address",
            &["string(ip(self.sourceAddress))"],
        )
        .field(".sourceAddress"),
    );
    rules.extend(cidr("spec.listenRange"));
    for (field, absent) in [
        (".port", "!has(self.port)"),
        (".sourceAddress", "!has(self.sourceAddress)"),
        (".connectRetrySeconds", "!has(self.connectRetrySeconds)"),
        (".passive", "!has(self.passive) || !self.passive"),
    ] {
        rules.push(
            fixed(
                "spec",
                format!("!has(self.listenRange) || {absent}"),
                "is for a peer with an address: those of a listenRange connect to us",
            )
            .field(field),
        );
    }
    rules.push(
        fixed(
            "spec",
            "!has(self.maxSessions) || has(self.listenRange)",
            "is for a listenRange: an address has one session",
        )
        .field(".maxSessions"),
    );
    rules
}

fn timers() -> Vec<Rule> {
    let hold = "(has(self.holdTimeSeconds) ? self.holdTimeSeconds : 90)";
    vec![
        told(
            "spec.holdTimeSeconds",
            "self == 0 || self >= 3",
            "%s is refused by RFC 4271 §4.2: use 0 (never) or at least 3",
            &["string(self)"],
        ),
        told(
            "spec",
            format!(
                "!has(self.keepaliveTimeSeconds) || {hold} == 0 || (self.keepaliveTimeSeconds >= 1 && self.keepaliveTimeSeconds < {hold})"
            ),
            "%s must be at least 1 and less than the Hold Time of %s",
            &["string(self.keepaliveTimeSeconds)", &format!("string({hold})")],
        )
        .field(".keepaliveTimeSeconds"),
    ]
}

/// What the TCP connection is told. The blame for a password stands on the spec: the API server quotes the text that a
/// rule is about.
fn transport() -> Vec<Rule> {
    vec![
        fixed(
            "spec",
            "!has(self.password) || self.password != ''",
            "is empty: leave it out for a session without signatures",
        )
        .field(".password"),
        told(
            "spec",
            "!has(self.password) || size(bytes(self.password)) <= 80",
            "has %s bytes: TCP-MD5 takes 1 to 80",
            &["string(size(bytes(self.password)))"],
        )
        .field(".password"),
        fixed(
            "spec",
            "!has(self.ttlSecurityHops) || !has(self.multihopTtl)",
            "contradicts ttlSecurityHops, which sends with TTL 255 and says how far away the peer may be: remove one",
        )
        .field(".multihopTtl"),
    ]
}

fn families() -> Vec<Rule> {
    let mut rules = vec![fixed(
        "spec.families",
        "size(self) > 0",
        "is empty: name ipv4-unicast, ipv6-unicast or both",
    )];
    for (map, field, family) in [
        ("maxPrefixes", ".maxPrefixes['ipv4-unicast']", "ipv4"),
        ("maxPrefixes", ".maxPrefixes['ipv6-unicast']", "ipv6"),
        ("maxPrefixesOut", ".maxPrefixesOut['ipv4-unicast']", "ipv4"),
        ("maxPrefixesOut", ".maxPrefixesOut['ipv6-unicast']", "ipv6"),
        (
            "defaultOriginate",
            ".defaultOriginate['ipv4-unicast']",
            "ipv4",
        ),
        (
            "defaultOriginate",
            ".defaultOriginate['ipv6-unicast']",
            "ipv6",
        ),
        ("addPath", ".addPath['ipv4-unicast']", "ipv4"),
        ("addPath", ".addPath['ipv6-unicast']", "ipv6"),
    ] {
        rules.push(
            fixed(
                "spec",
                format!(
                    "!has(self.families) || !has(self.{map}) || !has(self.{map}.{family}__dash__unicast) || '{family}-unicast' in self.families"
                ),
                format!("{family}-unicast is not one of this peer's families"),
            )
            .field(field),
        );
    }
    rules
}
