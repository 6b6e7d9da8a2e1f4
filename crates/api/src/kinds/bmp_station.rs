//! A BMP station: a collector that speakers tell about their sessions and routes (RFC 7854).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::problem::Problems;

/// Port of collectors, of no RFC: what they commonly listen on.
pub const DEFAULT_BMP_PORT: u16 = 11019;
/// First pause before another attempt, seconds (RFC 7854 §3.2).
const DEFAULT_CONNECT_RETRY_SECONDS: u16 = 30;
/// Between two Statistics Reports, seconds.
const DEFAULT_STATISTICS_SECONDS: u16 = 60;

/// One station. In the cluster an entry of `bmp` of `BGPConfig`; in `bgpd.toml` a table `[bmp.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BmpStationSpec {
    /// The collector's address.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Address"))]
    pub address: IpAddr,
    /// Its TCP port; default 11019.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub port: Option<u16>,
    /// Our end of the connection; default by the route to the collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Address>"))]
    pub source_address: Option<IpAddr>,
    /// Pause before another attempt, seconds, 1–720; default 30. Doubled with each failure in a row, up to 720.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 720)))]
    pub connect_retry_seconds: Option<u16>,
    /// Which side of the import policy is told; default `pre-policy`.
    #[serde(default)]
    pub route_monitoring: RouteMonitoring,
    /// Between two Statistics Reports, seconds; default 60, 0 sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics_seconds: Option<u16>,
}

/// Which Adj-RIB-In a station is told (RFC 7854 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RouteMonitoring {
    /// As received.
    #[default]
    PrePolicy,
    /// After the import policy.
    PostPolicy,
    /// Both, told apart by the L flag.
    Both,
}

impl RouteMonitoring {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            RouteMonitoring::PrePolicy => "pre-policy",
            RouteMonitoring::PostPolicy => "post-policy",
            RouteMonitoring::Both => "both",
        }
    }
}

impl BmpStationSpec {
    /// [`BmpStationSpec::port`] or its default.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_BMP_PORT)
    }

    /// [`BmpStationSpec::connect_retry_seconds`] or its default.
    pub fn connect_retry_seconds(&self) -> u16 {
        self.connect_retry_seconds
            .unwrap_or(DEFAULT_CONNECT_RETRY_SECONDS)
    }

    /// [`BmpStationSpec::statistics_seconds`] or its default.
    pub fn statistics_seconds(&self) -> u16 {
        self.statistics_seconds
            .unwrap_or(DEFAULT_STATISTICS_SECONDS)
    }

    /// Reports every value that cannot be used, under `path`.
    pub fn validate(&self, path: &str, problems: &mut Problems) {
        if self.port == Some(0) {
            problems.add(
                format!("{path}.port"),
                "0 is not a TCP port: use 1 to 65535",
            );
        }
        if self.address.is_unspecified() || self.address.is_multicast() {
            problems.add(
                format!("{path}.address"),
                format!("{} is not the address of a collector", self.address),
            );
        }
        if let Some(source) = self.source_address
            && source.is_ipv4() != self.address.is_ipv4()
        {
            problems.add(
                format!("{path}.sourceAddress"),
                format!("{source} is of another family than {}", self.address),
            );
        }
        if !(1..=720).contains(&self.connect_retry_seconds()) {
            problems.add(
                format!("{path}.connectRetrySeconds"),
                format!("{} is not 1 to 720", self.connect_retry_seconds()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(json: serde_json::Value) -> Vec<String> {
        let spec: BmpStationSpec = serde_json::from_value(json).unwrap();
        let mut problems = Problems::new();
        spec.validate("bmp.noc", &mut problems);
        problems.iter().map(|p| p.path.clone()).collect()
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let spec: BmpStationSpec =
            serde_json::from_value(serde_json::json!({"address": "192.0.2.1"})).unwrap();
        let found = (
            spec.port(),
            spec.connect_retry_seconds(),
            spec.statistics_seconds(),
        );
        assert_eq!(found, (11019, 30, 60));
        assert_eq!(spec.route_monitoring, RouteMonitoring::PrePolicy);
    }

    #[test]
    fn every_wrong_value_is_named() {
        let wrong = serde_json::json!({
            "address": "0.0.0.0", "port": 0, "sourceAddress": "::1", "connectRetrySeconds": 0,
            "routeMonitoring": "both", "statisticsSeconds": 0,
        });
        let fields = ["port", "address", "sourceAddress", "connectRetrySeconds"];
        assert_eq!(problems(wrong), fields.map(|f| format!("bmp.noc.{f}")));
        let right = serde_json::json!({"address": "fd00::1", "sourceAddress": "fd00::2"});
        assert_eq!(problems(right), Vec::<String>::new());
    }
}
