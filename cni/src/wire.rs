//! The wiring of one pod: a veth pair and the pod's end of it. The host end's routes and neighbours are the agent's.
//!
//! The pod's only neighbour is a gateway that is configured on no interface; a static entry points it at the host end's
//! Ethernet address, which is why both addresses are fixed in the creating message.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::{AttachmentKey, Reservation};
use roadbed_api::names;
use roadbed_hostnet::{
    AddrGenMode, Change, Link, LinkTarget, MacAddr, Netlink, NetlinkError, Route, SourceRule,
    TABLE_MAIN, VethSpec, check_ifname, sysctl,
};

use crate::error::CniError;
use crate::pod::PodNs;
use crate::result::{CniResult, Interface, IpConfig, RouteConfig};

/// The kernel brings up carrier and IPv6 addresses in the background: milliseconds, more on a node that starts a hundred
/// pods at once.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Tables of further interfaces of a pod begin here; beyond those that distributions name.
const FURTHER_TABLES: u32 = 82_000;
/// Place of the rules that lead to them.
const FURTHER_PRIORITY: u32 = 820;

/// A reservation whose every part was checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) host_ifname: String,
    pub(crate) alias: String,
    pub(crate) host_mac: MacAddr,
    pub(crate) pod_ifname: String,
    pub(crate) pod_mac: MacAddr,
    pub(crate) mtu: u32,
    /// Address and gateway, at most one pair per family.
    pub(crate) addresses: Vec<(IpAddr, IpAddr)>,
}

impl Plan {
    /// Checks the agent's answer before anything is touched: it decides what we create and later delete.
    pub(crate) fn new(key: &AttachmentKey, reservation: &Reservation) -> Result<Self, CniError> {
        let bad = |what: String| CniError::Reservation(what);
        if reservation.key != *key {
            return Err(bad(format!(
                "it is for {:?}, asked for {key:?}",
                reservation.key
            )));
        }
        let expected = names::ifalias(key);
        if reservation.host_alias != expected {
            return Err(bad(format!(
                "hostAlias is {:?}, expected {expected:?}",
                reservation.host_alias
            )));
        }
        check_ifname("hostIfname", &reservation.host_ifname).map_err(|e| bad(e.to_string()))?;
        if !reservation
            .host_ifname
            .starts_with(names::HOST_IFNAME_PREFIX)
        {
            return Err(bad(format!(
                "hostIfname {:?} does not start with rb",
                reservation.host_ifname
            )));
        }
        let mac = |field: &str, text: &str| {
            text.parse::<MacAddr>()
                .map_err(|e| bad(format!("{field}: {e}")))
        };
        let gateway = |ip: &IpAddr| match ip {
            IpAddr::V4(_) => IpAddr::V4(reservation.gateway_v4),
            IpAddr::V6(_) => IpAddr::V6(reservation.gateway_v6),
        };
        let families = [true, false].map(|v4| {
            reservation
                .addresses
                .iter()
                .filter(|ip| ip.is_ipv4() == v4)
                .count()
        });
        if reservation.addresses.is_empty() || families.iter().any(|count| *count > 1) {
            return Err(bad(format!(
                "addresses {:?}: one or two, of different families",
                reservation.addresses
            )));
        }
        Ok(Self {
            host_ifname: reservation.host_ifname.clone(),
            alias: expected,
            host_mac: mac("hostMac", &reservation.host_mac)?,
            pod_ifname: key.ifname.clone(),
            pod_mac: mac("podMac", &reservation.pod_mac)?,
            mtu: reservation.mtu,
            addresses: reservation
                .addresses
                .iter()
                .map(|ip| (*ip, gateway(ip)))
                .collect(),
        })
    }

    /// The result that tells of this wiring.
    pub(crate) fn result(&self, netns: &Path) -> CniResult {
        let end = |name: &str, mac: MacAddr, sandbox| Interface {
            name: name.to_owned(),
            mac: mac.to_string(),
            mtu: self.mtu,
            sandbox,
        };
        CniResult {
            interfaces: vec![
                end(&self.host_ifname, self.host_mac, None),
                end(
                    &self.pod_ifname,
                    self.pod_mac,
                    Some(netns.display().to_string()),
                ),
            ],
            ips: self
                .addresses
                .iter()
                .map(|(ip, gateway)| IpConfig {
                    address: IpNet::from(*ip),
                    gateway: *gateway,
                    interface: 1,
                })
                .collect(),
            routes: self
                .addresses
                .iter()
                .map(|(_, gateway)| RouteConfig {
                    dst: Route::default_via(*gateway, 0).dst,
                    gw: *gateway,
                })
                .collect(),
        }
    }
}

/// Judges the agent's answer to a reservation as ADD does before it touches anything: the link's name, and the addresses.
/// For tests and fuzzing. Never panics, whatever the bytes.
///
/// # Errors
/// Why nothing can be wired by it.
pub fn parse_reservation(
    key: &AttachmentKey,
    body: &[u8],
) -> Result<(String, Vec<IpAddr>), CniError> {
    let reservation: Reservation =
        serde_json::from_slice(body).map_err(|error| CniError::Reservation(error.to_string()))?;
    let plan = Plan::new(key, &reservation)?;
    let addresses = plan.addresses.into_iter().map(|(ip, _)| ip).collect();
    Ok((plan.host_ifname, addresses))
}

/// A wiring in progress. Dropped before [`Self::keep`], it deletes what it made.
pub(crate) struct Wiring<'a> {
    host: &'a mut Netlink,
    pub(crate) host_ifindex: u32,
    kept: bool,
}

impl<'a> Wiring<'a> {
    /// Wires the pod. What an earlier, interrupted attempt left is removed first.
    pub(crate) fn build(
        plan: &Plan,
        host: &'a mut Netlink,
        pod: &mut PodNs,
    ) -> Result<Self, NetlinkError> {
        let made = match create(plan, host, pod) {
            Err(error) if error.is_exists() => {
                delete_ours(host, &plan.host_ifname, &plan.alias, plan.host_mac)?;
                create(plan, host, pod)
            }
            made => made,
        };
        let link = made.map_err(|error| match error.is_exists() {
            // Our own name is free by now, so it is the pod's that is taken.
            true => NetlinkError::Invalid {
                field: "CNI_IFNAME",
                value: plan.pod_ifname.clone(),
                reason: "exists already in the pod's namespace and is not this attachment's",
            },
            false => error,
        })?;
        let wiring = Self {
            host,
            host_ifindex: link.ifindex,
            kept: false,
        };
        let target = LinkTarget::Index(link.ifindex);
        // The kernel takes no alias while creating; the link gets its mark before it can carry a packet.
        let mut changes = vec![Change::link_set_alias(target, &plan.alias)?];
        if sysctl::has_ipv6() {
            // Without this the kernel would give the host end a link-local address, which nobody needs.
            changes.push(Change::link_set_addr_gen_mode(target, AddrGenMode::None)?);
        }
        for made in wiring.host.make_all(&changes)? {
            made?;
        }
        wiring.host.link_set_up(target, true)?;
        let pod_ifindex = match link.peer_ifindex {
            Some(index) => index,
            None => {
                pod.netlink
                    .link(LinkTarget::Name(&plan.pod_ifname))?
                    .ifindex
            }
        };
        wire_pod_side(plan, pod, pod_ifindex)?;
        wiring.host.link_wait_running(target, SETTLE_TIMEOUT)?;
        Ok(wiring)
    }

    /// The attachment stands: nothing is undone.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Wiring<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // Made by us moments ago under this index. If even this fails, DEL finds it by its mark.
            let _ = self.host.link_delete(LinkTarget::Index(self.host_ifindex));
        }
    }
}

/// The veth, its peer in the pod's namespace, both ends down.
fn create(plan: &Plan, host: &mut Netlink, pod: &PodNs) -> Result<Link, NetlinkError> {
    host.veth_create(&VethSpec {
        name: &plan.host_ifname,
        mac: Some(plan.host_mac),
        peer_name: &plan.pod_ifname,
        peer_mac: Some(plan.pod_mac),
        peer_ns: Some(pod.ns()),
        mtu: Some(plan.mtu),
    })
}

fn wire_pod_side(plan: &Plan, pod: &mut PodNs, ifindex: u32) -> Result<(), NetlinkError> {
    let has_v6 = plan.addresses.iter().any(|(ip, _)| ip.is_ipv6());
    pod.visit(|| set_ipv6(&plan.pod_ifname, has_v6))?;
    let pod = &mut pod.netlink;
    let mut changes = vec![Change::link_set_up(LinkTarget::Index(ifindex), true)?];
    for (ip, gateway) in &plan.addresses {
        changes.push(Change::addr_add(ifindex, IpNet::from(*ip)));
        changes.push(Change::neigh_replace(ifindex, *gateway, plan.host_mac));
    }
    let must = changes.len();
    let routes = |gateway| routes_over(gateway, ifindex, None, TABLE_MAIN);
    for (_, gateway) in &plan.addresses {
        changes.extend(routes(*gateway).map(|route| Change::route_add(&route)));
    }
    let mut made = pod.make_all(&changes)?;
    let mut of_routes = made.split_off(must);
    made.into_iter().collect::<Result<(), _>>()?;
    for (ip, gateway) in &plan.addresses {
        let made = of_routes.drain(..routes(*gateway).count());
        // All of them, before the first refusal is looked at.
        let made: Vec<Result<(), NetlinkError>> = made.collect();
        match made.into_iter().collect() {
            Err(error) if NetlinkError::is_exists(&error) => {
                add_further_routes(pod, *ip, *gateway, ifindex)?;
            }
            made => made?,
        }
    }
    // ADD returns when it is true: whoever answers it may send at once. IPv4 can by now, if the link runs; IPv6 addresses
    // come in the background.
    pod.link_wait_running(LinkTarget::Index(ifindex), SETTLE_TIMEOUT)?;
    match plan.addresses.iter().find(|(ip, _)| ip.is_ipv6()) {
        Some((ip, _)) => pod.addr_wait_local(*ip, SETTLE_TIMEOUT),
        None => Ok(()),
    }
}

/// Runs inside the pod's namespace, before the link goes up.
fn set_ipv6(ifname: &str, wanted: bool) -> Result<(), NetlinkError> {
    if !wanted && !sysctl::has_ipv6() {
        return Ok(());
    }
    let set = |key: &str, value| sysctl::ensure(&format!("net/ipv6/conf/{ifname}/{key}"), value);
    if wanted {
        // Some runtimes switch IPv6 off in every new namespace.
        set("disable_ipv6", "0")?;
    }
    // Our addresses are unique by allocation, and the only router is the one we enter.
    set("accept_dad", "0")?;
    set("accept_ra", "0")?;
    Ok(())
}

/// The gateway on the link, and the way to everywhere over it.
fn routes_over(
    gateway: IpAddr,
    ifindex: u32,
    metric: Option<u32>,
    table: u32,
) -> impl Iterator<Item = Route> {
    let on_link = Route::on_link(IpNet::from(gateway), ifindex);
    let default = Route::default_via(gateway, ifindex);
    // IPv6 gateways are link-local: the kernel knows their way.
    let on_link = gateway.is_ipv4().then_some(on_link);
    on_link
        .into_iter()
        .chain([default])
        .map(move |route| Route {
            metric,
            table,
            ..route
        })
}

fn add_routes(
    pod: &mut Netlink,
    gateway: IpAddr,
    ifindex: u32,
    metric: Option<u32>,
    table: u32,
) -> Result<(), NetlinkError> {
    routes_over(gateway, ifindex, metric, table).try_for_each(|route| pod.route_add(&route))
}

/// The pod has a default route of another interface already, which stays its first choice. What is sent from this one's
/// address leaves by this one all the same: the host takes it from nowhere else.
fn add_further_routes(
    pod: &mut Netlink,
    ip: IpAddr,
    gateway: IpAddr,
    ifindex: u32,
) -> Result<(), NetlinkError> {
    let table = further_table(ifindex);
    add_routes(pod, gateway, ifindex, None, table)?;
    match add_routes(pod, gateway, ifindex, Some(table), TABLE_MAIN) {
        // The first refusal may have come after the first of two routes was made.
        Err(error) if !error.is_exists() => return Err(error),
        _ => {}
    }
    let rule = SourceRule {
        from: ip,
        table,
        priority: FURTHER_PRIORITY,
    };
    match pod.rule_add(&rule) {
        // Left by an earlier interface of that index.
        Err(error) if !error.is_exists() => Err(error),
        _ => Ok(()),
    }
}

/// Routing table of a pod's further interface, and the metric of its routes in the main table.
pub(crate) fn further_table(ifindex: u32) -> u32 {
    FURTHER_TABLES.saturating_add(ifindex)
}

/// Removes an attachment's link without the agent: found by its name, else by its alias; only ever one of ours.
pub(crate) fn unwire(host: &mut Netlink, key: &AttachmentKey) -> Result<bool, NetlinkError> {
    let alias = names::ifalias(key);
    let mac = MacAddr(names::attachment_mac(key, 0));
    match delete_ours(host, &names::host_ifname(key), &alias, mac) {
        Ok(true) => return Ok(true),
        // Renamed, or the name is somebody else's: the alias decides.
        Ok(false) | Err(NetlinkError::NotOurs { .. }) => {}
        Err(error) => return Err(error),
    }
    match host.link_by_alias(&alias)? {
        Some(link) => host.link_delete_marked(LinkTarget::Index(link.ifindex), &alias),
        None => Ok(false),
    }
}

/// Deletes the host end of that name if it is this attachment's; `false` if there is none.
///
/// The kernel takes no alias in the message that creates a link. A plugin killed right after it leaves a link without one;
/// name and Ethernet address, both made from the attachment's key, tell it from any other.
fn delete_ours(
    host: &mut Netlink,
    name: &str,
    alias: &str,
    mac: MacAddr,
) -> Result<bool, NetlinkError> {
    let error = match host.link_delete_marked(LinkTarget::Name(name), alias) {
        Err(error @ NetlinkError::NotOurs { .. }) => error,
        other => return other,
    };
    let unmarked = |link: &Link| {
        link.alias.is_none()
            && link.kind.as_deref() == Some("veth")
            && link.mac == Some(mac)
            && !link.up
    };
    match host.link_by_name(name)?.filter(unmarked) {
        Some(link) => host.link_delete(LinkTarget::Index(link.ifindex)),
        None => Err(error),
    }
}
