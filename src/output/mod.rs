//! what the user sees: errors, tables, templates, progress.
