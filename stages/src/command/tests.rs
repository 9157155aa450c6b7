//! The stage kind below the engine.
