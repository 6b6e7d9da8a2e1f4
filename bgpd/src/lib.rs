//! BGP speaker: sessions, RIB thread, standalone router.
