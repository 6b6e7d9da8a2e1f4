//! Status and operations, from a node or from anywhere.
