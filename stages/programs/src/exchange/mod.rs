//! Artifacts as files of other programs: what they write is read, held against what was expected, and becomes an artifact;
//! what they are given is written in the form they ask for. Labels and true values come from the artifacts that the rows
//! belong to, and never from a program.

mod classes;
mod csv;
mod cut;
mod detections;
mod folder_of_images;
mod frame;
mod give;
mod npy;
mod numbers;
mod rows;
mod steps;
mod tables;
mod values;

pub(crate) use classes::predictions;
pub(crate) use cut::{strip_labels, without_labels};
pub(crate) use detections::{scores, scores_of_parts};
pub(crate) use folder_of_images::images;
pub(crate) use frame::Frame;
pub(crate) use give::{Format, give};
pub(crate) use npy::{write_rows, write_series};
pub(crate) use rows::Expected;
pub(crate) use steps::forecasts;
pub(crate) use tables::table;
pub(crate) use values::series;
