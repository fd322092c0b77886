//! Containers.

pub mod request;
