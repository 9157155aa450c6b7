//! Ways to choose the score above which a row raises an alarm, one file each, and the table that names them.
//! A way says which rows it looks at and whether at labels; whether that is fair is for the leakage check to judge.

mod best_f1;
mod dspot;
mod ewma;
mod fixed;
mod k_sigma;
mod peaks;
mod pot;
mod quantile;
mod spot;
mod tail;

use std::ops::Range;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::metrics::Case;
use contract::artifact::Split;
use contract::{Choice, Entry, Registry, StageError};

/// What a threshold is learned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It is given.
    Nothing,
    /// The scores of these splits; if empty, of calibration, or of train where there is no calibration.
    Scores(Vec<Split>),
    /// Scores and labels of the judged rows: an oracle.
    JudgedLabels,
}

/// What a threshold can be learned from, gathered by the stage.
pub struct Source<'a> {
    /// The finite scores of the splits that the basis names, in order; never empty if it names any.
    pub scores: &'a [f64],
    /// Which of them are of consecutive time, half-open; they cover all.
    pub stretches: &'a [Range<usize>],
    /// The judged rows.
    pub case: &'a Case,
}

/// A threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Scores above it are alarms. Of a threshold that adapts, where it starts.
    pub value: f64,
    /// The threshold of each judged row, if it adapts.
    pub by_row: Option<Vec<f64>>,
    /// How it came about, in a few words.
    pub how: String,
}

impl Chosen {
    fn constant(value: f64, how: String) -> Self {
        Self {
            value,
            by_row: None,
            how,
        }
    }
}

/// One way to choose a threshold.
trait ThresholdKind: 'static {
    type Params: DeserializeOwned + Serialize + JsonSchema;

    const NAME: &'static str;
    const DOC: &'static str;
    /// Whether the threshold of a judged row depends on the scores of judged rows before it.
    const ADAPTS: bool = false;

    fn check(params: &Self::Params) -> Result<(), String>;
    fn basis(params: &Self::Params) -> Basis;
    fn choose(params: &Self::Params, source: &Source<'_>) -> Result<Chosen, StageError>;
}

struct Declaration {
    name: &'static str,
    adapts: bool,
    entry: fn() -> Entry,
    check: fn(&ThresholdChoice) -> Result<(), String>,
    basis: fn(&ThresholdChoice) -> Result<Basis, String>,
    choose: fn(&ThresholdChoice, &Source<'_>) -> Result<Chosen, StageError>,
}

impl Declaration {
    const fn of<T: ThresholdKind>() -> Self {
        Self {
            name: T::NAME,
            adapts: T::ADAPTS,
            entry: || Entry::new::<T::Params>(T::NAME, T::DOC),
            check: |choice| T::check(&choice.parameters()?),
            basis: |choice| Ok(T::basis(&choice.parameters()?)),
            choose: |choice, source| {
                T::choose(&choice.parameters().map_err(StageError::new)?, source)
            },
        }
    }
}

const THRESHOLDS: &[Declaration] = &[
    Declaration::of::<quantile::Quantile>(),
    Declaration::of::<k_sigma::KSigma>(),
    Declaration::of::<pot::Pot>(),
    Declaration::of::<ewma::Ewma>(),
    Declaration::of::<spot::Spot>(),
    Declaration::of::<dspot::Dspot>(),
    Declaration::of::<fixed::Fixed>(),
    Declaration::of::<best_f1::BestF1>(),
];

/// The table of thresholds for a pipeline: `threshold: {kind: quantile, anomaly_ratio: 0.5}`.
#[derive(Debug)]
pub struct ThresholdTable;

impl Registry for ThresholdTable {
    const TAG: &'static str = "kind";
    const WHAT: &'static str = "threshold";

    fn entries() -> Vec<Entry> {
        THRESHOLDS
            .iter()
            .map(|declaration| (declaration.entry)())
            .collect()
    }
}

/// A threshold with its parameters, as a pipeline names it.
pub type ThresholdChoice = Choice<ThresholdTable>;

fn declaration(choice: &ThresholdChoice) -> Result<&'static Declaration, String> {
    let found = THRESHOLDS
        .iter()
        .find(|declaration| declaration.name == choice.name());
    found.ok_or_else(|| format!("unknown threshold `{}`", choice.name()))
}

/// Checks what the schema cannot say.
///
/// # Errors
/// A sentence about the parameter at fault.
pub fn check(choice: &ThresholdChoice) -> Result<(), String> {
    (declaration(choice)?.check)(choice)
}

/// What the threshold is learned from.
///
/// # Errors
/// If the parameters do not fit.
pub fn basis(choice: &ThresholdChoice) -> Result<Basis, String> {
    (declaration(choice)?.basis)(choice)
}

/// Whether the threshold of a judged row depends on the scores of judged rows before it.
///
/// # Errors
/// If there is no such threshold.
pub fn adapts(choice: &ThresholdChoice) -> Result<bool, String> {
    Ok(declaration(choice)?.adapts)
}

/// Chooses the threshold.
///
/// # Errors
/// If the scores do not determine one.
pub fn choose(choice: &ThresholdChoice, source: &Source<'_>) -> Result<Chosen, StageError> {
    (declaration(choice).map_err(StageError::new)?.choose)(choice, source)
}

/// The part of the parameters that thresholds learned from scores have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Over(Vec<Split>);

impl Over {
    fn basis(&self) -> Basis {
        Basis::Scores(self.0.clone())
    }
}
