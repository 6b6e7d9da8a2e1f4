//! Sans-IO BGP speaker: events and the time in, actions out. No socket, clock or randomness of its own, so
//! that it can be replayed, simulated and fuzzed.
//!
//! - [`fsm`]: the RFC 4271 state machine of one peer, both connections of a collision included
//! - [`negotiation`]: what two OPENs agree on
//! - [`rib`]: Adj-RIB-In, Loc-RIB, next hops, best path, update groups
//! - [`policy`]: route policies
//! - [`max_prefix`]: bounds on what a peer announces, and on what it is announced
//! - [`otc`]: route leaks prevented by roles
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests start from some Instant, and bless recorded cases when asked to"
    )
)]

pub mod fsm;
pub mod max_prefix;
pub mod negotiation;
pub mod otc;
pub mod policy;
pub mod rib;
