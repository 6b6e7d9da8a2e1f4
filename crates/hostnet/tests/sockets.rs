//! Socket options on loopback connections: what they let through and what they do not.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use ipnet::IpNet;
use roadbed_hostnet::sockopt::{Family, MD5_KEY_MAX, set_md5};
use socket2::{Domain, Socket, Type};

/// Whether a client with `client_key` gets a byte through to a listener with `server_key` for `peers`.
fn connects(
    listen: &str,
    connect: &str,
    peers: &str,
    server_key: &[u8],
    client_key: &[u8],
) -> bool {
    let listen: SocketAddr = listen.parse().unwrap();
    let family = |a: &SocketAddr| if a.is_ipv4() { Family::V4 } else { Family::V6 };
    let server = Socket::new(Domain::for_address(listen), Type::STREAM, None).unwrap();
    server.bind(&listen.into()).unwrap();
    set_md5(
        server.as_fd(),
        family(&listen),
        peers.parse().unwrap(),
        server_key,
    )
    .unwrap();
    server.listen(1).unwrap();
    let port = server.local_addr().unwrap().as_socket().unwrap().port();

    let target = SocketAddr::new(connect.parse::<IpAddr>().unwrap(), port);
    let client = Socket::new(Domain::for_address(target), Type::STREAM, None).unwrap();
    if !client_key.is_empty() {
        set_md5(
            client.as_fd(),
            family(&target),
            IpNet::from(target.ip()),
            client_key,
        )
        .unwrap();
    }
    if client
        .connect_timeout(&target.into(), Duration::from_millis(300))
        .is_err()
    {
        return false;
    }
    let (mut accepted, _) = server.accept().unwrap();
    let mut client = client;
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    accepted.read_exact(&mut byte).unwrap();
    byte == *b"x"
}

#[test]
fn md5_lets_through_who_has_the_key() {
    assert!(connects(
        "127.0.0.1:0",
        "127.0.0.1",
        "127.0.0.1/32",
        b"secret",
        b"secret"
    ));
    assert!(!connects(
        "127.0.0.1:0",
        "127.0.0.1",
        "127.0.0.1/32",
        b"secret",
        b"other"
    ));
    assert!(!connects(
        "127.0.0.1:0",
        "127.0.0.1",
        "127.0.0.1/32",
        b"secret",
        b""
    ));
}

#[test]
fn md5_holds_for_a_range_and_for_mapped_addresses() {
    assert!(connects(
        "127.0.0.1:0",
        "127.0.0.1",
        "127.0.0.0/8",
        b"secret",
        b"secret"
    ));
    assert!(!connects(
        "127.0.0.1:0",
        "127.0.0.1",
        "127.0.0.0/8",
        b"secret",
        b""
    ));
    assert!(connects(
        "[::]:0",
        "127.0.0.1",
        "127.0.0.0/8",
        b"secret",
        b"secret"
    ));
    assert!(!connects(
        "[::]:0",
        "127.0.0.1",
        "127.0.0.0/8",
        b"secret",
        b""
    ));
    assert!(connects("[::]:0", "::1", "::1/128", b"secret", b"secret"));
    assert!(!connects("[::]:0", "::1", "::1/128", b"secret", b"wrong"));
}

#[test]
fn a_key_that_is_too_long_is_named() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let key = [b'k'; MD5_KEY_MAX + 1];
    let error = set_md5(
        socket.as_fd(),
        Family::V4,
        "192.0.2.1/32".parse().unwrap(),
        &key,
    );
    assert!(error.unwrap_err().to_string().contains("at most 80 bytes"));
}
