//! The stage kind `train`: a model fitted to the training windows or images, chosen by the validation ones.
//! The work is done in `training`; scoring new data is another stage's.

use std::sync::Arc;

use crate::training::{Recipe, Samples, train};
use contract::artifact::{ArtifactKind, Images, Split, Windows};
use contract::{
    Fault, FileRequest, Inputs, Learning, Numerics, Outputs, Port, Purpose, Stage, StageContext,
    Threads, Trouble,
};

/// See the module.
#[derive(Debug)]
pub struct Train;

impl Stage for Train {
    type Params = Recipe;

    const NAME: &'static str = "train";
    const VERSION: u32 = 4;
    const DOC: &'static str = "Trains a model on the windows or images of the split `train`, watching the split `validation`";
    const NUMERICS: Numerics = Numerics::Device;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = true;
    const EXAMPLE: &'static str = r#"{"model": {"kind": "tvnet-recon"}}"#;

    fn inputs(params: &Recipe) -> Vec<Port> {
        let (name, kind, doc) = if params.reads_images() {
            (
                "images",
                ArtifactKind::Images,
                "images with the split `train`, and `validation` if watched",
            )
        } else {
            (
                "windows",
                ArtifactKind::Windows,
                "windows with the split `train`, and `validation` if watched",
            )
        };
        vec![Port::new(name, kind, doc)]
    }

    fn outputs(_: &Recipe) -> Vec<Port> {
        let log = "losses and learning rate of every epoch";
        vec![
            Port::new(
                "model",
                ArtifactKind::Model,
                "the weights of the chosen epoch",
            ),
            Port::new("log", ArtifactKind::Table, log),
        ]
    }

    fn check(params: &Recipe) -> Result<(), Fault> {
        params.check()
    }

    fn files(params: &Recipe) -> Vec<FileRequest> {
        params.files()
    }

    fn learns(params: &Recipe) -> Vec<Learning> {
        let mut learned = vec![learning("weights", Purpose::Fit, Split::Train, "model")];
        // The upper level of two tunes how the lower one learns: a choice, as that of hyperparameters is.
        let upper = params.is_bi_level().then_some("controller");
        for what in upper.into_iter().chain(params.chooses()) {
            let on = params.monitor.on;
            learned.push(learning(what, Purpose::Select, on, "monitor.on"));
        }
        learned
    }

    fn cites(params: &Self::Params) -> Vec<(String, &'static str)> {
        let model = &params.model;
        vec![(model.name().to_owned(), model.citation())]
    }

    fn run(
        params: &Recipe,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let samples: Arc<dyn Samples> = if params.reads_images() {
            inputs.get::<Images>("images")?
        } else {
            inputs.get::<Windows>("windows")?
        };
        let trained = train(params, &*samples, context)?;
        Ok(Outputs::one("model", trained.model).with("log", trained.log))
    }
}

fn learning(
    what: &'static str,
    purpose: Purpose,
    from: Split,
    parameter: &'static str,
) -> Learning {
    Learning {
        what,
        purpose,
        from: vec![from],
        labels: false,
        oracle: false,
        parameter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::StageKind;
    use serde_json::json;

    #[test]
    fn parameters_are_completed_and_described() {
        let kind = StageKind::of::<Train>();
        let given =
            json!({"model": {"kind": "tvnet-recon"}, "optimizer": {"kind": "adam", "lr": 1e-4}});
        let configured = kind.parse(given).unwrap();
        let complete = configured.parameters();
        assert_eq!(complete["epochs"], 10);
        assert_eq!(
            complete["model"],
            json!({"kind": "tvnet-recon", "patch": 8, "blocks": 3, "cm": null})
        );
        assert_eq!(complete["optimizer"]["lr"], 1e-4);
        assert_eq!(complete["schedule"], json!({"kind": "constant"}));
        assert!(configured.check().is_ok());
        assert!(kind.parse(json!({})).unwrap_err().contains("model"));
        let schema = serde_json::to_value(kind.schema()).unwrap();
        assert_eq!(schema["properties"]["epochs"]["minimum"], 1);
        assert_eq!(
            schema["properties"]["model"]["oneOf"][0]["properties"]["patch"]["maximum"],
            4096
        );
        assert_eq!(schema["required"], json!(["model"]));
    }

    #[test]
    fn what_is_learned_is_declared() {
        let splits = |changes| -> Vec<Split> {
            let recipe = crate::training::tests::recipe(changes);
            Train::learns(&recipe)
                .into_iter()
                .flat_map(|learning| learning.from)
                .collect()
        };
        assert_eq!(splits(json!({})), [Split::Train, Split::Validation]);
        assert_eq!(splits(json!({"keep": "last"})), [Split::Train]);
        let two_levels = json!({"model": {"kind": "dynonet"}, "keep": "last"});
        assert_eq!(
            splits(two_levels.clone()),
            [Split::Train, Split::Validation]
        );
        let mut on_test = two_levels;
        on_test["monitor"] = json!({"on": "test"});
        assert_eq!(splits(on_test), [Split::Train, Split::Test]);
    }
}
