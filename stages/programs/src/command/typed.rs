//! Outputs that have rows of an input: which input that is, and what becomes of the file.

use super::{CommandParams, InputSpec, OutputKind, OutputSpec};
use crate::exchange::{self, Expected, Frame};
use contract::artifact::{Artifact, Series, Shown, Split};
use contract::{Inputs, Trouble};

/// What a file becomes.
pub(super) fn artifact(
    params: &CommandParams,
    name: &str,
    output: &OutputSpec,
    frame: &Frame,
    inputs: &Inputs,
) -> Result<Artifact, Trouble> {
    if output.kind == OutputKind::Table {
        return Ok(exchange::table(frame)?.into());
    }
    let Some((of, input)) = input_of(name, output, inputs)? else {
        return Ok(exchange::series(frame, None)?.into());
    };
    let given = params.inputs.get(of);
    let splits = splits(output, given);
    if output.kind == OutputKind::Forecasts {
        let Artifact::Windows(windows) = input else {
            return Err(wrong_kind(name, of, input, "Windows"));
        };
        let all = splits.unwrap_or_else(|| Split::ALL.to_vec());
        return Ok(exchange::forecasts(frame, of, windows, &all)?.into());
    }
    let series =
        series_of(input).ok_or_else(|| wrong_kind(name, of, input, "Series or Windows"))?;
    let expected = Expected::of(of, series, splits.as_deref())?;
    Ok(match output.kind {
        OutputKind::Scores => exchange::scores(frame, &expected, 1.0)?.into(),
        OutputKind::Predictions => exchange::predictions(frame, &expected)?.into(),
        _ => exchange::series(frame, Some(&expected))?.into(),
    })
}

/// The splits whose rows the output has: those it names, or those that were handed over.
fn splits(output: &OutputSpec, given: Option<&InputSpec>) -> Option<Vec<Split>> {
    match &output.splits {
        Some(splits) => Some(splits.clone()),
        None => given?.splits.clone(),
    }
}

fn series_of(input: &Artifact) -> Option<&Series> {
    match input {
        Artifact::Series(series) => Some(series),
        Artifact::Windows(windows) => Some(&windows.series),
        _ => None,
    }
}

fn wrong_kind(output: &str, of: &str, input: &Artifact, wanted: &str) -> Trouble {
    let message = format!(
        "the output `{}` has rows of `{}`, which is of kind {}, not {wanted}",
        Shown(output),
        Shown(of),
        input.kind()
    );
    Trouble::new(message).hint("name another input in `of`")
}

/// The input whose rows an output has. A series may have rows of its own.
fn input_of<'a>(
    name: &str,
    output: &'a OutputSpec,
    inputs: &'a Inputs,
) -> Result<Option<(&'a str, &'a Artifact)>, Trouble> {
    let all = inputs.all("inputs");
    if let Some(of) = &output.of {
        let found = all.iter().find(|(known, _)| known == of);
        let (known, artifact) =
            found.ok_or_else(|| Trouble::new(format!("there is no input `{}`", Shown(of))))?;
        return Ok(Some((known, artifact)));
    }
    if output.kind == OutputKind::Series {
        return Ok(None);
    }
    let fits = |artifact: &Artifact| match output.kind {
        OutputKind::Forecasts => matches!(artifact, Artifact::Windows(_)),
        _ => series_of(artifact).is_some(),
    };
    let mut candidates = all.iter().filter(|(_, artifact)| fits(artifact));
    match (candidates.next(), candidates.next()) {
        (Some((known, artifact)), None) => Ok(Some((known, artifact))),
        (None, _) => {
            let message = format!(
                "the output `{}` has rows of an input, and there is none of that kind",
                Shown(name)
            );
            Err(Trouble::new(message).hint("connect the series, or the windows, that it is about"))
        }
        (Some((first, _)), Some((second, _))) => {
            let message = format!(
                "the output `{}` may have the rows of `{}` or of `{}`",
                Shown(name),
                Shown(first),
                Shown(second)
            );
            Err(Trouble::new(message).hint(format!("say which: `of: {first}`")))
        }
    }
}
