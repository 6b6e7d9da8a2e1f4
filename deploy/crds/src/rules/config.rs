//! The speaker settings of a cluster.

use super::{Rule, as_number, cidr, fixed, told, unicast};

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = vec![told(
        "",
        "self.metadata.name == 'default'",
        "there is one BGPConfig and its name is \"default\", not \"%s\"",
        &["self.metadata.name"],
    )];
    rules.extend(as_number("spec.asNumber"));
    rules.push(
        fixed(
            "spec",
            "!has(self.routerId)",
            "no two nodes may share it: set router_id in each agent's file, or leave it to the first IPv4 address in node_addresses",
        )
        .field(".routerId"),
    );
    rules.extend(cidr("spec.nodePrefixes[]"));
    rules.extend(unicast(
        "spec.bmp{}.address",
        "is not the address of a collector",
    ));
    rules.push(fixed(
        "spec.bmp{}.sourceAddress",
        "isIP(self)",
        "invalid IP address syntax",
    ));
    rules.push(
        told(
            "spec.bmp{}",
            "!has(self.sourceAddress) || !isIP(self.sourceAddress) || !isIP(self.address) || ip(self.sourceAddress).family() == ip(self.address).family()",
            "%s is of another family than %s",
            &["string(ip(self.sourceAddress))", "string(ip(self.address))"],
        )
        .field(".sourceAddress"),
    );
    rules.extend(cidr("spec.aggregates[].prefix"));
    rules
}
