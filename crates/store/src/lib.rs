//! Where resources live: one trait, several homes (memory, SQLite).
