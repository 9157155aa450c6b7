//! Tests of the program as a whole: each module is a promise of the engine or of the command line, kept by running the
//! real binary in a folder of its own. What one function does is tested beside that function.

mod engine;
mod environment;
mod pipelines;
mod store;
mod toys;

mod audit;
mod audit_targets;
mod bad_input;
mod bundle;
mod captured;
mod changed_files;
mod command_stages;
mod concurrency;
mod crash_safety;
mod damage;
mod determinism;
mod early_cutoff;
mod expansion;
mod export;
mod failures;
mod faulty;
mod folders;
mod hosts;
mod interruption;
mod leakage;
mod lock;
mod mlflow;
mod output;
mod predict;
mod read_only;
mod real_data;
mod remote;
mod remote_repair;
mod resume;
mod s3;
mod shipped;
mod slurm;
mod sweep;
mod tidy;
mod verbs;
mod verify;
