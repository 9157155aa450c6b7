//! A program at work: it is started in its folder, what it says is passed on, and with it ends whatever it started. What it
//! is given, and what becomes of what it wrote, is the business of the stages.

mod checkpoints;
mod group;
mod interpreter;
mod job;
mod log;
mod package;
mod process;
mod program;
mod report;
mod warm;
mod watchdog;

pub(crate) use checkpoints::{CHECKPOINTS, Checkpoints};
pub(crate) use interpreter::run_line;
pub(crate) use job::{JOB, Job, hardware_variables};
pub(crate) use package::{PACKAGE, lay_out_package};
pub(crate) use process::{Call, run_to_end};
pub(crate) use warm::Imports;
