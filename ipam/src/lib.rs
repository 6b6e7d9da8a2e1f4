//! Pure IPAM planner (pools, slots, blocks, addresses) and the node's address ledger.
