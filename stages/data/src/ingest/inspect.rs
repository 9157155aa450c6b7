//! What a series looks like to somebody who opens it for the first time: how much there is of what, and what is probably not
//! as it was meant. Nothing is changed here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use rayon::prelude::*;

use contract::artifact::{Segment, Series, Split};
use contract::{Doubt, StageContext};

/// Consecutive rows that are compared as one: a single row of a counter or a switch may well come twice.
const BLOCK: usize = 8;
/// Of the test part, so many blocks at most are looked for among the other rows.
const PROBES: usize = 256;
/// More channels than this can be a transposed table; with fewer, a short series is likelier.
const FEW_CHANNELS: usize = 8;
/// Milliseconds since 1970 of 1900 and of 2200.
const PLAUSIBLE: std::ops::Range<i64> = -2_208_988_800_000..7_258_118_400_000;
/// Names that are listed in a message.
const LISTED: usize = 5;

/// Reports what was read: notes for the log, doubts as warnings.
pub(super) fn report(series: &Series, context: &StageContext<'_>) {
    context.host.finding(&extent(series));
    // The two that look at most rows, side by side.
    let ((glance, labels), tested) = rayon::join(
        || {
            let glance = Glance::of(series);
            let labels = labels_among_channels(series, &glance);
            (glance, labels)
        },
        || tested_on_training_rows(series),
    );
    let notes = [
        constant(series, &glance),
        kept_wide(series),
        steps(series),
        anomalies_to_learn(series),
        unseen_in_training(series, &glance),
    ];
    for note in notes.into_iter().flatten() {
        context.host.finding(&note);
    }
    let doubts = [
        row_numbers(series),
        transposed(series),
        implausible_times(series),
        labels,
        tested,
    ];
    for doubt in doubts.into_iter().flatten() {
        context.host.doubt(doubt);
    }
}

/// `1,200 rows of 2 channels in 3 entities: train 720, test 480`.
fn extent(series: &Series) -> String {
    let mut by_split: BTreeMap<Split, usize> = BTreeMap::new();
    let mut entities = BTreeSet::new();
    for segment in &series.segments {
        *by_split.entry(segment.split).or_default() += segment.rows.len();
        entities.insert(segment.entity.as_str());
    }
    let mut parts = Vec::with_capacity(by_split.len());
    for (split, rows) in by_split {
        parts.push(format!("{split} {rows}"));
    }
    format!(
        "{} rows of {} in {}: {}",
        series.rows(),
        counted(series.width(), "channel", "channels"),
        counted(entities.len(), "entity", "entities"),
        parts.join(", ")
    )
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Some names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The channels for which `holds` is true of their values, in the order of the rows.
fn channels_where(
    series: &Series,
    holds: impl Fn(&mut dyn Iterator<Item = f32>) -> bool,
) -> Vec<&str> {
    let width = series.width();
    let mut found = Vec::new();
    for (channel, name) in series.channels.iter().enumerate() {
        let mut values = series.values.iter().skip(channel).step_by(width).copied();
        if holds(&mut values) {
            found.push(name.as_str());
        }
    }
    found
}

/// Rows that one task looks at.
const ROWS: usize = 4096;

/// What one pass over all values finds: for each segment, the value of each channel that has only one there.
struct Glance(Vec<Still>);

/// The value of each channel that has only one in some rows. NaN, which no series holds, stands for several.
#[derive(Clone)]
struct Still(Vec<f64>);

impl Still {
    fn value(&self, channel: usize) -> Option<f64> {
        Some(self.0[channel]).filter(|value| !value.is_nan())
    }

    /// What stands still in these rows and in those.
    fn merge(&mut self, other: &Self) {
        for (value, another) in self.0.iter_mut().zip(&other.0) {
            if *value != *another {
                *value = f64::NAN;
            }
        }
    }
}

impl Glance {
    fn of(series: &Series) -> Self {
        let mut blocks = Vec::new();
        for (index, segment) in series.segments.iter().enumerate() {
            for start in segment.rows.clone().step_by(ROWS) {
                blocks.push((index, start..segment.rows.end.min(start + ROWS)));
            }
        }
        let seen: Vec<(usize, Still)> = blocks
            .into_par_iter()
            .map(|(index, rows)| (index, standing_still(series, rows)))
            .collect();
        let mut all: Vec<Option<Still>> = vec![None; series.segments.len()];
        for (index, found) in seen {
            match &mut all[index] {
                Some(still) => still.merge(&found),
                none => *none = Some(found),
            }
        }
        let empty = Still(vec![f64::NAN; series.width()]);
        let all = all.into_iter();
        Self(
            all.map(|still| still.unwrap_or_else(|| empty.clone()))
                .collect(),
        )
    }

    /// What stands still in all rows of the segments for which `holds` is true; nothing if there are none.
    fn still_where(&self, series: &Series, holds: impl Fn(&Segment) -> bool) -> Option<Still> {
        let mut all: Option<Still> = None;
        for (segment, still) in series.segments.iter().zip(&self.0) {
            match &mut all {
                _ if !holds(segment) || segment.rows.is_empty() => {}
                Some(all) => all.merge(still),
                none => *none = Some(still.clone()),
            }
        }
        all
    }
}

/// The channels that have one value in some rows, of which there is one at least.
fn standing_still(series: &Series, rows: Range<usize>) -> Still {
    let width = series.width();
    let first = series.row(rows.start);
    let mut moved = vec![0; width];
    differences(
        &series.values[rows.start * width..rows.end * width],
        &mut moved,
    );
    let mut still = Vec::with_capacity(width);
    for (value, moved) in first.iter().zip(moved) {
        // Zero has two signs.
        let is_still = moved == 0 || (*value == 0.0 && moved == SIGN);
        still.push(if is_still {
            f64::from(*value)
        } else {
            f64::NAN
        });
    }
    for (channel, values) in &series.wide {
        let values = &values[rows.clone()];
        let is_one = values.iter().all(|value| *value == values[0]);
        still[*channel] = if is_one { values[0] } else { f64::NAN };
    }
    Still(still)
}

/// The bit of the sign.
const SIGN: u32 = 1 << 31;

/// Adds to `moved` the bits of each channel in which any row differs from the first.
fn differences(values: &[f32], moved: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { wide_differences(values, moved) };
    }
    row_differences(values, moved);
}

/// The same in larger steps.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn wide_differences(values: &[f32], moved: &mut [u32]) {
    row_differences(values, moved);
}

/// Row by row, in the order of the memory.
#[inline(always)]
fn row_differences(values: &[f32], moved: &mut [u32]) {
    let width = moved.len();
    let Some(first) = values.get(..width).filter(|first| !first.is_empty()) else {
        return;
    };
    for row in values.chunks_exact(width) {
        for ((moved, value), first) in moved.iter_mut().zip(row).zip(first) {
            *moved |= value.to_bits() ^ first.to_bits();
        }
    }
}

fn constant(series: &Series, glance: &Glance) -> Option<String> {
    if series.rows() < 2 {
        return None;
    }
    let all = glance.still_where(series, |_| true)?;
    let mut names = Vec::new();
    for (channel, name) in series.channels.iter().enumerate() {
        if all.value(channel).is_some() {
            names.push(name.as_str());
        }
    }
    let is = if names.len() == 1 { "is" } else { "are" };
    (!names.is_empty()).then(|| format!("constant in all rows {is} {}", listed(&names)))
}

/// Channels whose steps 32 bits would not tell apart.
fn kept_wide(series: &Series) -> Option<String> {
    let mut names = Vec::with_capacity(series.wide.len());
    for channel in series.wide.keys() {
        names.push(series.channels[*channel].as_str());
    }
    let is = if names.len() == 1 { "is" } else { "are" };
    let names = (!names.is_empty()).then(|| listed(&names))?;
    Some(format!(
        "{names} {is} kept in 64 bits, since 32 do not tell one row from the next: `normalize` takes the level away, and without it models see rounded values"
    ))
}

/// Channels that stand still in all training rows and move in the test rows: no model learns what they do.
fn unseen_in_training(series: &Series, glance: &Glance) -> Option<String> {
    let learned = glance.still_where(series, |segment| segment.split == Split::Train)?;
    let judged = glance.still_where(series, |segment| segment.split == Split::Test)?;
    let mut names = Vec::new();
    for (channel, name) in series.channels.iter().enumerate() {
        let value = learned.value(channel);
        if value.is_some() && judged.value(channel) != value {
            names.push(name.as_str());
        }
    }
    let stands = if names.len() == 1 { "stands" } else { "stand" };
    (!names.is_empty()).then(|| {
        format!(
            "{} {stands} still in the training rows and not in the test rows: what happens there, no detector learned",
            listed(&names)
        )
    })
}

/// Names under which programs write the number of a row.
const INDEX_NAMES: [&str; 6] = [
    "",
    "index",
    "unnamed: 0",
    "__index_level_0__",
    "row",
    "row_id",
];
/// With fewer rows, any channel may happen to count them.
const COUNTED_ROWS: usize = 10;

/// A column that only counts the rows, such as the index that pandas writes without a name.
fn row_numbers(series: &Series) -> Option<Doubt> {
    if series.rows() < 3 || !series.classes().is_empty() {
        return None;
    }
    let mut names = channels_where(series, |values| {
        let mut last = match values.next() {
            Some(first) if first == 0.0 || first == 1.0 => first,
            _ => return false,
        };
        for value in values {
            // With several files, each has its own count.
            let counts_on = value == last + 1.0 || (value == 0.0 || value == 1.0) && last > 1.0;
            if !counts_on {
                return false;
            }
            last = value;
        }
        last >= 2.0
    });
    if series.rows() < COUNTED_ROWS {
        names.retain(|name| INDEX_NAMES.contains(&name.to_ascii_lowercase().as_str()));
    }
    let first = *names.first()?;
    let shown = if first.is_empty() {
        "the channel without a name".to_owned()
    } else {
        listed(&names)
    };
    let counts = if names.len() == 1 { "counts" } else { "count" };
    let message = format!("{shown} only {counts} the rows");
    Some(
        Doubt::new("row-numbers", message).hint(
            "leave it out with `columns`; pandas writes no index with `to_csv(…, index=False)`",
        ),
    )
}

fn transposed(series: &Series) -> Option<Doubt> {
    let (rows, width) = (series.rows(), series.width());
    if width <= FEW_CHANNELS || width <= rows || !series.classes().is_empty() {
        return None;
    }
    let message = format!("there are more channels ({width}) than rows ({rows})");
    Some(
        Doubt::new("transposed", message)
            .hint("is the table transposed? a row is a moment, a column a channel"),
    )
}

fn implausible_times(series: &Series) -> Option<Doubt> {
    let row = series
        .times
        .iter()
        .position(|time| !PLAUSIBLE.contains(time))?;
    let milliseconds = series.times[row];
    // A year has 365.2425 days on average.
    let year = 1970.0 + milliseconds as f64 / 31_556_952_000.0;
    let message = format!("the time of row {row} lies in the year {year:.0}");
    Some(Doubt::new("implausible-time", message).hint(
        "say how times are written with `time: {column, format}`; a time that stands for no end is not a time",
    ))
}

/// Where the step of time changes, and whether times come twice.
fn steps(series: &Series) -> Option<String> {
    if series.times.is_empty() {
        return None;
    }
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for segment in &series.segments {
        // Most steps are like the one before.
        let (mut last, mut run) = (0, 0);
        for pair in series.times[segment.rows.clone()].windows(2) {
            let step = pair[1].saturating_sub(pair[0]);
            if step != last {
                *counts.entry(last).or_default() += run;
                (last, run) = (step, 0);
            }
            run += 1;
        }
        *counts.entry(last).or_default() += run;
    }
    counts.retain(|_, count| *count > 0);
    let (&usual, &times) = counts.iter().max_by_key(|(_, count)| **count)?;
    let all: usize = counts.values().sum();
    let mut text = format!("a row every {}", time(usual));
    let doubled = counts.get(&0).copied().unwrap_or(0);
    if doubled > 0 && usual != 0 {
        text += &format!(
            "; {} as the row before",
            counted(doubled, "row has the same time", "rows have the same time")
        );
    }
    let longer: usize = counts.range(usual + 1..).map(|(_, count)| count).sum();
    if let Some((&longest, _)) = counts.last_key_value()
        && longer > 0
    {
        text += &format!(
            "; {}, the longest of {}: windows reach across",
            counted(longer, "step is longer", "steps are longer"),
            time(longest)
        );
    }
    let shorter = all - times - longer - if usual == 0 { 0 } else { doubled };
    if shorter > 0 {
        text += &format!(
            "; {}",
            counted(shorter, "step is shorter", "steps are shorter")
        );
    }
    Some(text)
}

/// Milliseconds in the largest unit that leaves no more than two decimals.
fn time(milliseconds: i64) -> String {
    let units = [
        (86_400_000, "days"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
    ];
    for (length, unit) in units {
        if milliseconds >= length {
            let number = format!("{:.2}", milliseconds as f64 / length as f64);
            let number = number.trim_end_matches('0').trim_end_matches('.');
            return format!("{number} {unit}");
        }
    }
    format!("{milliseconds} ms")
}

fn anomalies_to_learn(series: &Series) -> Option<String> {
    let mut count = 0;
    for segment in series
        .of_split(Split::Train)
        .filter(|segment| segment.labelled)
    {
        let labels = &series.labels[segment.rows.clone()];
        count += labels.iter().filter(|label| **label != 0).count();
    }
    (count > 0).then(|| {
        let rows = counted(count, "training row is", "training rows are");
        format!("{rows} labelled as anomalous; a detector learns them as normal")
    })
}

/// A channel with one value where the label is 0 and another where it is 1: the label itself, or its inverse.
fn labels_among_channels(series: &Series, glance: &Glance) -> Option<Doubt> {
    let still = glance.still_where(series, |segment| segment.labelled)?;
    let labelled = || series.segments.iter().filter(|segment| segment.labelled);
    let mut candidates = Vec::new();
    for channel in 0..series.width() {
        if still.value(channel).is_none() {
            candidates.push(Follower::new(channel));
        }
    }
    // A few rows tell of most channels that they do not follow.
    let count: usize = labelled().map(|segment| segment.rows.len()).sum();
    let step = count.div_ceil(COMPARED).max(1);
    let few = labelled().flat_map(|segment| segment.rows.clone().step_by(step));
    let all = labelled().flat_map(|segment| segment.rows.clone());
    for row in few.chain(all) {
        candidates.retain_mut(|candidate| candidate.follows(series, row));
        if candidates.is_empty() {
            return None;
        }
    }
    let mut names = Vec::new();
    for candidate in candidates {
        if let [Some(normal), Some(anomalous)] = candidate.values
            && normal != anomalous
        {
            names.push(series.channels[candidate.channel].as_str());
        }
    }
    let tells = if names.len() == 1 { "tells" } else { "tell" };
    (!names.is_empty()).then(|| {
        Doubt::new(
            "label-among-channels",
            format!("{} {tells} the label of every row", listed(&names)),
        )
        .hint("a second column of labels? leave it out with `columns`")
    })
}

/// A channel that has had one value so far where the label is 0, and one where it is 1.
struct Follower {
    channel: usize,
    values: [Option<f64>; 2],
}

impl Follower {
    fn new(channel: usize) -> Self {
        Self {
            channel,
            values: [None, None],
        }
    }

    /// Whether the channel has no other value in this row.
    fn follows(&mut self, series: &Series, row: usize) -> bool {
        let value = series.value(row, self.channel);
        let known = &mut self.values[usize::from(series.labels[row] != 0)];
        *known.get_or_insert(value) == value
    }
}

/// Rows of the test part that stand among those before it: then a model is judged on what it was fitted to.
fn tested_on_training_rows(series: &Series) -> Option<Doubt> {
    if !series.classes().is_empty() {
        return None;
    }
    let probes = probes(series);
    let places = places_among_others(series, &probes);
    let (mut again, mut last) = (0_usize, None);
    for (probe, place) in probes.iter().zip(places) {
        // Of few states, any eight in a row come again somewhere; what was copied comes again in its order.
        let distance = place.map(|place| probe.wrapping_sub(place));
        again += usize::from(distance.is_some() && distance == last);
        last = distance;
    }
    // Processes repeat themselves; a file that was given twice does so entirely.
    if probes.is_empty() || again * 2 < probes.len() {
        return None;
    }
    let message = "most test rows stand among those that a model learns from, in their order";
    Some(
        Doubt::new("test-in-train", message)
            .hint("is `test` the file that the training rows come from?"),
    )
}

/// The first rows of blocks of the test part, evenly spread. A block that is one row over and over says nothing.
fn probes(series: &Series) -> Vec<usize> {
    let mut blocks = Vec::new();
    for segment in series.of_split(Split::Test) {
        blocks.extend(blocks_of(segment));
    }
    let step = blocks.len().div_ceil(PROBES).max(1);
    let mut probes: Vec<usize> = blocks.into_iter().step_by(step).collect();
    probes.retain(|first| {
        let mut rows = first + 1..first + BLOCK;
        rows.any(|row| series.row(row) != series.row(*first))
    });
    probes
}

/// The first rows of all blocks of a segment.
fn blocks_of(segment: &Segment) -> Range<usize> {
    let start = segment.rows.start;
    start..(segment.rows.end + 1).saturating_sub(BLOCK).max(start)
}

/// Where each block first stands among the rows that are not of the test part.
fn places_among_others(series: &Series, probes: &[usize]) -> Vec<Option<usize>> {
    let factors = factors(series.width());
    let channel = most_varied(series, probes);
    let (mut places, mut marks) = (HashMap::new(), vec![false; MARKS]);
    let mut hashes = Vec::with_capacity(probes.len());
    for first in probes {
        let hash = block_hash(series, *first, &factors);
        hashes.push(hash);
        places.insert(hash, None);
        let mut sum = 0;
        for row in *first..first + BLOCK {
            sum = rolled(sum, value_bits(series, row, channel));
        }
        marks[mark(sum)] = true;
    }
    let leaving = FACTOR.wrapping_pow(BLOCK as u32);
    let segments = series.segments.iter();
    for segment in segments.filter(|segment| segment.split != Split::Test) {
        // One channel tells for most rows that no block begins there.
        let mut sum = 0;
        for row in segment.rows.clone() {
            sum = rolled(sum, value_bits(series, row, channel));
            let Some(first) = (row + 1)
                .checked_sub(BLOCK)
                .filter(|first| *first >= segment.rows.start)
            else {
                continue;
            };
            if first > segment.rows.start {
                let left = value_bits(series, first - 1, channel);
                sum = sum.wrapping_sub(leaving.wrapping_mul(left));
            }
            if marks[mark(sum)]
                && let Some(place) = places.get_mut(&block_hash(series, first, &factors))
            {
                place.get_or_insert(first);
            }
        }
    }
    hashes.iter().map(|hash| places[hash]).collect()
}

/// How many marks there are: far more than probes.
const MARKS: usize = 1 << 16;

/// The mark of a sum.
fn mark(sum: u64) -> usize {
    (mixed(sum) >> 48) as usize
}

/// A polynomial of the values so far, with one more.
fn rolled(sum: u64, value: u64) -> u64 {
    sum.wrapping_mul(FACTOR).wrapping_add(value)
}

fn value_bits(series: &Series, row: usize, channel: usize) -> u64 {
    series.values[row * series.width() + channel]
        .to_bits()
        .into()
}

/// Rows by which channels are compared.
const COMPARED: usize = 64;

/// The channel that has the most different values in some of these rows.
fn most_varied(series: &Series, rows: &[usize]) -> usize {
    let step = rows.len().div_ceil(COMPARED).max(1);
    let (mut most, mut found) = (0, 0);
    for channel in 0..series.width() {
        let rows = rows.iter().step_by(step);
        let mut values: Vec<u64> = rows.map(|row| value_bits(series, *row, channel)).collect();
        values.sort_unstable();
        values.dedup();
        if values.len() > most {
            (most, found) = (values.len(), channel);
        }
    }
    found
}

/// What a block holds.
fn block_hash(series: &Series, first: usize, factors: &[u32]) -> u64 {
    let mut whole = 0;
    for row in first..first + BLOCK {
        whole = mixed(whole ^ u64::from(hash(series.row(row), factors)));
    }
    whole
}

/// The factor of a polynomial.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A factor for each channel, so that values in other channels are other rows.
fn factors(width: usize) -> Vec<u32> {
    let mut factors = Vec::with_capacity(width);
    for channel in 0..width as u64 {
        factors.push(mixed(channel) as u32 | 1);
    }
    factors
}

/// A sum of products.
fn hash(row: &[f32], factors: &[u32]) -> u32 {
    let mut sum = 0_u32;
    for (value, factor) in row.iter().zip(factors) {
        let bits = value.to_bits();
        sum = sum.wrapping_add((bits ^ bits >> 15).wrapping_mul(*factor));
    }
    sum
}

/// Spreads a number over all bits: rows are compared within one process, and nobody attacks them.
fn mixed(number: u64) -> u64 {
    let product = (number ^ number >> 31).wrapping_mul(FACTOR);
    product ^ product >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(channels: &[&str], values: Vec<f32>, parts: &[(Split, usize)]) -> Series {
        let mut segments = Vec::new();
        let mut start = 0;
        for (split, rows) in parts {
            segments.push(Segment::new(*split, "a", start..start + rows));
            start += rows;
        }
        Series {
            channels: channels.iter().map(|name| (*name).to_owned()).collect(),
            values,
            labels: Vec::new(),
            times: Vec::new(),
            segments,
            ..Series::default()
        }
    }

    fn tested(series: Series) -> Option<Doubt> {
        tested_on_training_rows(&series)
    }

    fn unseen(series: Series) -> Option<String> {
        unseen_in_training(&series, &Glance::of(&series))
    }

    fn wave(row: usize) -> f32 {
        (row as f32 * 0.7).sin() * 3.0 + (row as f32 * 0.11).cos()
    }

    #[test]
    fn a_column_that_counts_the_rows_is_doubtful() {
        let values = (0..6).flat_map(|row| [row as f32, wave(row)]).collect();
        let counted = series(&["", "a"], values, &[(Split::Train, 4), (Split::Test, 2)]);
        let doubt = row_numbers(&counted).unwrap();
        assert_eq!(
            doubt.message,
            "the channel without a name only counts the rows"
        );
        // A second file counts again; a switch does not count.
        let values: Vec<f32> = [1.0, 2.0, 3.0].repeat(4);
        assert!(row_numbers(&series(&["n"], values.clone(), &[(Split::Train, 12)])).is_some());
        let few = series(&["n"], values[..6].to_vec(), &[(Split::Train, 6)]);
        assert!(row_numbers(&few).is_none());
        let few = series(&["Unnamed: 0"], values[..6].to_vec(), &[(Split::Train, 6)]);
        assert!(row_numbers(&few).is_some());
        let values = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0].to_vec();
        assert!(row_numbers(&series(&["on"], values, &[(Split::Train, 6)])).is_none());
        let values = (2000..2020).map(|year| year as f32).collect();
        assert!(row_numbers(&series(&["year"], values, &[(Split::Train, 20)])).is_none());
    }

    #[test]
    fn a_table_on_its_side_is_doubtful() {
        let names: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let values = (0..60).map(wave).collect();
        assert!(transposed(&series(&names, values, &[(Split::Train, 3)])).is_some());
        let values = (0..600).map(wave).collect();
        assert!(transposed(&series(&names, values, &[(Split::Train, 30)])).is_none());
    }

    #[test]
    fn a_channel_that_follows_the_label_is_doubtful() {
        let labels = vec![0, 0, 1, 0, 1, 1];
        let values = labels
            .iter()
            .flat_map(|label| [1.0 - f32::from(*label), 0.5])
            .collect();
        let mut copy = series(&["safe", "flat"], values, &[(Split::Test, 6)]);
        (copy.labels, copy.segments[0].labelled) = (labels, true);
        let doubt = labels_among_channels(&copy, &Glance::of(&copy)).unwrap();
        assert_eq!(doubt.message, "`safe` tells the label of every row");
        copy.values[0] = 0.25;
        assert_eq!(labels_among_channels(&copy, &Glance::of(&copy)), None);
    }

    #[test]
    fn a_test_file_that_is_the_training_file_is_doubtful() {
        let rows: Vec<f32> = (0..100).map(wave).collect();
        let twice = [&rows[..], &rows[..]].concat();
        let parts = [
            (Split::Train, 60),
            (Split::Calibration, 40),
            (Split::Test, 100),
        ];
        let doubt = tested(series(&["a"], twice, &parts)).unwrap();
        assert_eq!(doubt.code, "test-in-train");
        let once = (0..200).map(wave).collect();
        assert_eq!(tested(series(&["a"], once, &parts)), None);
        // A switch repeats itself in any order.
        let mut state = 1_u64;
        let mut switch = Vec::with_capacity(3000);
        for _ in 0..3000 {
            state = mixed(state.wrapping_add(0x51));
            switch.push((state >> 40 & 1) as f32);
        }
        let halves = [(Split::Train, 1500), (Split::Test, 1500)];
        assert_eq!(tested(series(&["on"], switch, &halves)), None);
        // Rows far from the first of a block, and a copy that does not begin where its original does.
        let shifted: Vec<f32> = (0..9000)
            .map(|row| wave(if row < 5000 { row } else { row - 4990 }))
            .collect();
        let parts_of_it = [(Split::Train, 5000), (Split::Test, 4000)];
        let doubt = tested(series(&["a"], shifted, &parts_of_it));
        assert_eq!(doubt.unwrap().code, "test-in-train");
        // What stands still says nothing.
        let still = vec![1.0; 200];
        assert_eq!(tested(series(&["a"], still, &parts)), None);
    }

    #[test]
    fn times_are_looked_at() {
        let mut timed = series(&["a"], vec![0.0; 6], &[(Split::Train, 6)]);
        timed.times = vec![0, 60_000, 120_000, 120_000, 180_000, 2_592_180_000];
        let text = steps(&timed).unwrap();
        assert_eq!(
            text,
            "a row every 1 min; 1 row has the same time as the row before; 1 step is longer, the longest of 30 days: windows reach across"
        );
        assert_eq!(implausible_times(&timed), None);
        timed.times[5] = i64::MAX;
        assert!(
            implausible_times(&timed)
                .unwrap()
                .message
                .starts_with("the time of row 5 lies in the year 292")
        );
    }

    #[test]
    fn a_channel_that_moves_only_in_the_test_rows_is_noted() {
        let values = (0..20).flat_map(|row| [wave(row), if row < 15 { 0.0 } else { 1.0 }]);
        let parts = [(Split::Train, 10), (Split::Test, 10)];
        let note = unseen(series(&["a", "valve"], values.collect(), &parts)).unwrap();
        assert!(note.starts_with("`valve` stands still"), "{note}");
        let values = (0..20).map(wave).collect();
        assert_eq!(unseen(series(&["a"], values, &parts)), None);
    }

    #[test]
    fn channels_of_64_bits_are_named() {
        let mut wide = series(&["a", "bytes"], vec![0.0; 8], &[(Split::Train, 4)]);
        assert_eq!(kept_wide(&wide), None);
        assert!(
            constant(&wide, &Glance::of(&wide))
                .unwrap()
                .contains("`bytes`")
        );
        wide.wide.insert(1, vec![0.0, 0.0, 1.0, 0.0]);
        assert!(
            !constant(&wide, &Glance::of(&wide))
                .unwrap()
                .contains("`bytes`")
        );
        assert!(
            kept_wide(&wide)
                .unwrap()
                .starts_with("`bytes` is kept in 64 bits")
        );
    }

    #[test]
    fn the_extent_is_told_in_a_line() {
        let parts = [(Split::Train, 3), (Split::Test, 2)];
        let text = extent(&series(&["a", "b"], vec![0.0; 10], &parts));
        assert_eq!(text, "5 rows of 2 channels in 1 entity: train 3, test 2");
    }
}
