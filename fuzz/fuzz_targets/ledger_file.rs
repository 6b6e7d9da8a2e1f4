//! The ledger's file, spoiled: octets changed at places of the input's choice, then cut.
#![no_main]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use roadbed_api::agent::AttachmentKey;
use roadbed_api::names::host_ifname;
use roadbed_ipam::{
    AddressRequest, ConfirmedBlock, Family, KernelAttachment, Ledger, LedgerSettings, Opened,
};

const BOOT: &str = "5f3c";
const PODS: u32 = 6;
const NOW: Duration = Duration::from_secs(100);

/// A memory file system, as the run directory is on one.
fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = PathBuf::from(format!("/dev/shm/roadbed-fuzz-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        dir
    })
}

fn open(path: &Path, kernel: &[KernelAttachment]) -> Ledger {
    let kernel = || Ok::<_, Infallible>(kernel.to_vec());
    let opened: Opened = Ledger::open(path, BOOT, LedgerSettings::default(), kernel, NOW)
        .expect("no content of a file keeps a ledger from opening");
    opened.ledger
}

/// A file with committed, wiring and released rows, and what the kernel has of them.
fn original() -> &'static (Vec<u8>, Vec<KernelAttachment>) {
    static ORIGINAL: OnceLock<(Vec<u8>, Vec<KernelAttachment>)> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let path = dir().join("original");
        let mut ledger = open(&path, &[]);
        let blocks = ["10.0.0.0/26", "fd00::/122"].map(|cidr| ConfirmedBlock {
            cidr: cidr.parse().expect("a prefix"),
            pool: "p".into(),
        });
        let mut kernel = Vec::new();
        for index in 0..PODS {
            let key = AttachmentKey {
                network: "pods".into(),
                container_id: format!("c{index}"),
                ifname: "eth0".into(),
            };
            let cookie = index.to_string();
            let request = AddressRequest {
                key: &key,
                cookie: &cookie,
                pod: None,
                families: &[Family::V4, Family::V6],
                blocks: &blocks,
                chosen: &[],
                foreign: false,
            };
            let row = ledger.reserve(&request, NOW * 2, NOW).expect("room").row;
            match index % 3 {
                0 => drop(ledger.release(&key, NOW).expect("a row")),
                1 => drop(ledger.commit(&key, &cookie, index + 1).expect("a row")),
                _ => {}
            }
            if index % 3 == 1 {
                kernel.push(KernelAttachment {
                    host_ifname: host_ifname(&key),
                    host_ifindex: index + 1,
                    addresses: row.addresses,
                    key,
                });
            }
        }
        drop(ledger);
        (fs::read(&path).expect("the file"), kernel)
    })
}

fuzz_target!(|input: &[u8]| {
    let (bytes, kernel) = original();
    let mut spoiled = bytes.clone();
    for change in input.chunks_exact(4).take(64) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let place = place % spoiled.len();
        match change[3] {
            0xff => spoiled.truncate(place.max(1)),
            _ => spoiled[place] = change[2],
        }
    }
    let path = dir().join("ledger.db");
    for file in fs::read_dir(dir()).into_iter().flatten().flatten() {
        let _ = fs::remove_file(file.path());
    }
    fs::write(&path, &spoiled).expect("room");
    let ledger = open(&path, kernel);
    for attachment in kernel {
        let row = ledger.get(&attachment.key).expect("a living pod has a row");
        let held: BTreeSet<&IpAddr> = row.addresses.iter().collect();
        assert!(
            attachment.addresses.iter().all(|a| held.contains(a)),
            "{row:?}"
        );
    }
    let mut seen = BTreeSet::new();
    for address in ledger.list().iter().flat_map(|row| &row.addresses) {
        assert!(seen.insert(*address), "{address} is held twice");
    }
});
