//! the union mount.
