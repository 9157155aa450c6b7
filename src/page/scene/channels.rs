//! The channels beneath a score: which have most to do with each event.

use std::ops::Range;
use std::sync::Arc;

use contract::artifact::{Artifact, ArtifactKind, Digest, Scores, Segment, Series};

use super::{Channel, Part, Scene, gathered};
use crate::cache::Output;
use crate::page::gathering::Gathering;
use crate::page::tiles::{Numbers, TileSink};
use crate::report::{ReportError, StageHistory};

/// Channels that are named for an event, those that have most to do with it.
const CHANNELS_NAMED: usize = 5;

/// The series that was loaded last, and which rows of it were asked for.
#[derive(Default)]
pub(super) struct SeriesCache {
    loaded: Option<(Digest, Arc<Series>)>,
    scored: Option<ScoredRows>,
}

/// A series, segments, and their rows of it if it has them all.
type ScoredRows = (Digest, Arc<[Segment]>, Option<Arc<Series>>);

impl SeriesCache {
    fn load(
        &mut self,
        gathering: &Gathering<'_>,
        stage: &StageHistory,
        output: &Output,
    ) -> Option<Arc<Series>> {
        let digest = output.record.digest;
        if let Some((known, series)) = &self.loaded
            && *known == digest
        {
            return Some(Arc::clone(series));
        }
        let Some(Artifact::Series(series)) = gathering.load(stage, output) else {
            return None;
        };
        self.loaded = Some((digest, Arc::clone(&series)));
        Some(series)
    }

    /// The rows of these segments, if the series has them all.
    fn scored(
        &mut self,
        gathering: &Gathering<'_>,
        stage: &StageHistory,
        output: &Output,
        segments: &Arc<[Segment]>,
    ) -> Option<Arc<Series>> {
        let digest = output.record.digest;
        if let Some((known, of, series)) = &self.scored
            && *known == digest
            && Arc::ptr_eq(of, segments)
        {
            return series.clone();
        }
        let series = self.load(gathering, stage, output)?;
        let found = match *series.segments == **segments {
            true => Some(series),
            false => series.only(segments).map(Arc::new),
        };
        self.scored = Some((digest, Arc::clone(segments), found.clone()));
        found
    }
}

/// The series whose rows were scored: of those above the scores, the one nearest to the data that has all of them.
pub(super) fn series_of(
    gathering: &Gathering<'_>,
    part: &Part<'_>,
    cache: &mut SeriesCache,
) -> Option<Arc<Series>> {
    let above = gathering.above(part.stage, ArtifactKind::Series);
    let mut found = above
        .into_iter()
        .map(|(stage, output)| cache.scored(gathering, stage, output, &part.all));
    found.find_map(|series| series)
}

/// Adds the channels of the series, those first that have most to do with the events, and names them at the events: for each
/// detector by its own parts of the score, if it has some.
pub(super) fn add_channels(
    scene: &mut Scene,
    series: &Series,
    parts: &[Part<'_>],
    sink: &dyn TileSink,
) -> Result<(), ReportError> {
    let Some(first) = parts.first() else {
        return Ok(());
    };
    let events: Vec<Range<usize>> = scene
        .events
        .iter()
        .map(|(start, end)| *start..*end)
        .collect();
    // One column at a time: all of them would be the series once more.
    let of_values: Vec<Vec<f64>> = (0..series.width())
        .map(|channel| deviations(&column(series, channel, &first.segments), &events))
        .collect();
    let shares_of = |part: &Part<'_>| match &part.shares {
        Some((names, shares)) if *names == series.channels => shares.clone(),
        _ => of_values.clone(),
    };
    let shares = shares_of(first);
    let most = |channel: &usize| shares[*channel].iter().copied().fold(0.0, f64::max);
    let mut order: Vec<usize> = (0..series.width()).collect();
    order.sort_by(|left, right| most(right).total_cmp(&most(left)).then(left.cmp(right)));
    for (track, part) in scene.tracks.iter_mut().zip(parts) {
        let shares = shares_of(part);
        for (event, found) in track.found.iter_mut().enumerate() {
            let mut places: Vec<usize> = (0..order.len()).collect();
            let share = |place: &usize| shares[order[*place]][event];
            places.sort_by(|left, right| {
                let order = share(right).total_cmp(&share(left));
                order.then(left.cmp(right))
            });
            places.truncate(CHANNELS_NAMED);
            found.channels = places;
        }
    }
    for (place, channel) in order.into_iter().enumerate() {
        let name = format!("{}-c{place}", scene.id);
        scene.channels.push(Channel {
            name: series.channels[channel].clone(),
            values: column(series, channel, &first.segments).keep(sink, &name)?,
        });
    }
    Ok(())
}

/// The values of a channel at the rows of segments, in the width that the series has them in.
fn column(series: &Series, channel: usize, segments: &[Segment]) -> Numbers {
    if let Some(values) = series.wide.get(&channel) {
        return Numbers::Double(gathered(values, segments));
    }
    let width = series.width();
    let mut values = Vec::new();
    for segment in segments {
        let rows = segment.rows.clone();
        values.extend(rows.map(|row| series.values[row * width + channel]));
    }
    Numbers::Single(values)
}

/// Per channel and event: the mean of the channel's part of the score.
pub(super) fn contributed(
    scores: &Scores,
    segments: &[Segment],
    events: &[Range<usize>],
) -> Vec<Vec<f64>> {
    let rows: Vec<usize> = segments
        .iter()
        .flat_map(|segment| segment.rows.clone())
        .collect();
    let width = scores.channels.len();
    let mut shares = Vec::with_capacity(width);
    for channel in 0..width {
        let mean = |event: &Range<usize>| {
            let part = |row: &usize| f64::from(scores.contributions[row * width + channel]);
            rows[event.clone()].iter().map(part).sum::<f64>() / event.len() as f64
        };
        shares.push(events.iter().map(mean).collect());
    }
    shares
}

/// Per event: how far a channel's mean in it lies from its mean over the other rows, in deviations of those.
fn deviations(values: &Numbers, events: &[Range<usize>]) -> Vec<f64> {
    let at = |row: usize| match values {
        Numbers::Single(values) => f64::from(values[row]),
        Numbers::Double(values) => values[row],
    };
    let (mut count, mut sum) = (0.0, 0.0);
    let mut quiet = Vec::with_capacity(values.len());
    let mut next = 0;
    for row in 0..values.len() {
        while events.get(next).is_some_and(|event| event.end <= row) {
            next += 1;
        }
        if events.get(next).is_none_or(|event| row < event.start) {
            quiet.push(row);
            count += 1.0;
            sum += at(row);
        }
    }
    let mean = sum / f64::max(count, 1.0);
    let squares: f64 = quiet.iter().map(|row| (at(*row) - mean).powi(2)).sum();
    let deviation = f64::sqrt(squares / f64::max(count, 1.0));
    let far = |event: &Range<usize>| {
        let inside: f64 = event.clone().map(at).sum::<f64>() / event.len() as f64;
        match (inside - mean).abs() {
            distance if distance > 0.0 => distance / f64::max(deviation, f64::MIN_POSITIVE),
            _ => 0.0,
        }
    };
    events.iter().map(far).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel that is constant outside of the events and moves in one has more to do with it than one that is noisy.
    #[test]
    fn deviations_find_the_channel_that_moves() {
        let mut moving = vec![0.0_f32; 100];
        let noisy: Vec<f32> = (0..100).map(|row| ((row * 37) % 11) as f32).collect();
        for value in &mut moving[40..50] {
            *value = 1.0;
        }
        let events = [40..50, 80..90];
        let moving = deviations(&Numbers::Single(moving), &events);
        let noisy = deviations(&Numbers::Single(noisy), &events);
        assert!(
            moving[0] > noisy[0] && moving[0] > 100.0,
            "{moving:?} {noisy:?}"
        );
        assert_eq!(moving[1], 0.0);
    }
}
