//! the OCI distribution API.
