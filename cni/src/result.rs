//! The result of ADD, in the words of each spec version (spec section 5, "Success").

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::version::CniVersion;

/// What ADD made, free of any version's spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniResult {
    /// Host end first, then the pod's.
    pub interfaces: Vec<Interface>,
    /// The pod's addresses.
    pub ips: Vec<IpConfig>,
    /// The pod's routes.
    pub routes: Vec<RouteConfig>,
}

/// An interface that ADD made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Ethernet address, as text.
    pub mac: String,
    /// MTU, bytes; told since 1.1.0.
    pub mtu: u32,
    /// Path of the pod's namespace; `None` on the host.
    pub sandbox: Option<String>,
}

/// An address that ADD gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// Address and prefix length.
    pub address: IpNet,
    /// Its gateway.
    pub gateway: IpAddr,
    /// Index into the interfaces.
    pub interface: usize,
}

/// A route that ADD made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// Destination.
    pub dst: IpNet,
    /// Next hop.
    pub gw: IpAddr,
}

impl CniResult {
    /// The result object for stdout.
    pub fn to_json(&self, version: CniVersion) -> String {
        let interfaces: Vec<Value> = self
            .interfaces
            .iter()
            .map(|interface| interface.to_value(version))
            .collect();
        let ips: Vec<Value> = self.ips.iter().map(|ip| ip.to_value(version)).collect();
        let routes: Vec<Value> = self
            .routes
            .iter()
            .map(|r| json!({"dst": r.dst, "gw": r.gw}))
            .collect();
        let object = json!({
            "cniVersion": version.as_str(),
            "interfaces": interfaces,
            "ips": ips,
            "routes": routes,
            "dns": {},
        });
        format!("{object}\n")
    }
}

impl Interface {
    fn to_value(&self, version: CniVersion) -> Value {
        let mut value = json!({"name": self.name, "mac": self.mac});
        if let Some(sandbox) = &self.sandbox {
            value["sandbox"] = json!(sandbox);
        }
        if version >= CniVersion::V1_1_0 {
            value["mtu"] = json!(self.mtu);
        }
        value
    }
}

impl IpConfig {
    fn to_value(&self, version: CniVersion) -> Value {
        let mut value =
            json!({"address": self.address, "gateway": self.gateway, "interface": self.interface});
        if version < CniVersion::V1_0_0 {
            value["version"] = json!(if self.address.addr().is_ipv4() {
                "4"
            } else {
                "6"
            });
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_own_spelling() {
        let result = CniResult {
            interfaces: vec![
                Interface {
                    name: "rb1".into(),
                    mac: "0e:00:00:00:00:01".into(),
                    mtu: 1500,
                    sandbox: None,
                },
                Interface {
                    name: "eth0".into(),
                    mac: "1e:00:00:00:00:01".into(),
                    mtu: 1500,
                    sandbox: Some("/n".into()),
                },
            ],
            ips: vec![IpConfig {
                address: "fd00::5/128".parse().unwrap(),
                gateway: "fe80::1".parse().unwrap(),
                interface: 1,
            }],
            routes: vec![RouteConfig {
                dst: "::/0".parse().unwrap(),
                gw: "fe80::1".parse().unwrap(),
            }],
        };
        let check = |version: CniVersion, interface: Value, ip: Value| {
            let value: Value = serde_json::from_str(&result.to_json(version)).unwrap();
            assert_eq!(value["cniVersion"], version.as_str());
            assert_eq!(value["interfaces"][1], interface, "{version}");
            assert_eq!(value["ips"][0], ip, "{version}");
            assert_eq!(value["routes"], json!([{"dst": "::/0", "gw": "fe80::1"}]));
        };
        let interface = json!({"name": "eth0", "mac": "1e:00:00:00:00:01", "sandbox": "/n"});
        let with_mtu =
            json!({"name": "eth0", "mac": "1e:00:00:00:00:01", "sandbox": "/n", "mtu": 1500});
        let ip = json!({"address": "fd00::5/128", "gateway": "fe80::1", "interface": 1});
        let with_version =
            json!({"address": "fd00::5/128", "gateway": "fe80::1", "interface": 1, "version": "6"});
        check(CniVersion::V0_3_1, interface.clone(), with_version.clone());
        check(CniVersion::V0_4_0, interface.clone(), with_version);
        check(CniVersion::V1_0_0, interface, ip.clone());
        check(CniVersion::V1_1_0, with_mtu, ip);
    }
}
