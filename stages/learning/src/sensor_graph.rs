//! The stage kind `sensor-graph`: which channels inform which others, as a trained model has learned it.
//! The graph is a table; `render-plots` draws it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::{self, DataShape};
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
        let windows = "windows of the series that it was trained on, for the names";
        vec![
            Port::new("model", ArtifactKind::Model, "a trained model"),
            Port::new("windows", ArtifactKind::Windows, windows),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let graph = "a row per edge: from, to, weight";
        vec![Port::new("graph", ArtifactKind::Table, graph)]
    }

    fn run(_: &Params, inputs: &Inputs, _: &StageContext<'_>) -> Result<Outputs, Trouble> {
        let model = inputs.get::<Model>("model")?;
        let windows = inputs.get::<Windows>("windows")?;
        let channels = &windows.series.channels;
        let device = numerics::device(contract::Device::Cpu)?;
        let loaded = models::load(&model, &device, |shape| check_shape(shape, &windows))?;
        let Some(edges) = loaded.network.graph()? else {
            let kind = model.config["kind"].as_str().unwrap_or("this model");
            return Err(Trouble::new(format!("{kind} learns no graph of channels"))
                .hint("train a model that does, such as gdn"));
        };
        let (mut from, mut to, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for edge in edges {
            from.push(channels[edge.from].clone());
            to.push(channels[edge.to].clone());
            weights.push(edge.weight);
        }
        let columns = vec![
            ("from", from.into()),
            ("to", to.into()),
            ("weight", weights.into()),
        ];
        Ok(Outputs::one("graph", Table::new(columns)?))
    }
}

/// Nothing is computed here, so the windows need not be those of the training; a graph as large as theirs can be made.
fn check_shape(shape: DataShape, windows: &Windows) -> Result<(), Trouble> {
    let length = shape.length.saturating_add(shape.horizon);
    let (rows, channels) = (windows.series.rows(), windows.series.width());
    if shape.channels == channels && length <= rows {
        return Ok(());
    }
    let message = format!(
        "the model was trained on windows of {length} rows and {} channels, these are of {rows} rows and {channels}",
        shape.channels
    );
    Err(Trouble::new(message).hint("connect the windows of the training"))
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
