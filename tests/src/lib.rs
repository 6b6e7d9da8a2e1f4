//! Whole programs: the demo, interop, failure and CNI tests.
