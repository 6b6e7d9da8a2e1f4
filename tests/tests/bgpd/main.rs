//! `roadbed-bgpd` as a whole program: real sockets, a real kernel, real routers, and peers that mean no good.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets a broken invariant should stop there"
)]

mod add_path;
mod as_sets;
mod bird;
mod bmp;
mod both_dial;
mod collector;
mod config;
mod defaults;
mod drain;
mod ecmp;
mod exabgp;
mod extended_next_hop;
mod fixture;
mod frr;
mod gobgp;
mod hostile;
mod ipv6;
mod limits;
mod looking;
mod med;
mod migration;
mod negotiated;
mod next_hop;
mod openbgpd;
mod opens;
mod originate;
mod packets;
mod policy;
mod policy_rules;
mod pressure;
mod recipes;
mod reflector;
mod reload;
mod rewrites;
mod roles;
mod script;
mod sockets;
mod strangers;
mod three;
mod update_faults;
