//! The engine and the command line of `runner`: what runs stages, caches their outputs and tells about it.

pub mod data;
