//! Forecast or imputed windows beside what was measured, on the scale that the model saw.
//! How far the two are apart is the business of the metrics.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt8Array, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata, Real, Rows};
use super::places;
use super::{ArtifactError, Digest, DigestWriter, Split};

const WHAT: &str = "forecasts";

/// Where the values of one window lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub split: Split,
    /// Which machine, channel or file the rows come from.
    pub entity: String,
    /// The row of the series that step 0 stands for; step `s` stands for `row + s`.
    pub row: usize,
}

/// Values that a model forecast, or filled in, for a number of windows, beside the true ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecasts {
    pub channels: Vec<String>,
    /// Steps per window, at least 1. For imputation, the length of the window.
    pub horizon: usize,
    /// One per window.
    pub origins: Vec<Origin>,
    /// `[windows, horizon]`, row-major: the time of each step, as in [`super::Series::times`]. Empty if it is not known.
    pub times: Vec<i64>,
    /// `[windows, horizon, channels]`, row-major.
    pub predicted: Vec<f32>,
    /// `[windows, horizon, channels]`, row-major: what was measured.
    pub actual: Vec<f32>,
    /// `[windows, horizon, channels]`, row-major: 1 where a value counts, as the hidden ones of imputation do. Empty if
    /// all count.
    pub judged: Vec<u8>,
    /// Per channel, the mean absolute error of the seasonal naive forecast over the training rows, `mean |x_t - x_{t-m}|`:
    /// the unit of MASE. Empty if it is not known.
    pub naive_error: Vec<f64>,
}

impl Forecasts {
    pub fn windows(&self) -> usize {
        self.origins.len()
    }

    pub fn width(&self) -> usize {
        self.channels.len()
    }

    /// Numbers of the windows of one split.
    pub fn of_split(&self, split: Split) -> impl Iterator<Item = usize> {
        self.origins
            .iter()
            .enumerate()
            .filter(move |(_, origin)| origin.split == split)
            .map(|(window, _)| window)
    }

    /// Checks that the parts fit each other; stages call it before they hand forecasts on.
    ///
    /// # Errors
    /// A sentence about the first part that does not.
    pub fn validate(&self) -> Result<(), String> {
        let (windows, horizon, width) = (self.windows(), self.horizon, self.width());
        if horizon == 0 || width == 0 {
            return Err(format!("forecasts of {horizon} steps and {width} channels"));
        }
        let shape = format!("{windows} windows of {horizon} steps and {width} channels");
        let values = windows
            .checked_mul(horizon)
            .and_then(|steps| steps.checked_mul(width));
        let values = values.ok_or_else(|| format!("more values than can be counted in {shape}"))?;
        if let Some(origin) = self
            .origins
            .iter()
            .find(|origin| origin.row.checked_add(horizon).is_none())
        {
            return Err(format!("a window from row {} on", origin.row));
        }
        if !self.times.is_empty() && self.times.len() != windows * horizon {
            return Err(format!("{} times for {shape}", self.times.len()));
        }
        for (name, length) in [
            ("forecast", self.predicted.len()),
            ("measured", self.actual.len()),
        ] {
            if length != values {
                return Err(format!("{length} {name} values for {shape}"));
            }
        }
        if !self.judged.is_empty() && self.judged.len() != values {
            return Err(format!(
                "{} marks of judged values for {shape}",
                self.judged.len()
            ));
        }
        if !self.naive_error.is_empty() && self.naive_error.len() != width {
            return Err(format!(
                "{} naive errors for {width} channels",
                self.naive_error.len()
            ));
        }
        Ok(())
    }

    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new(WHAT);
        writer.number(self.channels.len() as u64);
        self.channels
            .iter()
            .for_each(|channel| writer.text(channel));
        writer.number(self.horizon as u64);
        writer.number(self.origins.len() as u64);
        for origin in &self.origins {
            writer.text(origin.split.name());
            writer.text(&origin.entity);
            writer.number(origin.row as u64);
        }
        writer.floats(&self.predicted);
        writer.floats(&self.actual);
        writer.bytes(&self.judged);
        writer.number(self.naive_error.len() as u64);
        self.naive_error
            .iter()
            .for_each(|error| writer.real(*error));
        // Without times the digest is that of days when forecasts had none.
        if !self.times.is_empty() {
            writer.text("times");
            writer.integers(&self.times);
        }
        writer.finish()
    }

    /// A row per window and step: where it lies, then `judged.CHANNEL` if not all values are judged, `actual.CHANNEL` and
    /// `predicted.CHANNEL`.
    pub(super) fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        self.validate()
            .map_err(|reason| ArtifactError::corrupt(WHAT, reason))?;
        let mut fields = places::fields();
        fields.push(Field::new("row", DataType::UInt64, false));
        fields.push(Field::new("step", DataType::UInt32, false));
        let rows = self.windows() * self.horizon;
        let mut origin_rows = Vec::with_capacity(rows);
        let mut steps = Vec::with_capacity(rows);
        for origin in &self.origins {
            origin_rows.extend(std::iter::repeat_n(origin.row as u64, self.horizon));
            steps.extend(0..self.horizon as u32);
        }
        let runs = |text: fn(&Origin) -> &str| {
            let texts = self.origins.iter().map(text);
            places::repeated(texts.map(|text| (text, self.horizon)))
        };
        let mut leading: Vec<ArrayRef> = vec![
            runs(|origin| &origin.entity),
            runs(|origin| origin.split.name()),
            places::time_array(&self.times, rows),
            Arc::new(UInt64Array::from(origin_rows)),
            Arc::new(UInt32Array::from(steps)),
        ];
        if !self.judged.is_empty() {
            for (channel, name) in self.channels.iter().enumerate() {
                let marks = self.judged.iter().skip(channel).step_by(self.width());
                fields.push(Field::new(format!("judged.{name}"), DataType::UInt8, false));
                leading.push(Arc::new(marks.copied().collect::<UInt8Array>()));
            }
        }
        for block in ["actual", "predicted"] {
            let field =
                |name: &String| Field::new(format!("{block}.{name}"), DataType::Float32, false);
            fields.extend(self.channels.iter().map(field));
        }
        let metadata = Metadata::new(WHAT)
            .with("channels", &self.channels)
            .with("horizon", &self.horizon)
            .with(
                "naive_error",
                &self
                    .naive_error
                    .iter()
                    .copied()
                    .map(Real)
                    .collect::<Vec<_>>(),
            );
        columns::write_rows(
            Schema::new(fields),
            leading,
            Rows::narrow(&[&self.actual, &self.predicted]),
            metadata,
            sink,
        )
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        let (batch, metadata) = columns::read(bytes, WHAT)?;
        let channels: Vec<String> = metadata.get("channels")?;
        let horizon: usize = metadata.get("horizon")?;
        let naive_error: Vec<Real> = metadata.get("naive_error")?;
        let mut times = Vec::new();
        // How many columns say where a row lies.
        let leading = if metadata.is_before(2) {
            4
        } else {
            places::append_times(&batch, 2, &mut times, WHAT)?;
            5
        };
        let origins = read_origins(&batch, leading, horizon)?;
        // Columns are found by their places, since two channels may have one name.
        let width = channels.len();
        let first = match batch.num_columns().checked_sub(leading) {
            Some(columns) if columns == 2 * width => leading,
            Some(columns) if columns == 3 * width => leading + width,
            _ => {
                return Err(ArtifactError::corrupt(
                    WHAT,
                    "it has other columns than its footer announces",
                ));
            }
        };
        let mut judged = Vec::new();
        if first > leading {
            judged = vec![0; batch.num_rows() * width];
            for channel in 0..width {
                let marks = columns::column::<UInt8Array>(&batch, leading + channel, WHAT)?;
                let places = judged.iter_mut().skip(channel).step_by(width);
                places
                    .zip(marks.values())
                    .for_each(|(place, mark)| *place = *mark);
            }
        }
        let forecasts = Self {
            origins,
            times,
            actual: columns::columns_to_rows(&batch, first..first + width, WHAT)?,
            predicted: columns::columns_to_rows(&batch, first + width..first + 2 * width, WHAT)?,
            judged,
            naive_error: naive_error.into_iter().map(|Real(value)| value).collect(),
            channels,
            horizon,
        };
        forecasts
            .validate()
            .map_err(|reason| ArtifactError::corrupt(WHAT, reason))?;
        Ok(forecasts)
    }
}

/// Where the windows lie: what the first row of each says, which the others repeat.
fn read_origins(
    batch: &RecordBatch,
    leading: usize,
    horizon: usize,
) -> Result<Vec<Origin>, ArtifactError> {
    // Once, the split stood before the entity, and no time between them and the row.
    let (entity, split) = if leading == 4 { (1, 0) } else { (0, 1) };
    let entities = columns::column::<StringArray>(batch, entity, WHAT)?;
    let splits = columns::column::<StringArray>(batch, split, WHAT)?;
    let rows = columns::column::<UInt64Array>(batch, leading - 2, WHAT)?;
    let steps = columns::column::<UInt32Array>(batch, leading - 1, WHAT)?;
    let place = |at: usize| (entities.value(at), splits.value(at), rows.value(at));
    let mut origins: Vec<Origin> = Vec::new();
    for at in 0..batch.num_rows() {
        let step = at % horizon.max(1);
        if steps.value(at) as usize != step || place(at) != place(at - step) {
            let reason = format!("row {at} is not step {step} of the window before it");
            return Err(ArtifactError::corrupt(WHAT, reason));
        }
        if step > 0 {
            continue;
        }
        let split = splits.value(at).parse();
        origins.push(Origin {
            split: split.map_err(|reason: String| ArtifactError::corrupt(WHAT, reason))?,
            entity: entities.value(at).to_owned(),
            row: rows.value(at) as usize,
        });
    }
    Ok(origins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Forecasts {
        let origin = |split, row| Origin {
            split,
            entity: "m".into(),
            row,
        };
        Forecasts {
            channels: vec!["load".into(), "oil temperature".into()],
            horizon: 3,
            origins: vec![origin(Split::Validation, 5), origin(Split::Test, 9)],
            times: (0..6).map(|step| step * 60_000).collect(),
            predicted: (0..12).map(|value| value as f32 * 0.5).collect(),
            actual: (0..12).map(|value| value as f32).collect(),
            judged: Vec::new(),
            naive_error: vec![0.5, 1.0],
        }
    }

    #[test]
    fn survives_its_file() {
        let mut imputed = sample();
        imputed.judged = vec![1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0];
        imputed.naive_error.clear();
        imputed.times.clear();
        let mut wide = sample();
        wide.channels = (0..6).map(|channel| format!("c{channel}")).collect();
        wide.horizon = 1;
        wide.naive_error.clear();
        let mut none = sample();
        (none.origins, none.predicted, none.actual) = Default::default();
        none.times.clear();
        wide.times.truncate(2);
        for forecasts in [sample(), imputed, wide, none] {
            let mut bytes = Vec::new();
            forecasts.encode_to(&mut bytes).unwrap();
            let again = Forecasts::decode(bytes).unwrap();
            assert_eq!(forecasts, again);
            assert_eq!(forecasts.digest(), again.digest());
        }
        assert_eq!(sample().of_split(Split::Test).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn refuses_parts_that_do_not_fit() {
        let mut short = sample();
        short.actual.pop();
        let mut marks = sample();
        marks.judged = vec![1];
        let mut errors = sample();
        errors.naive_error.pop();
        let mut steps = sample();
        steps.horizon = 0;
        for wrong in [short, marks, errors, steps] {
            assert!(wrong.validate().is_err());
            assert!(wrong.encode_to(&mut std::io::sink()).is_err());
        }
    }

    #[test]
    fn digest_sees_every_part() {
        let base = sample().digest();
        let changes: [fn(&mut Forecasts); 8] = [
            |forecasts| forecasts.times[2] = 1,
            |forecasts| forecasts.channels[0].push('x'),
            |forecasts| forecasts.horizon = 2,
            |forecasts| forecasts.origins[0].row = 6,
            |forecasts| forecasts.predicted[1] = 7.0,
            |forecasts| forecasts.actual[1] = 7.0,
            |forecasts| forecasts.judged = vec![1; 12],
            |forecasts| forecasts.naive_error[1] = 2.0,
        ];
        for change in changes {
            let mut changed = sample();
            change(&mut changed);
            assert_ne!(base, changed.digest());
        }
    }
}
