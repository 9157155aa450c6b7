//! What became of a detector: its result, or what went wrong, in the words of its author's own code.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::hand_over::{Data, RESULT};
use super::parameters::{Params, Task};
use super::source::{line_to_add, original};
use crate::exchange::{self, Frame};
use crate::running::PACKAGE;
use contract::artifact::Shown;
use contract::{Outputs, Trouble, TroubleKind};

/// What the worker wrote about its failure.
#[derive(Debug, Deserialize)]
struct Failure {
    /// What was done: `fit`, `decision_function`, `import`.
    step: String,
    /// The type of the exception; nothing if it is none.
    r#type: Option<String>,
    message: String,
    hint: Option<String>,
    file: Option<String>,
    line: Option<usize>,
}

/// The failure as its author would tell it, if the worker could say anything.
pub(super) fn explain(params: &Params, folder: &Path, trouble: Trouble) -> Trouble {
    if trouble.kind() == TroubleKind::Interrupted {
        return trouble;
    }
    let text = std::fs::read_to_string(folder.join(PACKAGE).join("failure.json"));
    let failure = text
        .ok()
        .and_then(|text| serde_json::from_str::<Failure>(&text).ok());
    let Some(failure) = failure else {
        let message = format!(
            "the detector `{}` ended without a result",
            Shown(&params.detector)
        );
        let mut causes = vec![trouble.message().to_owned()];
        causes.extend(trouble.causes().iter().cloned());
        return Trouble::new(message)
            .with_causes(causes)
            .maybe_hint(trouble.hint_text().map(str::to_owned));
    };
    let detector = Shown(&params.detector);
    let message = match (&failure.r#type, failure.step.as_str()) {
        (None, "import" | "create" | "save") => format!("`{detector}`: {}", failure.message),
        (None, _) => format!("`{detector}`: {}", failure.message),
        (Some(kind), "import") => {
            format!(
                "`{detector}` cannot be imported: {kind}: {}",
                failure.message
            )
        }
        (Some(kind), "create") => {
            format!("`{detector}` cannot be made: {kind}: {}", failure.message)
        }
        (Some(kind), step) => {
            format!(
                "`{step}` of `{detector}` raised {kind}: {}",
                failure.message
            )
        }
    };
    let mut told = Trouble::new(message);
    if let Some(file) = &failure.file {
        told = told.at(original(params, file), failure.line);
    }
    if failure.r#type.is_some() {
        told = told.with_causes(trouble.causes().to_vec());
    }
    // What a missing module means is said in the light of the files that there are.
    told.maybe_hint(failure.hint)
}

/// Refuses modules that come from elsewhere than the environment and are not declared: what they hold is in no key.
pub(super) fn refuse_undeclared(params: &Params, folder: &Path) -> Result<(), Trouble> {
    let text = std::fs::read_to_string(folder.join(PACKAGE).join("imported.json"));
    let unsaid = || {
        let message = format!(
            "the detector `{}` ended before it was done",
            Shown(&params.detector)
        );
        Trouble::new(message).hint("does it call `exit`?")
    };
    let imported: BTreeMap<String, String> = text
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .ok_or_else(unsaid)?;
    let Some((module, path)) = imported.first_key_value() else {
        return Ok(());
    };
    let message = format!(
        "`{}` imported the module `{}` from {}, which is not declared: what it holds is in no key",
        Shown(&params.detector),
        Shown(module),
        Shown(path)
    );
    let others = match imported.len() {
        1 => String::new(),
        count => format!("; {} more modules are not declared either", count - 1),
    };
    let hint = format!("{}{others}", line_to_add(params, Path::new(path)));
    Err(Trouble::new(message).hint(hint))
}

/// The result as an artifact.
pub(super) fn collect(params: &Params, data: &Data, folder: &Path) -> Result<Outputs, Trouble> {
    let mut frame = Frame::read(&folder.join(RESULT), Path::new(RESULT))?;
    frame.path = params.detector.clone().into();
    match (params.task, &data.windows) {
        (Task::Forecast, Some(windows)) => {
            let found = exchange::forecasts(&frame, data.name, windows, &data.splits())?;
            Ok(Outputs::one("forecasts", found))
        }
        (Task::Classify, _) => {
            let found = exchange::predictions(&frame, &data.expected())?;
            Ok(Outputs::one("predictions", found))
        }
        // Turned round by the worker, so that messages show what is kept.
        _ => {
            let found = exchange::scores(&frame, &data.expected(), 1.0)?;
            Ok(Outputs::one("scores", found))
        }
    }
}
