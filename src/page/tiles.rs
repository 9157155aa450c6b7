//! Numbers for the browser: arrays in tiles of fixed length, each compressed by itself, so that a page fetches only what it
//! shows. A tile is little-endian; its bytes are sorted by their place in the number (first the lowest byte of every number,
//! then the next), which compresses better, and then deflated without a header (RFC 1951). `page.js` does the reverse.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use rayon::prelude::*;
use serde::Serialize;

use crate::report::ReportError;

/// Numbers in a tile.
pub const TILE: usize = 65_536;

/// Rows that the overview of an array joins to their smallest and largest value.
pub const OVERVIEW: usize = 64;

/// Where tiles go.
pub trait TileSink: Sync {
    /// Keeps the tiles of an array under their names, which are made of letters, digits, hyphens and dots: all of them, or
    /// none where there is no room. What a page cannot do without is `needed`, and kept in any case. Returns whether they
    /// were kept.
    ///
    /// # Errors
    /// If one cannot be written.
    fn keep(&self, tiles: Vec<(String, Vec<u8>)>, needed: bool) -> Result<bool, ReportError>;
}

/// Keeps tiles in memory up to a number of bytes, for a page that carries them in itself.
pub struct Carried {
    room: Mutex<usize>,
    tiles: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Carried {
    pub fn up_to(bytes: usize) -> Self {
        Self {
            room: Mutex::new(bytes),
            tiles: Mutex::default(),
        }
    }

    /// All tiles by name.
    pub fn into_tiles(self) -> BTreeMap<String, Vec<u8>> {
        self.tiles
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl TileSink for Carried {
    fn keep(&self, tiles: Vec<(String, Vec<u8>)>, needed: bool) -> Result<bool, ReportError> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = tiles.iter().map(|(_, bytes)| bytes.len()).sum();
        if bytes > *room && !needed {
            return Ok(false);
        }
        *room = room.saturating_sub(bytes);
        let mut kept = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(tiles);
        Ok(true)
    }
}

/// Keeps tiles as files of a folder that exists.
pub struct InFolder(PathBuf);

impl InFolder {
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }
}

impl TileSink for InFolder {
    fn keep(&self, tiles: Vec<(String, Vec<u8>)>, _: bool) -> Result<bool, ReportError> {
        for (name, bytes) in tiles {
            let path = self.0.join(name);
            fs::write(&path, bytes).map_err(ReportError::io("write", &path))?;
        }
        Ok(true)
    }
}

/// Numbers of one width.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    Single(Vec<f32>),
    Double(Vec<f64>),
}

/// What a page needs to know of an array to read its tiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArrayNote {
    /// The tiles are `NAME.0`, `NAME.1` and so on; those of the overview `NAME.o.0` and so on.
    pub name: String,
    pub length: usize,
    /// Bytes of a number.
    pub width: usize,
    /// Whether there are tiles of every number, and not of the overview alone.
    pub whole: bool,
    /// The smallest and the largest number; none if there is no number.
    pub range: Option<(f64, f64)>,
}

impl Numbers {
    pub fn len(&self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Double(values) => values.len(),
        }
    }

    /// The smallest and the largest of every [`OVERVIEW`] values, in turns. What is not a number is passed over; a stretch
    /// without a number gives NaN twice.
    fn overview(&self) -> Self {
        match self {
            Self::Single(values) => Self::Single(ends(values, f32::NAN, f32::min, f32::max)),
            Self::Double(values) => Self::Double(ends(values, f64::NAN, f64::min, f64::max)),
        }
    }

    fn range(&self) -> Option<(f64, f64)> {
        let (low, high) = match self {
            Self::Single(values) => (
                f64::from(values.iter().copied().fold(f32::NAN, f32::min)),
                f64::from(values.iter().copied().fold(f32::NAN, f32::max)),
            ),
            Self::Double(values) => (
                values.iter().copied().fold(f64::NAN, f64::min),
                values.iter().copied().fold(f64::NAN, f64::max),
            ),
        };
        low.is_finite().then_some((low, high))
    }

    /// Writes the overview, and every number if there is room.
    ///
    /// # Errors
    /// If a tile cannot be written.
    pub fn keep(&self, sink: &dyn TileSink, name: &str) -> Result<ArrayNote, ReportError> {
        sink.keep(self.overview().tiles(&format!("{name}.o")), true)?;
        let whole = sink.keep(self.tiles(name), false)?;
        Ok(self.note(name, whole))
    }

    /// Writes every number of an array that is shown whole, and no overview.
    ///
    /// # Errors
    /// If a tile cannot be written.
    pub fn keep_whole(&self, sink: &dyn TileSink, name: &str) -> Result<ArrayNote, ReportError> {
        sink.keep(self.tiles(name), true)?;
        Ok(self.note(name, true))
    }

    fn note(&self, name: &str, whole: bool) -> ArrayNote {
        ArrayNote {
            name: name.to_owned(),
            length: self.len(),
            width: match self {
                Self::Single(_) => 4,
                Self::Double(_) => 8,
            },
            whole,
            range: self.range(),
        }
    }

    fn tiles(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::Single(values) => tiles_of(name, values, f32::to_le_bytes),
            Self::Double(values) => tiles_of(name, values, f64::to_le_bytes),
        }
    }
}

fn tiles_of<T: Copy + Sync, const BYTES: usize>(
    name: &str,
    values: &[T],
    bytes_of: fn(T) -> [u8; BYTES],
) -> Vec<(String, Vec<u8>)> {
    let tiles = values.par_chunks(TILE).enumerate();
    let tiles = tiles.map(|(number, tile)| {
        let bytes: Vec<[u8; BYTES]> = tile.iter().map(|value| bytes_of(*value)).collect();
        (format!("{name}.{number}"), packed(&bytes))
    });
    tiles.collect()
}

fn ends<T: Copy>(values: &[T], nan: T, min: fn(T, T) -> T, max: fn(T, T) -> T) -> Vec<T> {
    let mut ends = Vec::with_capacity(2 * values.len().div_ceil(OVERVIEW));
    for stretch in values.chunks(OVERVIEW) {
        // Both pass over what is not a number.
        ends.push(stretch.iter().copied().fold(nan, min));
        ends.push(stretch.iter().copied().fold(nan, max));
    }
    ends
}

fn packed<const BYTES: usize>(numbers: &[[u8; BYTES]]) -> Vec<u8> {
    let mut sorted = Vec::with_capacity(numbers.len() * BYTES);
    for place in 0..BYTES {
        sorted.extend(numbers.iter().map(|number| number[place]));
    }
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(5));
    // Writing to memory does not fail.
    encoder.write_all(&sorted).unwrap_or_default();
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;

    use super::*;

    /// What the page does with a tile.
    fn unpacked(bytes: &[u8]) -> Vec<f32> {
        let mut sorted = Vec::new();
        DeflateDecoder::new(bytes).read_to_end(&mut sorted).unwrap();
        let count = sorted.len() / 4;
        let number = |index: usize| [0, 1, 2, 3].map(|place| sorted[place * count + index]);
        (0..count)
            .map(|index| f32::from_le_bytes(number(index)))
            .collect()
    }

    #[test]
    fn tiles_hold_every_number_to_the_bit() {
        let values: Vec<f32> = (0..TILE + 3).map(|row| (row as f32).sin() * 1e-3).collect();
        let sink = Carried::up_to(1 << 20);
        let note = Numbers::Single(values.clone()).keep(&sink, "a").unwrap();
        assert!(note.whole && note.length == TILE + 3, "{note:?}");
        let tiles = sink.into_tiles();
        assert_eq!(tiles.keys().collect::<Vec<_>>(), ["a.0", "a.1", "a.o.0"]);
        let back = [unpacked(&tiles["a.0"]), unpacked(&tiles["a.1"])].concat();
        let bits = |values: &[f32]| {
            values
                .iter()
                .map(|value| value.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&back), bits(&values));
    }

    #[test]
    fn an_overview_keeps_a_spike_of_one_row() {
        let mut values = vec![0.5_f32; 1000];
        values[700] = 99.0;
        values[701] = f32::NAN;
        let Numbers::Single(ends) = Numbers::Single(values).overview() else {
            panic!("the width changed")
        };
        assert_eq!(ends.len(), 2 * 1000_usize.div_ceil(OVERVIEW));
        assert_eq!(ends[2 * (700 / OVERVIEW)..][..2], [0.5, 99.0]);
        let none = Numbers::Double(vec![f64::NAN]);
        assert_eq!(none.range(), None);
    }

    #[test]
    fn what_has_no_room_is_left_out_whole() {
        // Digests do not compress.
        let noise = |row: u32| {
            let digest = contract::artifact::Digest::of_bytes(&row.to_le_bytes());
            f32::from(digest.0[0]) + f32::from(digest.0[1]) / 256.0
        };
        let numbers = Numbers::Single((0..100_000).map(noise).collect());
        let sink = Carried::up_to(20_000);
        let note = numbers.keep(&sink, "a").unwrap();
        assert!(!note.whole);
        assert_eq!(sink.into_tiles().keys().collect::<Vec<_>>(), ["a.o.0"]);
    }
}
