//! Every event of RFC 4271 §8.1 (and RFC 9687), and what stands for it here. Data, so that a test can hold it
//! against the list of the RFC and a reader can find what is missing.

/// Where an RFC event comes from in this implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The name of the [`super::Input`] variant.
    Input(&'static str),
    /// The [`super::Timer`] that has to be due at [`super::Input::Tick`].
    Timer(super::Timer),
    /// Never happens here, and why not.
    Unused(&'static str),
}

/// One event of the RFC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RfcEvent {
    /// Number in RFC 4271 §8.1; 29 is of RFC 9687.
    pub number: u8,
    /// Name in the RFC.
    pub name: &'static str,
    /// What stands for it.
    pub source: Source,
}

const fn event(number: u8, name: &'static str, source: Source) -> RfcEvent {
    RfcEvent {
        number,
        name,
        source,
    }
}

const PASSIVE: Source = Source::Input("ManualStart");
const DAMPED: Source = Source::Timer(super::Timer::IdleHold);

/// All events in the order of their numbers.
pub const EVENTS: [RfcEvent; 29] = [
    event(1, "ManualStart", Source::Input("ManualStart")),
    event(2, "ManualStop", Source::Input("ManualStop")),
    event(3, "AutomaticStart", DAMPED),
    // Passive is a setting, read when a start happens.
    event(4, "ManualStart_with_PassiveTcpEstablishment", PASSIVE),
    event(5, "AutomaticStart_with_PassiveTcpEstablishment", DAMPED),
    event(6, "AutomaticStart_with_DampPeerOscillations", DAMPED),
    event(
        7,
        "AutomaticStart_with_DampPeerOscillations_and_PassiveTcpEstablishment",
        DAMPED,
    ),
    event(8, "AutomaticStop", Source::Input("AutomaticStop")),
    event(
        9,
        "ConnectRetryTimer_Expires",
        Source::Timer(super::Timer::ConnectRetry),
    ),
    event(10, "HoldTimer_Expires", Source::Timer(super::Timer::Hold)),
    event(
        11,
        "KeepaliveTimer_Expires",
        Source::Timer(super::Timer::Keepalive),
    ),
    event(
        12,
        "DelayOpenTimer_Expires",
        Source::Timer(super::Timer::DelayOpen),
    ),
    event(13, "IdleHoldTimer_Expires", DAMPED),
    event(
        14,
        "TcpConnection_Valid",
        Source::Unused(
            "a SYN is the kernel's affair; the driver hears of complete connections, events 16 and 17",
        ),
    ),
    event(
        15,
        "Tcp_CR_Invalid",
        Source::Unused(
            "the driver closes a connection from an address without a configured peer: it has no FSM",
        ),
    ),
    event(16, "Tcp_CR_Acked", Source::Input("TcpConnected")),
    event(17, "TcpConnectionConfirmed", Source::Input("TcpAccepted")),
    // Before a connection is up TcpFailed stands for it as well.
    event(18, "TcpConnectionFails", Source::Input("TcpClosed")),
    event(19, "BGPOpen", Source::Input("Open")),
    event(
        20,
        "BGPOpen with DelayOpenTimer running",
        Source::Input("Open"),
    ),
    event(21, "BGPHeaderErr", Source::Input("DecodeError")),
    // By the codec as DecodeError, or by negotiation when an Open does not fit the settings.
    event(22, "BGPOpenMsgErr", Source::Input("DecodeError")),
    event(
        23,
        "OpenCollisionDump",
        Source::Unused(
            "both connections live in one Peer, which closes the loser itself, see `collision`",
        ),
    ),
    // There is one version of BGP to speak, so a version error is a failure like any other.
    event(24, "NotifMsgVerErr", Source::Input("Notification")),
    event(25, "NotifMsg", Source::Input("Notification")),
    event(26, "KeepAliveMsg", Source::Input("Keepalive")),
    event(27, "UpdateMsg", Source::Input("Update")),
    event(28, "UpdateMsgErr", Source::Input("DecodeError")),
    event(
        29,
        "SendHoldTimer_Expires",
        Source::Timer(super::Timer::SendHold),
    ),
];
