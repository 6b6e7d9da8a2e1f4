//! The agent's API over its unix socket: blocking, standard library only.
