//! The stages that run a program of the user, or read what one has computed elsewhere.

mod exchange;
mod running;

contract::stage_kinds! {
    pub mod command: Command;
    pub mod import_scores: ImportScores;
    pub mod python: Python;
}
