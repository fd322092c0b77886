//! the OCI runtime.
