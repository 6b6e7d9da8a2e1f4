//! ADD: reserve, wire, commit. Whatever fails, nothing stays behind.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_api::agent::{
    ATTACHMENTS, Attachment, AttachmentKey, AttachmentState, CommitRequest, Released, Reservation,
    ReserveRequest,
};
use roadbed_client::KeptClient;
use roadbed_hostnet::Netlink;

use crate::agent;
use crate::compare::{Expected, differences};
use crate::config::NetConf;
use crate::env::{Command, Env};
use crate::error::CniError;
use crate::log::Log;
use crate::notes;
use crate::pod::PodNs;
use crate::result::CniResult;
use crate::sysctls;
use crate::wire::{Plan, Wiring, unwire};

/// The agent answers a commit once the host routes are in the kernel; batches under load take a while.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the agent to take a reservation back; it expires by itself if not.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn add(env: &Env, conf: &NetConf, log: &mut Log) -> Result<CniResult, CniError> {
    let key = env.key(&conf.name);
    let mut pod = PodNs::open(env)?;
    let cookie = pod.cookie()?;
    let mut host = Netlink::open()?;
    let chosen = match &conf.ipam {
        Some(ipam) => ipam.add(env)?,
        None if conf.ips.is_empty() => env.ip.into_iter().collect(),
        None => conf.ips.clone(),
    };
    let (reservation, mut agent) = match reserve(env, conf, &key, &cookie, chosen) {
        Ok(reserved) => reserved,
        Err(error) => {
            give_back(env, conf, log);
            return Err(error);
        }
    };
    sysctls::apply(&conf.run_dir, log);
    let wired = wire(&mut agent, &key, &cookie, &reservation, &mut host, &mut pod);
    match wired {
        Ok(plan) => {
            if let Err(error) = notes::withdraw(&conf.run_dir, &key) {
                log.warn(format_args!(
                    "a stale note stays in {}: {error}",
                    conf.run_dir.display()
                ));
            }
            Ok(plan.result(&env.netns))
        }
        Err(error) => {
            release(conf, &key, &mut host, log);
            give_back(env, conf, log);
            Err(error)
        }
    }
}

fn reserve(
    env: &Env,
    conf: &NetConf,
    key: &AttachmentKey,
    cookie: &str,
    addresses: Vec<IpAddr>,
) -> Result<(Reservation, KeptClient), CniError> {
    let request = ReserveRequest {
        key: key.clone(),
        netns: env.netns.display().to_string(),
        netns_cookie: cookie.to_owned(),
        pod: env.pod.clone(),
        mtu: conf.mtu,
        mac: conf.mac.or(env.mac).map(|mac| mac.to_string()),
        addresses,
        foreign: conf.ipam.is_some(),
    };
    let (reservation, agent): (Reservation, _) =
        agent::with_patience(&conf.run_dir, conf.wait, |client| {
            client.post(ATTACHMENTS, &request)
        })?;
    // An agent of before these keys would not heed them.
    match request
        .addresses
        .iter()
        .find(|ip| !reservation.addresses.contains(ip))
    {
        Some(ip) => Err(CniError::Reservation(format!(
            "asked for {ip}, it is for {:?}",
            reservation.addresses
        ))),
        None => Ok((reservation, agent)),
    }
}

fn wire(
    agent: &mut KeptClient,
    key: &AttachmentKey,
    cookie: &str,
    reservation: &Reservation,
    host: &mut Netlink,
    pod: &mut PodNs,
) -> Result<Plan, CniError> {
    let plan = Plan::new(key, reservation)?;
    if reservation.state == AttachmentState::Committed && stands(&plan, host, &mut pod.netlink)? {
        return Ok(plan);
    }
    let wiring = Wiring::build(&plan, host, pod)?;
    let request = CommitRequest {
        netns_cookie: cookie.to_owned(),
        host_ifindex: wiring.host_ifindex,
        pod_mac: plan.pod_mac.to_string(),
    };
    let path = format!("{}/commit", key.path());
    agent.set_timeout(COMMIT_TIMEOUT);
    let _: Attachment = agent.post(&path, &request)?;
    wiring.keep();
    Ok(plan)
}

/// A repeated ADD: is everything as the first one made it?
fn stands(plan: &Plan, host: &mut Netlink, pod: &mut Netlink) -> Result<bool, CniError> {
    let addresses: Vec<_> = plan
        .addresses
        .iter()
        .map(|(ip, gateway)| (IpNet::from(*ip), Some(*gateway)))
        .collect();
    let expected = Expected {
        host_ifname: &plan.host_ifname,
        alias: &plan.alias,
        host_mac: Some(plan.host_mac),
        pod_ifname: &plan.pod_ifname,
        pod_mac: Some(plan.pod_mac),
        mtu: [Some(plan.mtu); 2],
        addresses: &addresses,
    };
    Ok(differences(&expected, host, pod)?.is_empty())
}

/// Gives the IPAM plugin its addresses back.
fn give_back(env: &Env, conf: &NetConf, log: &mut Log) {
    if let Some(ipam) = &conf.ipam
        && let Err(error) = ipam.call(env, Command::Del)
    {
        log.warn(format_args!("undo: {error}"));
    }
}

/// Takes everything back. The links first: a released address must not have one. Failures are only warnings, since the
/// error that led here is the one to report, and the runtime follows it with DEL.
fn release(conf: &NetConf, key: &AttachmentKey, host: &mut Netlink, log: &mut Log) {
    if let Err(error) = unwire(host, key) {
        log.warn(format_args!("undo: {error}"));
    }
    let released = agent::client(&conf.run_dir, RELEASE_TIMEOUT).delete::<Released>(&key.path());
    if let Err(error) = released {
        log.warn(format_args!("undo: releasing the reservation: {error}"));
        if let Err(error) = notes::leave(&conf.run_dir, key) {
            log.warn(format_args!("undo: leaving a note: {error}"));
        }
    }
}
