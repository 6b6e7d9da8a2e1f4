use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(value: Value, command: Command) -> Result<NetConf, CniError> {
    NetConf::parse(value.to_string().as_bytes(), command)
}

/// A legal configuration with `changes` applied (null removes nothing: it sets null).
fn conf(changes: Value) -> Value {
    let mut value = json!({"cniVersion": "1.1.0", "name": "pods", "type": "roadbed"});
    let object = value.as_object_mut().unwrap();
    object.extend(changes.as_object().unwrap().clone());
    value
}

fn check_refused(value: Value, command: Command, code: u32, expected: &[&str]) {
    let error = parse(value.clone(), command).unwrap_err();
    assert_eq!(error.code(), code, "{value}: {error}");
    for part in expected {
        assert!(
            error.to_string().contains(part),
            "{value}: {error}: expected {part:?}"
        );
    }
}

#[test]
fn defaults_and_unknown_keys() {
    let parsed = parse(
        conf(json!({"x": 1, "dns": {}, "capabilities": {"mac": true}, "mtu": 0})),
        Command::Add,
    )
    .unwrap();
    assert_eq!(parsed.run_dir, PathBuf::from("/run/roadbed"));
    assert_eq!(
        (parsed.mtu, parsed.wait, parsed.mac),
        (None, Duration::from_secs(10), None)
    );
    assert_eq!(parsed.version, CniVersion::V1_1_0);
}

#[test]
fn every_key_of_ours() {
    let all = json!({"runDir": "/tmp/r", "mtu": 9000, "waitSeconds": 0, "runtimeConfig": {"mac": "02:00:00:00:00:01", "ips": []}});
    let parsed = parse(conf(all), Command::Add).unwrap();
    assert_eq!(parsed.run_dir, PathBuf::from("/tmp/r"));
    assert_eq!((parsed.mtu, parsed.wait), (Some(9000), Duration::ZERO));
    assert_eq!(parsed.mac, Some(MacAddr([2, 0, 0, 0, 0, 1])));
}

#[test]
fn wrong_types_are_named_all_together() {
    check_refused(
        json!({"cniVersion": "1.0.0", "name": 7, "type": [], "runDir": {}, "mtu": "1500", "waitSeconds": 1.5, "runtimeConfig": "x"}),
        Command::Add,
        7,
        &[
            "name must be a string, not a number",
            "type must be a string, not an array",
            "runDir must be a string, not an object",
            "mtu must be a whole number, not negative, not a string",
            "waitSeconds must be a whole number, not negative, not 1.5",
            "runtimeConfig must be an object, not a string",
        ],
    );
}

#[test]
fn values_out_of_range_are_named() {
    let add = |changes, expected| check_refused(conf(changes), Command::Add, 7, &[expected]);
    add(
        json!({"mtu": 1279}),
        "mtu 1279 is out of range; 1280 to 65535",
    );
    add(json!({"mtu": 65536}), "mtu 65536");
    add(json!({"mtu": -1}), "mtu must be a whole number");
    add(json!({"waitSeconds": 121}), "waitSeconds 121");
    add(
        json!({"runDir": "run"}),
        "runDir \"run\" is not an absolute path",
    );
    add(
        json!({"runDir": "/".to_owned() + &"x".repeat(96)}),
        "runDir is longer than 96 bytes",
    );
    add(json!({"name": ""}), "name: network name");
    add(json!({"name": "a/b"}), "name: network name");
    add(json!({"name": null}), "name is missing");
    add(
        json!({"runtimeConfig": {"mac": "nonsense"}}),
        "runtimeConfig.mac: \"nonsense\" is not a MAC address",
    );
    add(
        json!({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}),
        "is a multicast address",
    );
    add(
        json!({"runtimeConfig": {"mac": 1}}),
        "runtimeConfig.mac must be a string",
    );
    add(
        json!({"prevResult": {}}),
        "must be first in its plugin list",
    );
    let ips = |ips: Value| json!({"runtimeConfig": {"ips": ips}});
    add(ips(json!("10.0.0.1")), "runtimeConfig.ips must be a list");
    add(ips(json!(["x"])), "runtimeConfig.ips must be a list");
    add(
        ips(json!(["10.0.0.1", "10.0.0.2/24"])),
        "several addresses of one family",
    );
    add(json!({"ipam": []}), "ipam must be an object");
    add(json!({"ipam": {"type": 7}}), "ipam.type must be a string");
    add(
        json!({"ipam": {"type": "../x"}}),
        "ipam.type \"../x\" is not a plugin's file name",
    );
}

#[test]
fn addresses_are_the_agents_unless_somebody_else_is_named() {
    let ipam = |ipam: Value| {
        let parsed = parse(conf(json!({"ipam": ipam})), Command::Add).unwrap();
        parsed.ipam.map(|ipam| ipam.kind)
    };
    assert_eq!(ipam(json!(null)), None);
    assert_eq!(ipam(json!({})), None);
    assert_eq!(ipam(json!({"type": "roadbed"})), None);
    let named = json!({"type": "host-local"});
    assert_eq!(ipam(named.clone()), Some("host-local".into()));
    let ips = json!({"ips": ["10.0.0.1/24", "fd00::1"]});
    let chosen = |changes| parse(conf(changes), Command::Add).unwrap().ips;
    assert_eq!(
        chosen(json!({"runtimeConfig": ips})),
        ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap())
    );
    assert!(chosen(json!({"runtimeConfig": ips, "ipam": named})).is_empty());
}

#[test]
fn del_is_not_stopped_by_keys_it_does_not_use() {
    let broken = conf(
        json!({"mtu": "x", "waitSeconds": -1, "runtimeConfig": 1, "prevResult": "x", "type": 1, "ipam": 1}),
    );
    assert_eq!(parse(broken, Command::Del).unwrap().name, "pods");
}

#[test]
fn versions() {
    for version in CniVersion::ALL {
        let value = conf(json!({"cniVersion": version.as_str()}));
        assert_eq!(parse(value.clone(), Command::Add).unwrap().version, version);
        assert_eq!(
            parse(value.clone(), Command::Status).is_ok(),
            version >= CniVersion::V1_1_0,
            "{version}"
        );
        let with_prev = conf(json!({"cniVersion": version.as_str(), "prevResult": {}}));
        assert_eq!(
            parse(with_prev, Command::Check).is_ok(),
            version >= CniVersion::V0_4_0,
            "{version}"
        );
    }
    check_refused(
        conf(json!({"cniVersion": "0.2.0"})),
        Command::Add,
        1,
        &["\"0.2.0\" is not supported", "0.3.1, 0.4.0, 1.0.0, 1.1.0"],
    );
    check_refused(
        conf(json!({"cniVersion": "2.0.0"})),
        Command::Del,
        1,
        &["2.0.0"],
    );
    check_refused(
        json!({"name": "pods"}),
        Command::Add,
        1,
        &["cniVersion is missing"],
    );
    check_refused(
        conf(json!({"cniVersion": "0.4.0"})),
        Command::Gc,
        1,
        &["came with 1.1.0"],
    );
}

#[test]
fn what_is_not_a_json_object_is_code_6() {
    for bytes in [
        &b""[..],
        b"  \n",
        b"{",
        b"[]",
        b"\"x\"",
        b"42",
        b"null",
        b"\xff\xfe",
        b"{\"a\":1}}",
        &b"[".repeat(100_000),
    ] {
        let error = NetConf::parse(bytes, Command::Add).unwrap_err();
        assert_eq!(error.code(), 6, "{error}");
    }
}

#[test]
fn an_oversized_configuration_is_refused_before_it_is_read() {
    let error = read_stdin(std::io::repeat(b' ')).unwrap_err();
    assert_eq!(error.code(), 7);
    assert!(
        error.to_string().contains("more than 1048576 bytes"),
        "{error}"
    );
}

#[test]
fn prev_result_is_read_leniently_and_needed_by_check() {
    let prev = json!({
        "cniVersion": "1.1.0", "dns": {},
        "interfaces": [{"name": "rb1", "mac": "0e:00:00:00:00:01"}, {"name": "eth0", "sandbox": "/n", "mtu": 1500}, {"name": "other"}],
        "ips": [{"address": "10.0.0.5/32", "interface": 1}, {"address": "fd00::5/128"}, {"address": "10.9.9.9/24", "interface": 2}, {"address": "10.9.9.8/24", "interface": 9}],
    });
    let parsed = parse(conf(json!({"prevResult": prev})), Command::Check)
        .unwrap()
        .prev_result
        .unwrap();
    let ours: Vec<String> = parsed
        .ips_of("eth0", "/n")
        .map(|ip| ip.address.to_string())
        .collect();
    assert_eq!(ours, ["10.0.0.5/32", "fd00::5/128"]);
    check_refused(
        conf(json!({})),
        Command::Check,
        7,
        &["prevResult is missing"],
    );
    check_refused(
        conf(json!({"prevResult": {"ips": [{"address": "x"}]}})),
        Command::Check,
        7,
        &["prevResult: "],
    );
}

#[test]
fn gc_wants_its_list_and_takes_null_for_none() {
    let key = "cni.dev/valid-attachments";
    let parsed = parse(
        conf(json!({key: [{"containerID": "a", "ifname": "eth0", "x": 1}]})),
        Command::Gc,
    )
    .unwrap();
    assert_eq!(
        parsed.valid_attachments,
        [("a".to_owned(), "eth0".to_owned())]
    );
    assert!(
        parse(conf(json!({key: null})), Command::Gc)
            .unwrap()
            .valid_attachments
            .is_empty()
    );
    check_refused(
        conf(json!({})),
        Command::Gc,
        7,
        &["cni.dev/valid-attachments is missing"],
    );
    check_refused(
        conf(json!({key: [{"ifname": "eth0"}]})),
        Command::Gc,
        7,
        &["containerID"],
    );
}

/// JSON values near the shape of a configuration.
fn near_conf() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        prop_oneof![
            Just("1.1.0"),
            Just("0.4.0"),
            Just("pods"),
            Just("/run/x"),
            Just("10.0.0.1/32")
        ]
        .prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("cniVersion"),
        Just("name"),
        Just("type"),
        Just("runDir"),
        Just("mtu"),
        Just("waitSeconds"),
        Just("runtimeConfig"),
        Just("mac"),
        Just("ips"),
        Just("prevResult"),
        Just("interfaces"),
        Just("address"),
        Just("interface"),
        Just("cni.dev/valid-attachments"),
        Just("containerID"),
        Just("ifname"),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone().prop_map(str::to_owned), inner), 0..10)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_parse_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        for result in parse_stdin(&bytes) {
            if let Err(error) = result {
                prop_assert!([1, 6, 7].contains(&error.code()));
            }
        }
    }

    #[test]
    fn any_json_parses_without_a_panic_and_errors_are_json(value in near_conf()) {
        for result in parse_stdin(value.to_string().as_bytes()) {
            if let Err(error) = result {
                prop_assert!([1, 6, 7].contains(&error.code()));
                prop_assert!(serde_json::from_str::<Value>(&error.to_json(CniVersion::LATEST)).is_ok());
            }
        }
    }
}
