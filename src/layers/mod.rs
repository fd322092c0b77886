//! the layer store.
