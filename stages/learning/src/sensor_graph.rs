//! The stage kind `sensor-graph`: which channels inform which others, as a trained model has learned it.
//! The graph is a table; `render-plots` draws it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models;
use contract::artifact::{ArtifactKind, Model, Table, Windows};
use contract::{Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// See the module.
#[derive(Debug)]
pub struct SensorGraph;

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {}

impl Stage for SensorGraph {
    type Params = Params;

    const NAME: &'static str = "sensor-graph";
    const VERSION: u32 = 1;
    const DOC: &'static str =
        "Takes the graph of channels out of a model that has learned one, such as gdn";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::One;
    const SEEDED: bool = false;

    fn inputs(_: &Params) -> Vec<Port> {
        vec![
            Port::new("model", ArtifactKind::Model, "a trained model"),
            Port::new(
                "windows",
                ArtifactKind::Windows,
                "windows of the series that it was trained on, for the names",
            ),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![Port::new(
            "graph",
            ArtifactKind::Table,
            "a row per edge: from, to, weight",
        )]
    }

    fn run(_: &Params, inputs: &Inputs, _: &StageContext<'_>) -> Result<Outputs, Trouble> {
        let (model, windows) = (
            inputs.get::<Model>("model")?,
            inputs.get::<Windows>("windows")?,
        );
        let channels = &windows.series.channels;
        let fits = |shape: models::DataShape| {
            let (length, rows) = (
                shape.length.saturating_add(shape.horizon),
                windows.series.rows(),
            );
            if shape.channels == channels.len() && length <= rows {
                return Ok(());
            }
            let message = format!(
                "the model was trained on windows of {length} rows and {} channels, these are of {rows} rows and {}",
                shape.channels,
                channels.len()
            );
            Err(Trouble::new(message).hint("connect the windows of the training"))
        };
        let loaded = models::load(&model, &numerics::device(contract::Device::Cpu)?, fits)?;
        let edges = loaded.network.graph()?.ok_or_else(|| {
            let kind = model
                .config
                .get("kind")
                .and_then(serde_json::Value::as_str)
                .unwrap_or("this model");
            Trouble::new(format!("{kind} learns no graph of channels"))
                .hint("train a model that does, such as gdn")
        })?;
        let names = |end: fn(&models::Edge) -> usize| -> Vec<String> {
            edges
                .iter()
                .map(|edge| channels[end(edge)].clone())
                .collect()
        };
        let weights: Vec<f64> = edges.iter().map(|edge| edge.weight).collect();
        let columns = vec![
            ("from", names(|edge| edge.from).into()),
            ("to", names(|edge| edge.to).into()),
            ("weight", weights.into()),
        ];
        Ok(Outputs::one("graph", Table::new(columns)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::train;
    use contract::NullHost;
    use serde_json::json;

    fn graph(kind: serde_json::Value) -> Result<Table, Trouble> {
        let values: Vec<f32> = (0..120).map(|index| (index as f32 * 0.7).sin()).collect();
        let windows = contract::testing::training_windows(values, 3, 5);
        let recipe = serde_json::from_value(
            json!({"model": kind, "task": "detect", "epochs": 1, "keep": "last"}),
        )
        .unwrap();
        let model = train(&recipe, &windows, &NullHost::default().context(1))
            .unwrap()
            .model;
        let mut inputs = Inputs::default();
        inputs.add("model", "model", model.into());
        inputs.add("windows", "windows", windows.into());
        let outputs =
            SensorGraph::run(&Params {}, &inputs, &NullHost::default().context(1))?.into_map();
        let contract::artifact::Artifact::Table(table) = &outputs["graph"] else {
            panic!("not a table")
        };
        Ok(table.as_ref().clone())
    }

    #[test]
    fn edges_have_names_and_other_models_are_refused() {
        let table = graph(json!({"kind": "gdn", "embedding": 8, "neighbours": 2})).unwrap();
        assert_eq!(table.rows(), 6);
        let to: Vec<String> = table.texts("to").unwrap().into_iter().flatten().collect();
        assert_eq!(to, ["c0", "c0", "c1", "c1", "c2", "c2"]);
        assert!(
            table
                .reals("weight")
                .unwrap()
                .iter()
                .flatten()
                .all(|weight| weight.abs() <= 1.0 + 1e-6)
        );
        assert!(
            graph(json!({"kind": "naive"}))
                .unwrap_err()
                .message()
                .contains("naive learns no graph")
        );
    }
}
