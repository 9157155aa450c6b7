//! The stage kind `impute`: values of complete windows are hidden, and a trained model fills them in.
//! Only what was hidden is marked to be judged, which `evaluate` does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::Task;
use crate::training::{Inference, Masking, check_splits, push_origin};
use contract::artifact::{ArtifactKind, Forecasts, Model, Split, Windows};
use contract::{Fault, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};

/// See the module.
#[derive(Debug)]
pub struct Impute;

/// Which values count in metrics of an imputation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// Those that were hidden.
    #[default]
    Hidden,
    /// All, whether hidden or seen.
    All,
}

contract::parameters! {
    /// Parameters of `impute`.
    pub struct Params {
        /// The chance of every single value to be hidden.
        #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
        pub ratio: f64 = Masking::default().ratio,
        /// Which values count. Some published results count those that could be seen, too.
        pub judged: Judged = Judged::Hidden,
        /// The splits whose windows are worked on.
        #[schemars(length(min = 1))]
        pub splits: Vec<Split> = vec![Split::Test],
        /// Windows that are worked on together.
        #[schemars(range(min = 1))]
        pub batch: usize = 128,
    }
}

impl Stage for Impute {
    type Params = Params;

    const NAME: &'static str = "impute";
    // 2: the times of the rows.
    const VERSION: u32 = 2;
    const DOC: &'static str =
        "Hides values of windows at random, and fills them in by a trained model";
    const NUMERICS: Numerics = Numerics::Device;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = true;

    fn inputs(_: &Params) -> Vec<Port> {
        let windows = "windows of the length of the training";
        vec![
            Port::new(
                "model",
                ArtifactKind::Model,
                "a model that was trained to impute",
            ),
            Port::new("windows", ArtifactKind::Windows, windows),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let filled = "filled-in windows beside the complete ones";
        vec![Port::new("forecasts", ArtifactKind::Forecasts, filled)]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        check_splits(&params.splits)
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let windows = inputs.get::<Windows>("windows")?;
        let model = inputs.get::<Model>("model")?;
        let inference = Inference::new(&model, Task::Impute, &*windows, context)?;
        let mut filled = Forecasts {
            channels: windows.series.channels.clone(),
            horizon: windows.spec.length,
            ..Forecasts::default()
        };
        let ratio = params.ratio;
        // One generator for all batches: their size decides nothing.
        let mut random = context.random("mask");
        let hide = |batch| Masking { ratio }.hide(batch, &mut random);
        let selection = (params.splits.as_slice(), params.batch);
        inference.run(selection, Task::Impute, hide, |answer| {
            for start in answer.samples {
                push_origin(&mut filled, &windows, answer.split, *start);
                filled.actual.extend_from_slice(windows.input(*start));
            }
            filled.predicted.extend_from_slice(&answer.output);
            if params.judged == Judged::All {
                return Ok(());
            }
            let Some(mask) = &answer.batch.mask else {
                return Err(Trouble::new("nothing was hidden"));
            };
            for seen in mask.flatten_all()?.to_vec1::<f32>()? {
                filled.judged.push(u8::from(seen == 0.0));
            }
            Ok(())
        })?;
        filled.validate().map_err(Trouble::new)?;
        Ok(Outputs::one("forecasts", filled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::tests::{recipe, waves};
    use crate::training::train;
    use contract::NullHost;
    use contract::artifact::Artifact;
    use serde_json::json;
    use std::sync::Arc;

    fn filled(params: &Params, model: &Model, windows: &Windows, seed: u64) -> Arc<Forecasts> {
        let mut inputs = Inputs::default();
        inputs.add("model", "model", model.clone().into());
        inputs.add("windows", "windows", windows.clone().into());
        let outputs = Impute::run(params, &inputs, &NullHost::default().context(seed))
            .unwrap()
            .into_map();
        let Artifact::Forecasts(filled) = &outputs["forecasts"] else {
            panic!("not forecasts")
        };
        Arc::clone(filled)
    }

    #[test]
    fn hidden_values_are_judged_and_the_seed_decides_which() {
        let windows = waves(12, 1, [90, 40, 30]);
        let changes = json!({
            "model": {"kind": "tvnet", "patch": 4, "blocks": 1, "cm": 8}, "task": "impute", "mask": {"ratio": 0.4}, "epochs": 2,
        });
        let model = train(&recipe(changes), &windows, &NullHost::default().context(3))
            .unwrap()
            .model;
        let params = Params {
            ratio: 0.4,
            ..Params::default()
        };
        let found = filled(&params, &model, &windows, 1);
        let hidden = found.judged.iter().filter(|judged| **judged == 1).count() as f64
            / found.judged.len() as f64;
        assert!((hidden - 0.4).abs() < 0.06, "{hidden}");
        assert_eq!(found.horizon, 12);
        assert_eq!(
            found.actual[..36],
            *windows.input(windows.starts(Split::Test)[0])
        );
        // What can be seen is handed on as it is.
        let seen = found
            .judged
            .iter()
            .zip(found.predicted.iter().zip(&found.actual))
            .filter(|(judged, _)| **judged == 0);
        assert!(
            seen.into_iter()
                .all(|(_, (predicted, actual))| (predicted - actual).abs() < 1e-6)
        );
        assert_eq!(
            found.digest(),
            filled(
                &Params {
                    batch: 5,
                    ..params.clone()
                },
                &model,
                &windows,
                1
            )
            .digest()
        );
        let all = filled(
            &Params {
                judged: Judged::All,
                ..params.clone()
            },
            &model,
            &windows,
            1,
        );
        assert!(all.judged.is_empty() && all.predicted == found.predicted);
        assert_ne!(found.judged, filled(&params, &model, &windows, 2).judged);
    }
}
