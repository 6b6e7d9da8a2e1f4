//! Sans-IO BGP speaker: events and the time in, actions out. No socket, clock or randomness of its own, so
//! that it can be replayed, simulated and fuzzed.
//!
//! - [`fsm`]: the RFC 4271 state machine of one peer, both connections of a collision included
//! - [`negotiation`]: what two OPENs agree on
//! - [`rib`]: Adj-RIB-In, Loc-RIB, next hops, best path, update groups
//! - [`policy`]: route policies

pub mod fsm;
pub mod negotiation;
pub mod policy;
pub mod rib;
