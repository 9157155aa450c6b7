//! The stage that runs a program of the user.

pub mod command;
