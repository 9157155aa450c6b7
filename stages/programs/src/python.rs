//! The stage kind `python`: a detector in Python, such as one of PyOD, scikit-learn or the user's own file, beside the models
//! of this program. It is fitted on the rows that are declared, and only then is it given those that it scores, without
//! their labels. Which interpreter it runs in is decided in `environment`, what it is given in `hand_over`.

mod environment;
mod hand_over;
mod outcome;
mod parameters;
mod probe;
mod source;
mod venv;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::running::{self, Call, Checkpoints};
use contract::artifact::ArtifactKind;
use contract::{
    Fault, FileRequest, Inputs, Learning, LookUp, Numerics, Outputs, Port, Purpose, Stage,
    StageContext, Threads, Trouble,
};
use parameters::Task;

pub use parameters::Params;

/// The stage kind.
pub struct Python;

impl Stage for Python {
    type Params = Params;

    const NAME: &'static str = "python";
    const VERSION: u32 = 1;
    const DOC: &'static str =
        "Fits a detector in Python on the training rows and lets it score the others.";
    const NUMERICS: Numerics = Numerics::Device;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = true;
    const PORTS_VARY: bool = true;
    const EXAMPLE: &'static str = r#"{"detector": "pyod.models.ecod:ECOD"}"#;

    fn inputs(_: &Params) -> Vec<Port> {
        let series = "the rows that are learned from and scored";
        let windows = "windows of such rows, for detectors that take windows";
        vec![
            Port::new("series", ArtifactKind::Series, series).optional(),
            Port::new("windows", ArtifactKind::Windows, windows).optional(),
        ]
    }

    fn outputs(params: &Params) -> Vec<Port> {
        vec![match params.task {
            Task::Detect => Port::new("scores", ArtifactKind::Scores, "a score per row"),
            Task::Forecast => Port::new(
                "forecasts",
                ArtifactKind::Forecasts,
                "what follows each window",
            ),
            Task::Classify => Port::new(
                "predictions",
                ArtifactKind::Predictions,
                "a probability per sample and class",
            ),
        }]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        parameters::check(params)
    }

    fn check_inputs(params: &Params, connected: &[&str]) -> Result<(), Fault> {
        parameters::check_inputs(params, connected)
    }

    fn files(params: &Params) -> Vec<FileRequest> {
        source::files(params)
    }

    fn advice(params: &Params, said: &str, look_up: LookUp<'_>) -> Option<String> {
        source::advice(params, said, look_up)
    }

    fn packages(params: &Params, look_up: LookUp<'_>) -> Result<BTreeMap<String, String>, Trouble> {
        environment::packages(params, look_up)
    }

    fn leave_out_of_key(parameters: &mut Value) {
        parameters::leave_out_of_key(parameters);
    }

    fn learns(params: &Params) -> Vec<Learning> {
        if params.fit.is_empty() {
            return Vec::new();
        }
        vec![Learning {
            what: "weights",
            purpose: Purpose::Fit,
            from: params.fit.clone(),
            labels: params.labels,
            oracle: false,
            parameter: "fit",
        }]
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let folder = context.host.scratch()?;
        let start = environment::start(params, folder, context)?;
        let data = hand_over::Data::of(params, inputs)?;
        let paths = source::lay_out(params, folder, context)?;
        let imports = source::imports(params, folder, &paths)?;
        running::lay_out_package(folder)?;
        hand_over::write_job(params, &data, paths, folder, context)?;
        let mut arguments = start.arguments;
        arguments.extend(["-u", "-B", "-m", "runner._worker"].map(str::to_owned));
        let call = Call {
            arguments: &arguments,
            variables: &start.variables,
            folder,
            is_answered: true,
            saves: params.checkpoints,
            clears: start.clears.as_deref(),
            imports: start.may_wait.then_some(&imports),
        };
        let work = |kept: &mut Checkpoints| {
            let ended = running::run_to_end(call, context, &mut |report| {
                kept.on_report(report, context)?;
                if report.contains_key("fitted") {
                    return hand_over::rows_to_score(params, &data, folder).map(Some);
                }
                Ok(None)
            });
            if let Err(trouble) = ended {
                return Err(outcome::explain(params, folder, trouble));
            }
            outcome::refuse_undeclared(params, folder)?;
            outcome::collect(params, &data, folder)
        };
        Checkpoints::around(params.checkpoints, folder, params, context, work)
    }
}
