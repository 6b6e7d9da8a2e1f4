//! The node daemon: starts the parts and carries messages between them.
