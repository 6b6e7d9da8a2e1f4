//! Realises containerlab topologies in network namespaces.
