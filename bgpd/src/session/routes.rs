//! From a decoded UPDATE to what the RIB is told, RFC 7606 verdicts included.

use bgp_core::rib::FamilyUpdate;
use bgp_wire::{
    AttributeFault, Family, NextHop, Nlri, NlriSlice, Notification, Treatment, Update, Verdict,
    attr_type,
};

/// What one UPDATE tells the RIB.
#[derive(Debug)]
pub(super) enum Received {
    Update(FamilyUpdate),
    EndOfRib(Family),
}

impl Received {
    /// Announced and withdrawn.
    pub(super) fn prefixes(&self) -> usize {
        match self {
            Received::Update(update) => update.announced.len() + update.withdrawn.len(),
            Received::EndOfRib(_) => 0,
        }
    }
}

/// What becomes of an UPDATE.
#[derive(Debug)]
pub(super) enum Translated {
    Routes(Vec<Received>),
    /// The session ends.
    Reset(Notification),
}

/// UPDATE Message Error, Optional Attribute Error (RFC 4271 §6.3): how a family is given up when the session cannot
/// go on without it (RFC 7606 §2 leaves the choice).
const OPTIONAL_ATTRIBUTE_ERROR: (u8, u8) = (3, 9);

/// A path that an external peer sends does not begin with its AS (RFC 4271 §6.3). RFC 7606 §7.2 treats what is wrong
/// with an AS_PATH as a withdraw.
pub(super) const FIRST_AS: AttributeFault = AttributeFault {
    attr_type: attr_type::AS_PATH,
    treatment: Treatment::TreatAsWithdraw,
    reason: "does not begin with the peer's AS",
};

/// Whether the path, if there is one, begins with this AS.
pub(super) fn begins_with(update: &Update<'_>, peer_as: u32) -> bool {
    let attributes = update.attributes.as_ref();
    let announces = !update.announced.is_empty() || update.mp_reach.is_some();
    !announces || attributes.is_none_or(|a| a.hot().neighbor_as == Some(peer_as))
}

/// `own` are our next hops towards this peer: a route via ourselves is none (RFC 4271 §6.3). `first_as_fits` is what
/// [`begins_with`] says where that is asked for.
pub(super) fn translate(
    update: &Update<'_>,
    own: &[Option<NextHop>; 2],
    first_as_fits: bool,
) -> Translated {
    let withdraw_all = match &update.verdict {
        Verdict::Ok | Verdict::AttributeDiscard => !first_as_fits,
        Verdict::TreatAsWithdraw => true,
        Verdict::SessionReset(notification) => return Translated::Reset(notification.clone()),
        Verdict::FamilyDisable(_) => {
            let (code, subcode) = OPTIONAL_ATTRIBUTE_ERROR;
            return Translated::Reset(Notification {
                code,
                subcode,
                data: Vec::new(),
            });
        }
    };
    if let Some(family) = update.end_of_rib() {
        return Translated::Routes(vec![Received::EndOfRib(family)]);
    }
    let mut received = Vec::new();
    let mut add =
        |family, withdrawn: Vec<Nlri>, announced: Option<(NlriSlice<'_>, Option<NextHop>)>| {
            let mut out = FamilyUpdate {
                family,
                withdrawn,
                announced: Vec::new(),
                attributes: None,
            };
            if let Some((nlri, next_hop)) = announced {
                let usable = next_hop
                    .filter(|next_hop| !withdraw_all && !is_own(next_hop, own))
                    .zip(update.attributes.clone());
                match usable {
                    Some((next_hop, attributes)) => {
                        out.announced.extend(nlri.iter());
                        out.attributes = Some((attributes, next_hop));
                    }
                    None => out.withdrawn.extend(nlri.iter()),
                }
            }
            if !out.withdrawn.is_empty() || !out.announced.is_empty() {
                received.push(Received::Update(out));
            }
        };
    if let Some(unreach) = &update.mp_unreach {
        add(unreach.family(), unreach.iter().collect(), None);
    }
    if let Some(reach) = &update.mp_reach {
        add(
            reach.family,
            Vec::new(),
            Some((reach.nlri, Some(reach.next_hop))),
        );
    }
    add(
        Family::Ipv4Unicast,
        update.withdrawn.iter().collect(),
        Some((update.announced, update.next_hop.map(NextHop::V4))),
    );
    Translated::Routes(received)
}

fn is_own(next_hop: &NextHop, own: &[Option<NextHop>; 2]) -> bool {
    own.iter().flatten().any(|own| match (own, next_hop) {
        (NextHop::V4(a), NextHop::V4(b)) => a == b,
        (NextHop::V6 { global: a, .. }, NextHop::V6 { global: b, .. }) => a == b,
        _ => false,
    })
}

/// A bounded name for logs and counters: what was done about it, which attribute, why.
pub(super) fn fault_label(fault: &AttributeFault) -> String {
    let treatment = match fault.treatment {
        Treatment::Ignore => "ignored",
        Treatment::AttributeDiscard => "attribute-discard",
        Treatment::TreatAsWithdraw => "treat-as-withdraw",
        Treatment::FamilyDisable => "family-disable",
        Treatment::SessionReset => "session-reset",
    };
    let name = match attr_type::name(fault.attr_type) {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    };
    format!(
        "{treatment}: attribute {}{name}: {}",
        fault.attr_type, fault.reason
    )
}
