//! CHECK: compares the kernel with what ADD reported. Asks nobody, changes nothing.

use roadbed_api::names;
use roadbed_hostnet::{MacAddr, Netlink};

use crate::compare::{Expected, differences};
use crate::config::{NetConf, PrevInterface, PrevResult};
use crate::env::{Command, Env};
use crate::error::CniError;
use crate::pod::PodNs;

pub(crate) fn check(env: &Env, conf: &NetConf) -> Result<(), CniError> {
    let key = env.key(&conf.name);
    let mut pod = PodNs::open(env)?;
    let none = PrevResult::default();
    let prev = conf.prev_result.as_ref().unwrap_or(&none);
    let netns = env.netns.display().to_string();
    let host_ifname = names::host_ifname(&key);
    let end = |name: &str, sandbox: &str| {
        let mut interfaces = prev.interfaces.iter();
        interfaces.find(|i| i.name == name && i.sandbox == sandbox)
    };
    let (near, far) = (end(&host_ifname, ""), end(&env.ifname, &netns));
    let mac = |end: Option<&PrevInterface>| -> Option<MacAddr> { end?.mac.parse().ok() };
    let mtu = |end: Option<&PrevInterface>| end?.mtu;
    let addresses: Vec<_> = prev
        .ips_of(&env.ifname, &netns)
        .map(|ip| (ip.address, ip.gateway))
        .collect();
    let expected = Expected {
        host_ifname: &host_ifname,
        alias: &names::ifalias(&key),
        host_mac: mac(near),
        pod_ifname: &env.ifname,
        pod_mac: mac(far),
        mtu: [mtu(near), mtu(far)],
        addresses: &addresses,
    };
    let mut found = differences(&expected, &mut Netlink::open()?, &mut pod.netlink)?;
    if addresses.is_empty() {
        found.push(format!(
            "prevResult has no address on {} in {netns}",
            env.ifname
        ));
    }
    if !found.is_empty() {
        return Err(CniError::Check(found));
    }
    match &conf.ipam {
        Some(ipam) => ipam.call(env, Command::Check),
        None => Ok(()),
    }
}
