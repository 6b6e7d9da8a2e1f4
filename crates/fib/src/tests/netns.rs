//! The whole writer against a real kernel, each test in an unnamed network namespace of its own thread.

use std::future::Future;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use smallvec::smallvec;

use super::{device, unreachable, via};
use crate::monitor;
use crate::plan::Way;
use crate::{
    Fib, FibEvents, FibHandle, FibOptions, NextHop, RouteChange, RouteKind, RouteSpec, RouteState,
    Source,
};

/// Runs a test body in a fresh namespace that ends with its thread. `e0` (10.0.0.1/24, fd00::1/64) and its peer `e1`
/// are a veth pair: taking `e1` down takes the carrier of `e0`.
pub(super) fn in_netns<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        ip("link set lo up");
        ip("link add e0 type veth peer name e1");
        ip("addr add 10.0.0.1/24 dev e0");
        ip("-6 addr add fd00::1/64 dev e0 nodad");
        ip("link set e0 up");
        ip("link set e1 up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), body())
                .await
                .expect("test timed out")
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the namespace of this thread.
#[track_caller]
pub(super) fn ip(args: &str) -> String {
    let output = Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .expect("ip runs");
    assert!(
        output.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) fn ifindex(name: &str) -> u32 {
    let line = ip(&format!("-o link show {name}"));
    line.split(':')
        .next()
        .and_then(|index| index.trim().parse().ok())
        .expect("ip prints the index first")
}

fn options(sources: &[Source]) -> FibOptions {
    FibOptions {
        audit_interval: Duration::from_secs(300),
        sources: sources.to_vec(),
        ..FibOptions::default()
    }
}

pub(super) async fn start(sources: &[Source]) -> (FibHandle, FibEvents) {
    Fib::start(options(sources)).await.expect("starts")
}

pub(super) async fn want(fib: &FibHandle, source: Source, routes: &[RouteSpec]) {
    let changes = routes
        .iter()
        .map(|route| RouteChange::want(source, route.clone()))
        .collect();
    let report = fib.apply(changes).await.expect("writer lives");
    assert!(report.is_ok(), "{report:?}");
}

#[track_caller]
pub(super) fn eventually(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        for _ in 0..250 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never came true: {caller}");
    }
}

pub(super) fn shows(args: &str, text: &str) -> bool {
    ip(args).contains(text)
}

#[test]
fn adoption_writes_nothing_and_sweeps_when_all_finished() {
    in_netns(|| async {
        let e0 = ifindex("e0");
        let hop = |gateway: &str| NextHop {
            gateway: gateway.parse().unwrap(),
            ifindex: Some(e0),
            weight: 1,
        };
        let kept = [
            device("10.244.0.5/32", e0),
            device("fd00:244::5/128", e0),
            unreachable("10.244.0.0/26"),
            unreachable("fd00:244::/122"),
            RouteSpec {
                prefsrc: Some("10.0.0.1".parse().unwrap()),
                ..via("10.244.1.0/26", "10.0.0.2", None, 20)
            },
            via("fd00:244:1::/64", "fd00::2", Some(e0), 20),
            via("10.244.3.0/26", "fe80::2", Some(e0), 20),
            RouteSpec {
                kind: RouteKind::Via(smallvec![hop("10.0.0.2"), hop("10.0.0.3")]),
                ..via("10.244.4.0/26", "10.0.0.2", None, 20)
            },
            RouteSpec {
                kind: RouteKind::Via(smallvec![hop("fd00::3"), hop("fd00::2")]),
                ..via("fd00:244:4::/64", "fd00::2", None, 20)
            },
        ];
        let gone = [
            via("10.244.2.0/26", "10.0.0.3", None, 20),
            via("fd00:244:2::/64", "fd00::3", None, 20),
        ];
        let (fib, _events) = start(&Source::ALL).await;
        want(&fib, Source::Bgp, &kept).await;
        want(&fib, Source::Bgp, &gone).await;
        drop(fib);

        // Everything that happens to routes from here on, our own writes included (no port is 0 but the kernel's).
        let socket = monitor::open().unwrap();
        let (tx, mut seen) = tokio::sync::mpsc::channel(1024);
        let watcher = tokio::spawn(monitor::run(socket, std::sync::Arc::default(), tx));
        let before = ip("route show proto 82") + &ip("-6 route show proto 82");
        assert_eq!(
            before
                .lines()
                .filter(|line| !line.starts_with('\t'))
                .count(),
            kept.len() + gone.len(),
            "{before}"
        );

        let (fib, _events) = start(&[Source::Pod, Source::Bgp]).await;
        assert!(
            fib.dump()
                .await
                .unwrap()
                .iter()
                .all(|route| route.state == RouteState::Stale)
        );
        want(&fib, Source::Bgp, &kept).await;
        fib.finish_adoption(Source::Bgp).await.unwrap();
        fib.audit().await.unwrap();
        assert_eq!(
            ip("route show proto 82") + &ip("-6 route show proto 82"),
            before
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        let touched = seen.try_recv();
        assert!(touched.is_err(), "adoption and audit wrote: {touched:?}");

        fib.finish_adoption(Source::Pod).await.unwrap();
        let sweep = tokio::time::timeout(Duration::from_secs(5), seen.recv()).await;
        assert!(
            sweep.is_ok(),
            "the watcher sees writes, so its silence before meant something"
        );
        assert!(
            !shows("route show proto 82", "10.244.2.0/26")
                && !shows("-6 route show proto 82", "fd00:244:2::")
        );
        let after = fib.dump().await.unwrap();
        assert_eq!(after.len(), kept.len());
        assert!(
            after
                .iter()
                .all(|route| route.state == RouteState::Installed),
            "{after:?}"
        );
        watcher.abort();
    });
}

#[test]
fn a_deleted_route_comes_back() {
    in_netns(|| async {
        let (fib, _events) = start(&[]).await;
        want(
            &fib,
            Source::Bgp,
            &[
                via("10.244.1.0/26", "10.0.0.2", None, 20),
                unreachable("fd00:244::/122"),
            ],
        )
        .await;
        ip("route del 10.244.1.0/26");
        ip("-6 route del unreachable fd00:244::/122 dev lo metric 4294967295");
        eventually(|| shows("route show proto 82", "10.244.1.0/26")).await;
        eventually(|| shows("-6 route show proto 82", "fd00:244::/122")).await;
        ip("route add 10.99.0.0/16 via 10.0.0.2 proto 82");
        eventually(|| !shows("route show", "10.99.0.0/16")).await;
    });
}

#[test]
fn an_unknown_route_of_ours_is_taken_over() {
    in_netns(|| async {
        let (fib, _events) = start(&[]).await;
        for (family, prefix, other, gateway) in [
            ("-4", "10.244.1.0/26", "10.0.0.9", "10.0.0.2"),
            ("-6", "fd00:244:1::/64", "fd00::9", "fd00::2"),
        ] {
            // No turn of the runtime lies between the two, so the writer cannot have heard of it.
            ip(&format!(
                "{family} route add {prefix} via {other} proto 82 metric 20"
            ));
            want(&fib, Source::Bgp, &[via(prefix, gateway, None, 20)]).await;
            let shown = ip(&format!("{family} route show proto 82"));
            assert!(shown.contains(gateway) && !shown.contains(other), "{shown}");
        }
    });
}

async fn check_foreign_is_untouched(
    family: &str,
    prefix: &str,
    foreign_gateway: &str,
    our_gateway: &str,
    third_gateway: &str,
) {
    let (fib, _events) = start(&[]).await;
    ip(&format!(
        "{family} route add {prefix} via {foreign_gateway} proto static metric 20"
    ));
    let report = fib
        .apply(vec![RouteChange::want(
            Source::Bgp,
            via(prefix, our_gateway, None, 20),
        )])
        .await
        .unwrap();
    assert_eq!(report.failed.len(), 1);
    assert!(
        report.failed[0].reason.contains("protocol 4 (static)"),
        "{report:?}"
    );
    fib.audit().await.unwrap();
    assert!(shows(
        &format!("{family} route show proto static"),
        foreign_gateway
    ));
    assert!(!shows(&format!("{family} route show"), our_gateway));
    ip(&format!(
        "{family} route del {prefix} proto static metric 20"
    ));
    eventually(|| shows(&format!("{family} route show proto 82"), our_gateway)).await;

    // Somebody takes the place of ours; we know, wait, and come back.
    ip(&format!(
        "{family} route replace {prefix} via {foreign_gateway} proto static metric 20"
    ));
    tokio::time::sleep(Duration::from_millis(400)).await;
    let state = fib.dump().await.unwrap().remove(0).state;
    assert!(matches!(state, RouteState::Failed(_)), "{state:?}");
    ip(&format!(
        "{family} route del {prefix} proto static metric 20"
    ));
    eventually(|| shows(&format!("{family} route show proto 82"), our_gateway)).await;

    // Somebody takes the place of ours, and keeps it.
    ip(&format!(
        "{family} route replace {prefix} via {foreign_gateway} proto static metric 20"
    ));
    // Heard of, but not yet audited: even now the shadow's belief must not overwrite it.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let again = RouteSpec {
        prefsrc: None,
        ..via(prefix, third_gateway, None, 20)
    };
    let report = fib
        .apply(vec![RouteChange::want(Source::Bgp, again)])
        .await
        .unwrap();
    assert!(!report.is_ok(), "{report:?}");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(shows(
        &format!("{family} route show proto static"),
        foreign_gateway
    ));
    let state = fib.dump().await.unwrap().remove(0).state;
    assert!(
        matches!(&state, RouteState::Failed(reason) if reason.contains("static")),
        "{state:?}"
    );
    let withdrawn = fib
        .apply(vec![RouteChange::withdraw(
            Source::Bgp,
            prefix.parse().unwrap(),
        )])
        .await
        .unwrap();
    assert!(withdrawn.is_ok(), "{withdrawn:?}");
    assert!(shows(
        &format!("{family} route show proto static"),
        foreign_gateway
    ));
}

#[test]
fn foreign_ipv4_route_is_never_touched() {
    in_netns(|| {
        check_foreign_is_untouched("-4", "10.244.1.0/26", "10.0.0.9", "10.0.0.2", "10.0.0.3")
    });
}

#[test]
fn foreign_ipv6_route_is_never_touched() {
    in_netns(|| {
        check_foreign_is_untouched("-6", "fd00:244:1::/64", "fd00::9", "fd00::2", "fd00::3")
    });
}

#[test]
fn refusals_carry_the_kernels_words() {
    in_netns(|| async {
        let (fib, _events) = start(&[]).await;
        let good = via("10.244.2.0/26", "10.0.0.2", None, 20);
        let report = fib
            .apply(vec![
                RouteChange::want(Source::Bgp, via("10.244.1.0/26", "192.0.2.1", None, 20)),
                RouteChange::want(Source::Bgp, good),
                RouteChange::want(Source::Pod, device("10.244.3.1/32", 4095)),
            ])
            .await
            .unwrap();
        assert_eq!((report.written, report.failed.len()), (1, 2), "{report:?}");
        assert!(
            report.failed[0].reason.contains("invalid gateway"),
            "{report:?}"
        );
        assert!(
            shows("route show proto 82", "10.244.2.0/26"),
            "one refusal does not spoil the batch"
        );
    });
}

#[test]
fn routes_change_in_place() {
    in_netns(|| async {
        let e0 = ifindex("e0");
        let (fib, _events) = start(&[]).await;
        let hop = |gateway: &str| NextHop {
            gateway: gateway.parse().unwrap(),
            ifindex: Some(e0),
            weight: 1,
        };
        for (prefix, a, b) in [
            ("10.244.1.0/26", "10.0.0.2", "10.0.0.3"),
            ("fd00:244:1::/64", "fd00::2", "fd00::3"),
        ] {
            let plain = via(prefix, a, Some(e0), 20);
            let multi = RouteSpec {
                kind: RouteKind::Via(smallvec![hop(a), hop(b)]),
                ..plain.clone()
            };
            let direct = RouteSpec {
                kind: RouteKind::Device { ifindex: e0 },
                ..plain.clone()
            };
            let reject = RouteSpec {
                kind: RouteKind::Unreachable,
                ..plain.clone()
            };
            for spec in [
                &plain, &multi, &plain, &direct, &multi, &reject, &direct, &reject, &plain,
            ] {
                want(&fib, Source::Bgp, std::slice::from_ref(spec)).await;
                let found = crate::netlink::Netlink::open(254, 82)
                    .unwrap()
                    .dump_routes(82)
                    .await
                    .unwrap();
                let [one] = found.as_slice() else {
                    panic!("{spec:?} left {found:?}")
                };
                let crate::plan::Believed::Exact(kernel) = one.believed() else {
                    panic!("{one:?}")
                };
                match kernel.way {
                    Way::Plain(kind) => {
                        assert!(spec.kind.satisfied_by(&kind), "{spec:?} became {kind:?}")
                    }
                    Way::Group(_) => assert_eq!(*spec, multi),
                }
            }
            fib.apply(vec![RouteChange::withdraw(
                Source::Bgp,
                prefix.parse().unwrap(),
            )])
            .await
            .unwrap();
        }
        assert_eq!(
            ip("route show proto 82") + &ip("-6 route show proto 82"),
            ""
        );
    });
}

#[test]
fn ten_thousand_routes_go_in_and_out() {
    in_netns(|| async {
        let (fib, _events) = start(&[]).await;
        let prefix = |i: u32| format!("10.{}.{}.{}/32", 100 + (i >> 16), (i >> 8) & 255, i & 255);
        let routes: Vec<_> = (0..10_000)
            .map(|i| via(&prefix(i), "10.0.0.2", None, 20))
            .collect();
        let changes = routes
            .iter()
            .map(|route| RouteChange::want(Source::Bgp, route.clone()))
            .collect();
        let report = fib.apply(changes).await.unwrap();
        assert_eq!((report.written, report.failed.len()), (10_000, 0));
        assert_eq!(ip("route show proto 82").lines().count(), 10_000);
        fib.audit().await.unwrap();
        let withdraws = routes
            .iter()
            .map(|route| RouteChange::withdraw(Source::Bgp, route.prefix))
            .collect();
        fib.apply_and_forget(withdraws).await.unwrap();
        assert_eq!(
            fib.dump().await.unwrap(),
            vec![],
            "commands are served in order"
        );
        assert_eq!(ip("route show proto 82"), "");
    });
}
