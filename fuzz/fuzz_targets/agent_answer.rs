//! What the plugin hears from an agent. The first octet chooses: even, the rest is an HTTP answer; odd, a recipe for a
//! reservation, most of which are right but for a field.
#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use roadbed_api::agent::AttachmentKey;
use roadbed_api::names;
use roadbed_client::parse_response;
use roadbed_cni::parse_reservation;
use serde_json::{Value, json};

const MAX_BODY: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    if choice % 2 == 0 {
        if let Some((status, body)) = parse_response(rest, MAX_BODY) {
            assert!((200..600).contains(&status) && body.len() <= MAX_BODY);
            check(&body);
        }
    } else if let Ok(reservation) = reservation(&mut Unstructured::new(rest)) {
        check(reservation.to_string().as_bytes());
    }
});

fn key() -> AttachmentKey {
    AttachmentKey {
        network: "pods".into(),
        container_id: "c0ffee".into(),
        ifname: "eth0".into(),
    }
}

fn check(body: &[u8]) {
    match parse_reservation(&key(), body) {
        Ok((name, addresses)) => {
            assert!(name.starts_with("rb") && name.len() <= 15, "{name}");
            assert!(!name.contains(['/', ':', ' ']), "{name}");
            let v4 = addresses.iter().filter(|ip| ip.is_ipv4()).count();
            assert!(!addresses.is_empty() && v4 <= 1 && addresses.len() - v4 <= 1);
        }
        Err(error) => assert_eq!(error.code(), 105, "{error}"),
    }
}

fn reservation(recipe: &mut Unstructured<'_>) -> Result<Value> {
    let key = key();
    let mut reservation = json!({
        "key": key, "state": "wiring", "addresses": ["10.244.0.5", "fd00:244::5"], "mtu": 1500,
        "hostIfname": names::host_ifname(&key), "hostAlias": names::ifalias(&key),
        "hostMac": "0e:00:00:00:00:01", "podMac": "1e:00:00:00:00:01",
        "gatewayV4": "169.254.1.1", "gatewayV6": "fe80::1",
    });
    let fields: Vec<String> = reservation
        .as_object()
        .into_iter()
        .flat_map(|object| object.keys().cloned())
        .collect();
    for _ in 0..recipe.int_in_range(0..=2)? {
        let field = recipe.choose(&fields)?;
        reservation[field] = match recipe.int_in_range(0..=6u8)? {
            0 => Value::Null,
            1 => json!(recipe.arbitrary::<String>()?),
            2 => json!(recipe.arbitrary::<i64>()?),
            3 => json!(recipe.arbitrary::<Vec<std::net::IpAddr>>()?),
            4 => json!(format!("rb{}", recipe.arbitrary::<String>()?)),
            5 => json!({"network": "pods", "containerId": "other", "ifname": "eth0"}),
            _ => json!("committed"),
        };
    }
    Ok(reservation)
}
