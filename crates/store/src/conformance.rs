//! One suite for every home.
