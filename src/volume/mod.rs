//! named volumes.
