//! Models, their training, and the stages that see models.

pub mod classify;
pub mod forecast;
pub mod impute;
pub mod models;
mod schedules;
pub mod score;
pub mod sensor_graph;
pub mod train;
mod training;
