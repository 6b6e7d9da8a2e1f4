//! Roadbed as the network of a real Kubernetes. `make test-kube` makes the cluster; the tests share it, one at a time:
//! `install` first, `audit` last (`.config/nextest.toml`).
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "kube/audit.rs"]
mod audit;
#[path = "kube/away.rs"]
mod away;
#[path = "kube/churn.rs"]
mod churn;
#[path = "kube/ctl.rs"]
mod ctl;
#[path = "kube/install.rs"]
mod install;
#[path = "kube/mesh.rs"]
mod mesh;
#[path = "kube/restart.rs"]
mod restart;
#[path = "kube/tors.rs"]
mod tors;
#[path = "kube/traffic.rs"]
mod traffic;
#[path = "kube/wrong.rs"]
mod wrong;
