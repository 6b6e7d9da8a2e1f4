//! Kernel routes of protocol 82: pure diff, async writer, next-hop tracker.
