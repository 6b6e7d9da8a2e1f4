//! What whole-program tests stand on: namespaces, processes that end with the test, routers of other people.
//!
//! Owns nothing that outlives a test: namespaces, processes and files go when their value is dropped, failed or not.
//! Never touches the machine's own network, and ends only processes that it started, each by its pid.
//!
//! - [`netns`]: namespaces and the links between them
//! - [`process`]: programs inside them, with their logs
//! - [`wait`]: polling with a deadline and a reason
//! - [`kernel`]: what a namespace's routing tables say
//! - [`bgpd`], [`bird`], [`exabgp`], [`frr`], [`gobgp`], [`openbgpd`]: `roadbed-bgpd` and the routers that it talks to
//! - [`cni`]: a container runtime as the specification has it, and the schema of its results
//! - [`mod@kube`]: a Kubernetes cluster that is there, its pods and its ToRs
//! - [`site`], [`pod`], [`probe`]: labs with agents, pods on them, transfers between them
//! - [`mod@bench`], [`monitor`]: labs of tests, and what their nodes' kernels do
//! - [`two_racks`]: what must be true of the lab `two-racks`; the demo tells it

pub mod bench;
pub mod bgpd;
pub mod bird;
pub mod cni;
pub mod exabgp;
pub mod frr;
pub mod gobgp;
pub mod kernel;
pub mod kube;
pub mod monitor;
pub mod netns;
pub mod openbgpd;
pub mod pod;
pub mod probe;
pub mod process;
pub mod site;
pub mod two_racks;
pub mod wait;
