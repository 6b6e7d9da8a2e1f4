//! What section 5 of the CNI specification allows a plugin to print, version by version.
//!
//! Stricter than any runtime: a key that the version does not have is an error, since a runtime of another language may
//! refuse it.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use roadbed_hostnet::{MacAddr, check_ifname};
use serde_json::{Map, Value};

/// Versions that there is a schema for, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Checks an "Add Success" object against its version's schema.
///
/// # Errors
/// With the first key that is wrong.
pub fn check_result(result: &Value, version: &str) -> Result<()> {
    let age = VERSIONS
        .iter()
        .position(|known| *known == version)
        .with_context(|| format!("no schema for {version}"))?;
    let (has_ip_version, has_mtu) = (age < 2, age == 3);
    let object = keys(
        result,
        &["cniVersion", "interfaces", "ips", "routes", "dns"],
    )?;
    ensure!(
        object.get("cniVersion").and_then(Value::as_str) == Some(version),
        "cniVersion is not the configuration's, {version}"
    );
    let interfaces = list(object, "interfaces")?;
    for interface in interfaces {
        let mut known = vec!["name", "mac", "sandbox"];
        if has_mtu {
            known.extend(["mtu", "socketPath", "pciID"]);
        }
        check_interface(keys(interface, &known)?).with_context(|| format!("{interface}"))?;
    }
    for ip in list(object, "ips")? {
        let mut known = vec!["address", "gateway", "interface"];
        if has_ip_version {
            known.push("version");
        }
        let ip_object = keys(ip, &known)?;
        check_ip(ip_object, interfaces.len(), has_ip_version).with_context(|| format!("{ip}"))?;
    }
    for route in list(object, "routes")? {
        let mut known = vec!["dst", "gw"];
        if has_mtu {
            known.extend(["mtu", "advmss", "priority", "table", "scope"]);
        }
        check_route(keys(route, &known)?).with_context(|| format!("{route}"))?;
    }
    match object.get("dns") {
        None => Ok(()),
        Some(dns) => check_dns(dns).context("dns"),
    }
}

/// Checks that a result of a chain is of the attachment that was asked for: its interface inside the container, and
/// addresses on it.
///
/// # Errors
/// With what is missing.
pub fn check_attachment(result: &Value, ifname: &str, netns: &str) -> Result<()> {
    let empty = Vec::new();
    let interfaces = result["interfaces"].as_array().unwrap_or(&empty);
    let ours = interfaces
        .iter()
        .position(|i| i["name"] == ifname && i["sandbox"] == netns)
        .with_context(|| format!("no interface {ifname} in {netns}"))?;
    let ips = result["ips"].as_array().unwrap_or(&empty);
    ensure!(
        ips.iter().any(|ip| ip["interface"] == ours),
        "no address on {ifname}"
    );
    Ok(())
}

/// Checks an "Error" object. Debian's plugins leave `cniVersion` out, which the text of the specification does not allow
/// and every runtime does.
///
/// # Errors
/// With the first key that is wrong.
pub fn check_error(error: &Value, version: Option<&str>) -> Result<()> {
    let object = keys(error, &["cniVersion", "code", "msg", "details"])?;
    if let Some(found) = object.get("cniVersion") {
        let known = version.is_some_and(|version| VERSIONS.contains(&version));
        ensure!(
            found.is_string() && (!known || found.as_str() == version),
            "cniVersion {found} is not the configuration's"
        );
    }
    let code = object
        .get("code")
        .and_then(Value::as_u64)
        .context("code is no number")?;
    ensure!(
        (1..=7).contains(&code) || code == 11 || (50..=51).contains(&code) || code >= 100,
        "code {code} is reserved by the specification and means nothing"
    );
    let message = object
        .get("msg")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure!(!message.is_empty(), "no msg");
    Ok(())
}

fn check_interface(interface: &Map<String, Value>) -> Result<()> {
    let name = text(interface, "name")?.context("no name")?;
    check_ifname("name", name)?;
    if let Some(mac) = text(interface, "mac")? {
        mac.parse::<MacAddr>()?;
    }
    text(interface, "sandbox")?;
    if let Some(mtu) = interface.get("mtu") {
        ensure!(mtu.as_u64().is_some_and(|mtu| mtu > 0), "mtu {mtu}");
    }
    Ok(())
}

fn check_ip(ip: &Map<String, Value>, interfaces: usize, has_version: bool) -> Result<()> {
    let address: IpNet = text(ip, "address")?.context("no address")?.parse()?;
    if let Some(gateway) = text(ip, "gateway")? {
        same_family(address.addr(), gateway.parse()?)?;
    }
    if has_version {
        let version = text(ip, "version")?.context("no version")?;
        let right = if address.addr().is_ipv4() { "4" } else { "6" };
        ensure!(version == right, "version {version:?}");
    }
    match ip.get("interface") {
        None => Ok(()),
        Some(index) => {
            let index = index
                .as_u64()
                .with_context(|| format!("interface {index}"))?;
            ensure!(
                usize::try_from(index)? < interfaces,
                "interface {index} of {interfaces}"
            );
            Ok(())
        }
    }
}

fn check_route(route: &Map<String, Value>) -> Result<()> {
    let dst: IpNet = text(route, "dst")?.context("no dst")?.parse()?;
    ensure!(dst == dst.trunc(), "dst {dst} has host bits");
    match text(route, "gw")? {
        None => Ok(()),
        Some(gateway) => same_family(dst.addr(), gateway.parse()?),
    }
}

fn check_dns(dns: &Value) -> Result<()> {
    let dns = keys(dns, &["nameservers", "domain", "search", "options"])?;
    for server in list(dns, "nameservers")? {
        server
            .as_str()
            .context("nameservers")?
            .parse::<IpAddr>()
            .context("nameservers")?;
    }
    text(dns, "domain")?;
    for key in ["search", "options"] {
        ensure!(list(dns, key)?.iter().all(Value::is_string), "{key}");
    }
    Ok(())
}

fn same_family(a: IpAddr, b: IpAddr) -> Result<()> {
    ensure!(a.is_ipv4() == b.is_ipv4(), "{b} is not of {a}'s family");
    Ok(())
}

fn keys<'a>(value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>> {
    let object = value
        .as_object()
        .with_context(|| format!("{value} is no object"))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => bail!("this version has no key {key}"),
        None => Ok(object),
    }
}

/// A list; absent is empty.
fn list<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a [Value]> {
    match object.get(key) {
        None => Ok(&[]),
        Some(value) => value
            .as_array()
            .map(Vec::as_slice)
            .with_context(|| format!("{key} is no list")),
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>> {
    match object.get(key) {
        None => Ok(None),
        Some(value) => Ok(Some(
            value
                .as_str()
                .with_context(|| format!("{key} is no string"))?,
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "rb1", "mac": "0e:00:00:00:00:01"}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [{"address": "10.0.0.5/32", "gateway": "169.254.1.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
            "dns": {},
        })
    }

    #[test]
    fn each_version_has_its_own_keys() {
        let check = |version: &str, pointer: &str, key: &str, value: Value, allowed: bool| {
            let mut changed = result();
            changed["cniVersion"] = json!(version);
            if ["0.3.1", "0.4.0"].contains(&version) {
                changed["ips"][0]["version"] = json!("4");
            }
            changed.pointer_mut(pointer).unwrap()[key] = value;
            let found = check_result(&changed, version);
            assert_eq!(found.is_ok(), allowed, "{version} {key}: {found:?}");
        };
        for version in VERSIONS {
            check(version, "/dns", "domain", json!("example.org"), true);
            check(version, "", "ip4", json!({}), false);
            let new = version == "1.1.0";
            check(version, "/interfaces/0", "mtu", json!(1500), new);
            check(version, "/routes/0", "priority", json!(5), new);
            let old = ["0.3.1", "0.4.0"].contains(&version);
            check(version, "/ips/0", "version", json!("4"), old);
            check(version, "/ips/0", "version", json!("6"), false);
        }
    }

    #[test]
    fn what_no_runtime_could_use_is_named() {
        let check = |pointer: &str, key: &str, value: Value, expected: &str| {
            let mut changed = result();
            changed.pointer_mut(pointer).unwrap()[key] = value;
            let error = format!("{:#}", check_result(&changed, "1.0.0").unwrap_err());
            assert!(error.contains(expected), "{error}: expected {expected:?}");
        };
        check("", "cniVersion", json!("1.1.0"), "cniVersion");
        check("", "ips", json!({}), "ips is no list");
        check("/interfaces/0", "name", json!("a/b"), "name");
        check("/interfaces/0", "mac", json!("00:11"), "mac");
        check("/interfaces/1", "sandbox", json!(7), "sandbox");
        check("/ips/0", "address", json!("10.0.0.5"), "invalid IP address");
        check("/ips/0", "gateway", json!("fe80::1"), "family");
        check("/ips/0", "interface", json!(2), "interface 2 of 2");
        check("/routes/0", "dst", json!("10.0.0.5/24"), "host bits");
        check("/dns", "nameservers", json!(["x"]), "nameservers");
        let result = result();
        assert!(check_result(&result, "2.0.0").is_err());
        assert!(check_attachment(&result, "eth0", "/n").is_ok());
        assert!(check_attachment(&result, "eth1", "/n").is_err());
        assert!(check_attachment(&result, "rb1", "").is_err());
    }

    #[test]
    fn errors_have_a_code_that_means_something() {
        let check = |error: Value, allowed: bool| {
            let found = check_error(&error, Some("1.0.0"));
            assert_eq!(found.is_ok(), allowed, "{error}: {found:?}");
        };
        check(
            json!({"cniVersion": "1.0.0", "code": 7, "msg": "x", "details": "y"}),
            true,
        );
        check(json!({"code": 100, "msg": "x"}), true);
        check(json!({"cniVersion": "0.4.0", "code": 7, "msg": "x"}), false);
        check(json!({"code": 8, "msg": "x"}), false);
        check(json!({"code": 0, "msg": "x"}), false);
        check(json!({"code": "7", "msg": "x"}), false);
        check(json!({"code": 7, "msg": ""}), false);
        check(json!({"code": 7, "msg": "x", "trace": ""}), false);
    }
}
