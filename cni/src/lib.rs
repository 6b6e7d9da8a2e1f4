//! The CNI plugin: read, reserve, wire, commit; undo on failure.
