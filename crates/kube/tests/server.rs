//! The store against a real API server, which `make test-kube` starts: the suite of all homes, and what becomes of
//! watches, writes and tokens when the server goes, forgets, falls silent or refuses.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "server/bed.rs"]
mod bed;
#[path = "server/definitions.rs"]
mod definitions;
#[path = "server/failures.rs"]
mod failures;
#[path = "server/store.rs"]
mod store;
