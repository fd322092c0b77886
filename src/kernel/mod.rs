//! system calls that rustix and nix do not have.
