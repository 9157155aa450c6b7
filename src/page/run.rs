//! Everything that the page of a run shows.

use contract::artifact::{Artifact, ArtifactKind, Table};
use serde::Serialize;

use super::confusion::{Confusion, confusions};
use super::drawing::{Drawing, drawing};
use super::forecast::{ForecastView, forecasts};
use super::gathering::Gathering;
use super::ranking::{Ranking, rankings};
use super::scene::{SampleScores, Scene, sample_scores, scenes};
use super::tiles::TileSink;
use crate::report::{History, ReportError};

/// Tables that are shown.
const TABLES: usize = 24;

/// A run as its page shows it.
pub struct RunView<'a> {
    pub history: &'a History<'a>,
    pub scenes: Vec<Scene>,
    pub samples: Vec<SampleScores>,
    pub forecasts: Vec<ForecastView>,
    pub confusions: Vec<Confusion>,
    pub rankings: Vec<Ranking>,
    pub curves: Vec<Curve>,
    pub tables: Vec<(String, Table)>,
    pub tables_left_out: usize,
    pub drawing: Drawing,
    /// What the store no longer has.
    pub gaps: Vec<String>,
}

/// The log of a training.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    pub stage: String,
    /// What the rows count, such as `epoch`.
    pub axis: String,
    pub steps: Vec<Option<f64>>,
    pub lines: Vec<(String, Vec<Option<f64>>)>,
}

impl<'a> RunView<'a> {
    /// Gathers what the store has of a run. The arrays go to the sink.
    ///
    /// # Errors
    /// If a tile cannot be written.
    pub fn gather(history: &'a History<'a>, sink: &dyn TileSink) -> Result<Self, ReportError> {
        let gathering = Gathering::new(history, sink);
        let (curves, tables, tables_left_out) = curves_and_tables(&gathering);
        // Forecasts are small beside the channels of a series, which take what room is left.
        let forecasts = forecasts(&gathering)?;
        Ok(Self {
            forecasts,
            scenes: scenes(&gathering)?,
            samples: sample_scores(&gathering),
            confusions: confusions(&gathering),
            rankings: rankings(history),
            curves,
            tables,
            tables_left_out,
            drawing: drawing(history),
            gaps: gathering.gaps(),
            history,
        })
    }
}

impl RunView<'_> {
    /// Scores and channels of which there are no single rows.
    pub fn cut(&self) -> usize {
        let mut cut = 0;
        for scene in &self.scenes {
            cut += scene
                .tracks
                .iter()
                .filter(|track| !track.score.whole)
                .count();
            let channels = scene.channels.iter();
            cut += channels.filter(|channel| !channel.values.whole).count();
        }
        cut
    }
}

/// Tables that count epochs or steps are logs; all others are shown as they are, so many of them; and how many are left out.
fn curves_and_tables(gathering: &Gathering<'_>) -> (Vec<Curve>, Vec<(String, Table)>, usize) {
    let (mut curves, mut tables, mut left_out) = (Vec::new(), Vec::new(), 0);
    for (_, stage, output) in gathering.outputs(ArtifactKind::Table) {
        if tables.len() == TABLES && output.port != "log" {
            left_out += 1;
            continue;
        }
        let Some(Artifact::Table(table)) = gathering.load(stage, output) else {
            continue;
        };
        let stage = &stage.record.name;
        match curve(stage, &table) {
            Some(curve) => curves.push(curve),
            None => tables.push((format!("{stage}.{}", output.port), Table::clone(&table))),
        }
    }
    (curves, tables, left_out)
}

fn curve(stage: &str, table: &Table) -> Option<Curve> {
    let names = table.column_names();
    let axis = names
        .first()
        .filter(|name| ["epoch", "step"].contains(&name.as_str()))?;
    let whole = table.integers(axis)?;
    let steps: Vec<Option<f64>> = whole
        .iter()
        .map(|step| step.map(|step| step as f64))
        .collect();
    let mut lines = Vec::new();
    for name in &names[1..] {
        if let Some(values) = table.reals(name)
            && values.iter().any(Option::is_some)
        {
            lines.push((name.clone(), values));
        }
    }
    // A model that is fitted at once has no course.
    if steps.len() < 2 || lines.is_empty() {
        return None;
    }
    Some(Curve {
        stage: stage.to_owned(),
        axis: axis.clone(),
        steps,
        lines,
    })
}
