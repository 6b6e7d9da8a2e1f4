//! BGP messages to bytes and back. No I/O, never panics.
