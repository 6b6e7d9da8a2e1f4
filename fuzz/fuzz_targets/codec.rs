//! Raw bytes as a peer could send them: one octet choosing the session, then a stream of messages.
#![no_main]

use bgp_wire::{
    MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, MessageType, Notification, Open, RouteRefresh, frame,
};
use libfuzzer_sys::fuzz_target;
use roadbed_fuzz::{check_update, context};

fuzz_target!(|input: &[u8]| {
    let Some((session, mut stream)) = input.split_first() else {
        return;
    };
    let ctx = context(*session);
    let max_len = if session & 0x80 != 0 {
        MAX_EXTENDED_MESSAGE_LEN
    } else {
        MAX_MESSAGE_LEN
    };
    while let Ok(Some(found)) = frame(stream, max_len) {
        assert_eq!(found.len, found.body.len() + 19);
        message(found.kind, found.body, &ctx);
        stream = &stream[found.len..];
    }
    // Framing rarely survives mutation, so the rest is also read as a bare body.
    check_update(stream, &ctx);
});

fn message(kind: MessageType, body: &[u8], ctx: &bgp_wire::DecodeContext) {
    let mut bytes = Vec::new();
    match kind {
        MessageType::Open => {
            let Ok(open) = Open::decode(body) else { return };
            open.encode(&mut bytes);
            assert_eq!(Open::decode(&bytes[19..]), Ok(open));
        }
        MessageType::Update => check_update(body, ctx),
        MessageType::Notification => {
            let notification = Notification::decode(body);
            let _ = notification.to_string();
            notification.encode(&mut bytes);
            if body.len() <= MAX_MESSAGE_LEN - 19 {
                assert_eq!(Notification::decode(&bytes[19..]), notification);
            }
        }
        MessageType::Keepalive => assert!(body.is_empty()),
        MessageType::RouteRefresh => {
            let Ok(refresh) = RouteRefresh::decode(body) else {
                return;
            };
            refresh.encode(&mut bytes);
            assert_eq!(RouteRefresh::decode(&bytes[19..]), Ok(refresh));
        }
    }
}
