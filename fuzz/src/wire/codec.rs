//! Raw bytes as a peer could send them: one octet choosing the session, then a stream of messages.

use bgp_wire::{
    DecodeContext, HEADER_LEN, MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, MessageType,
    Notification, Open, RouteRefresh, encode_keepalive, frame,
};

use super::{check_update, context};

/// Bit 7 of the first octet: extended messages.
pub const EXTENDED: u8 = 0x80;

/// Every body of an OPEN is longer.
const SHORT: usize = 10;

/// Runs one input; says whether a path attribute was judged.
pub fn run(input: &[u8]) -> bool {
    let Some((session, mut stream)) = input.split_first() else {
        return false;
    };
    let ctx = context(*session);
    let max_len = if session & EXTENDED != 0 {
        MAX_EXTENDED_MESSAGE_LEN
    } else {
        MAX_MESSAGE_LEN
    };
    let mut reached = false;
    while let Ok(Some(found)) = frame(stream, max_len) {
        assert_eq!(found.len, found.body.len() + 19);
        reached |= message(found.kind, found.body, &ctx);
        stream = &stream[found.len..];
    }
    if stream.len() < SHORT {
        // Framing would not let these through; decoders stand on their own all the same.
        for kind in [
            MessageType::Open,
            MessageType::Notification,
            MessageType::RouteRefresh,
        ] {
            message(kind, stream, &ctx);
        }
    }
    // Framing rarely survives mutation, so the rest is also read as a bare body.
    reached | check_update(stream, &ctx)
}

fn message(kind: MessageType, body: &[u8], ctx: &DecodeContext) -> bool {
    let mut bytes = Vec::new();
    match kind {
        MessageType::Open => drop(check_open(body)),
        MessageType::Update => return check_update(body, ctx),
        MessageType::Notification => {
            let notification = Notification::decode(body);
            let _ = (notification.to_string(), notification.shutdown_message());
            let inside = notification.clone().into_hard_reset();
            assert!(inside.is_hard_reset());
            assert_eq!(inside.encapsulated(), Some(notification.clone()));
            notification.encode(&mut bytes);
            if body.len() <= MAX_MESSAGE_LEN - 19 {
                assert_eq!(Notification::decode(&bytes[19..]), notification);
            }
        }
        MessageType::Keepalive => {
            encode_keepalive(&mut bytes);
            assert!(body.is_empty() && bytes.len() == HEADER_LEN);
        }
        MessageType::RouteRefresh => match RouteRefresh::decode(body) {
            Ok(refresh) => {
                refresh.encode(&mut bytes);
                assert_eq!(RouteRefresh::decode(&bytes[19..]), Ok(refresh));
                let again = refresh
                    .family()
                    .map(|f| RouteRefresh::new(f, refresh.subtype));
                assert!(again.is_none_or(|again| again == refresh));
            }
            Err(error) => assert!(matches!(error.notification.code, 1 | 7)),
        },
    }
    false
}

/// An OPEN reads back as written, and one that is refused is refused with a NOTIFICATION about OPENs.
pub fn check_open(body: &[u8]) -> Option<Open> {
    // Framing lets through no longer one.
    let body = body.get(..MAX_MESSAGE_LEN - HEADER_LEN).unwrap_or(body);
    match Open::decode(body) {
        Ok(open) => {
            let mut bytes = Vec::new();
            open.encode(&mut bytes);
            assert!(bytes.len() <= MAX_MESSAGE_LEN);
            assert_eq!(Open::decode(&bytes[19..]).as_ref(), Ok(&open));
            Some(open)
        }
        Err(error) => {
            assert_eq!(error.notification.code, 2, "{error}");
            None
        }
    }
}
