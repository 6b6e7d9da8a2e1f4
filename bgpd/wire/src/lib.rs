//! BGP messages to bytes and back.
//!
//! Owns the wire format: framing (RFC 4271 §4.1), the five message types, capabilities, NLRI of IPv4 and IPv6
//! unicast, and path attributes in one canonical form that a RIB can intern. Decides what a malformed UPDATE
//! means (RFC 7606) but never acts on it. Never does I/O, reads a clock, or panics on what a peer sent: lengths are
//! validated before anything is allocated or iterated.
//!
//! ```text
//! bytes ── frame() ──> Frame ──> Open::decode / decode_update / Notification::decode / RouteRefresh::decode
//!                                      │
//!                                      └─> Update { NLRI slices, PathAttributes, Verdict }
//! PathAttributes + NextHop + [Nlri] ── encode_reach() ──> [EncodedUpdate]
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that meets a broken invariant should stop there"
    )
)]

mod attrs;
pub mod bmp;
mod capability;
mod encode;
mod family;
mod frame;
pub mod mrt;
mod nlri;
mod notification;
mod open;
mod read;
mod refresh;
mod update;

pub use attrs::{
    AsPath, AttributeEditor, Hot, LargeCommunity, NextHop, Origin, PathAttributes, Segment,
    SegmentKind, attr_type, community, flag,
};
pub use capability::{Capability, capability_code};
pub use encode::{
    EncodeContext, EncodeError, EncodedUpdate, encode_end_of_rib, encode_reach, encode_unreach,
    has_room,
};
pub use family::Family;
pub use frame::{
    DecodeError, Frame, HEADER_LEN, MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, MessageType,
    encode_keepalive, frame,
};
pub use nlri::{Nlri, NlriIter, NlriSlice};
pub use notification::{
    Notification, cease, code, fsm_error, header_error, open_error, refresh_error, update_error,
};
pub use open::{AS_TRANS, Open};
pub use refresh::{RouteRefresh, refresh_subtype};
pub use update::{
    AttributeFault, DecodeContext, MAX_FAULTS, MpReach, Treatment, Update, Verdict, decode_update,
};
