//! the user's own namespace.
