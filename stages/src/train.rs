//! The stage kind `train`: a model fitted to the training windows, chosen by the validation windows.
//! The work is done in `training`; scoring new data is another stage's.

use crate::artifact::{ArtifactKind, Split, Windows};
use crate::contract::{Inputs, Learning, Numerics, Outputs, Port, Purpose, Stage, StageContext, StageError, Threads};
use crate::training::{Recipe, train};

/// See the module.
#[derive(Debug)]
pub struct Train;

impl Stage for Train {
    type Params = Recipe;

    const NAME: &'static str = "train";
    const VERSION: u32 = 1;
    const DOC: &'static str = "Trains a model on the windows of the split `train`, watching the split `validation`";
    const NUMERICS: Numerics = Numerics::Device;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = true;

    fn inputs(_: &Recipe) -> Vec<Port> {
        vec![Port::new("windows", ArtifactKind::Windows, "windows with the split `train`, and `validation` if watched")]
    }

    fn outputs(_: &Recipe) -> Vec<Port> {
        vec![
            Port::new("model", ArtifactKind::Model, "the weights of the chosen epoch"),
            Port::new("log", ArtifactKind::Table, "losses and learning rate of every epoch"),
        ]
    }

    fn check(params: &Recipe) -> Result<(), (String, String)> {
        params.check()
    }

    fn learns(params: &Recipe) -> Vec<Learning> {
        let learning = |what, purpose, from, parameter| Learning {
            what,
            purpose,
            from: vec![from],
            labels: false,
            oracle: false,
            parameter,
        };
        let mut learned = vec![learning("weights", Purpose::Fit, Split::Train, "model")];
        let watched = params.needs_validation().is_some();
        learned.extend(watched.then(|| learning("choice of the epoch", Purpose::Select, Split::Validation, "keep")));
        learned
    }

    fn run(params: &Recipe, inputs: &Inputs, context: &StageContext<'_>) -> Result<Outputs, StageError> {
        let windows = inputs.get::<Windows>("windows")?;
        let trained = train(params, &windows, context)?;
        Ok(Outputs::one("model", trained.model).with("log", trained.log))
    }
}
