//! The stage that runs a program of the user.

contract::stage_kinds! {
    pub mod command: Command;
}
