//! Models, their training, and the stages that see models.

pub mod models;
mod schedules;
mod training;

contract::stage_kinds! {
    pub mod train: Train;
    pub mod score: Score;
    pub mod forecast: Forecast;
    pub mod impute: Impute;
    pub mod classify: Classify;
    pub mod sensor_graph: SensorGraph;
}
