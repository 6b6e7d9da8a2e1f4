//! CHECK: compares the kernel with what ADD reported. Asks nobody, changes nothing.

use roadbed_api::names;
use roadbed_hostnet::{MacAddr, Netlink};

use crate::add::open_pod_netns;
use crate::config::{NetConf, PrevResult};
use crate::env::Env;
use crate::error::CniError;
use crate::wire::{Expected, differences};

pub(crate) fn check(env: &Env, conf: &NetConf) -> Result<(), CniError> {
    let key = env.key(&conf.name);
    let pod = open_pod_netns(env)?;
    let none = PrevResult::default();
    let prev = conf.prev_result.as_ref().unwrap_or(&none);
    let netns = env.netns.display().to_string();
    let host_ifname = names::host_ifname(&key);
    let mac = |name: &str, sandbox: &str| -> Option<MacAddr> {
        let found = prev
            .interfaces
            .iter()
            .find(|i| i.name == name && i.sandbox == sandbox)?;
        found.mac.parse().ok()
    };
    let addresses: Vec<_> = prev
        .ips_of(&env.ifname, &netns)
        .map(|ip| (ip.address, ip.gateway))
        .collect();
    let expected = Expected {
        host_ifname: &host_ifname,
        alias: &names::ifalias(&key),
        host_mac: mac(&host_ifname, ""),
        pod_ifname: &env.ifname,
        pod_mac: mac(&env.ifname, &netns),
        addresses: &addresses,
    };
    let mut found = differences(&expected, &mut Netlink::open()?, &pod)?;
    if addresses.is_empty() {
        found.push(format!(
            "prevResult has no address on {} in {netns}",
            env.ifname
        ));
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(CniError::Check(found))
    }
}
