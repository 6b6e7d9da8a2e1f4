//! Tests of the crate, by topic.

mod codec;
mod groups;
mod netns;
mod plan;
mod shared;
mod tracker;
mod watch;

use crate::route::{RouteKind, RouteSpec};

/// A route with one gateway.
fn via(prefix: &str, gateway: &str, ifindex: Option<u32>, metric: u32) -> RouteSpec {
    let kind = RouteKind::via(gateway.parse().unwrap(), ifindex);
    RouteSpec {
        prefix: prefix.parse().unwrap(),
        kind,
        prefsrc: None,
        metric,
    }
}

/// A route behind an interface.
fn device(prefix: &str, ifindex: u32) -> RouteSpec {
    RouteSpec {
        prefix: prefix.parse().unwrap(),
        kind: RouteKind::Device { ifindex },
        prefsrc: None,
        metric: 0,
    }
}

/// The backing of a block.
fn unreachable(prefix: &str) -> RouteSpec {
    let prefix = prefix.parse().unwrap();
    RouteSpec {
        prefix,
        kind: RouteKind::Unreachable,
        prefsrc: None,
        metric: crate::WORST_METRIC,
    }
}
