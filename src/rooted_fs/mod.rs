//! paths that cannot leave a root.
