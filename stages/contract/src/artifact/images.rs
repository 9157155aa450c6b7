//! A set of pictures of one size with classes, in Parquet as other tools read it: a column `image` of PNG files in the
//! form that Hugging Face's `datasets` gives it, `label`, `class` and `split` beside it. Pictures stay encoded in memory
//! and are decoded when they are used.

mod png;

use std::io::Write;
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, Int64Array, RecordBatch, StringArray,
    StringViewArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use rayon::prelude::*;
use serde_json::json;

use super::columns::{self, Metadata};
use super::series::optional;
use super::{ArtifactError, Digest, DigestWriter, Shown, Source, Split};

/// Red, green, blue.
pub const COLOURS: usize = 3;

const WHAT: &str = "images";

/// Rows of a record batch: so many pictures stay far below the 2 GB that a column of bytes can address.
const BATCH: usize = 1024;

/// One picture.
#[derive(Clone, Debug)]
pub struct Image {
    /// Names the sample, such as `mean_shift/0017`.
    pub name: String,
    pub split: Split,
    /// Index of its class; `None` if that is not known.
    pub label: Option<u32>,
    file: Arc<[u8]>,
    /// Of the decoded pixels, once they were seen.
    digest: OnceLock<Digest>,
}

impl Image {
    /// A picture of `rgb`, `[height, width, 3]`, which is compressed here.
    ///
    /// # Errors
    /// If the pixels are not as many as the size says.
    pub fn from_rgb(
        name: impl Into<String>,
        split: Split,
        label: Option<u32>,
        (height, width): (usize, usize),
        rgb: &[u8],
    ) -> Result<Self, ArtifactError> {
        let file = png::encode(height, width, rgb)?.into();
        Ok(Self {
            name: name.into(),
            split,
            label,
            file,
            digest: OnceLock::from(digest_of(height, width, rgb)),
        })
    }

    /// A picture from a PNG file.
    pub fn from_file(
        name: impl Into<String>,
        split: Split,
        label: Option<u32>,
        file: Vec<u8>,
    ) -> Self {
        Self {
            name: name.into(),
            split,
            label,
            file: file.into(),
            digest: OnceLock::new(),
        }
    }

    /// The bytes of the PNG file.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    /// Height and width in pixels, from the head of the file. There are never more pixels than its bytes can hold.
    ///
    /// # Errors
    /// If it is not a PNG file, or too short for its size.
    pub fn size(&self) -> Result<(usize, usize), ArtifactError> {
        png::size(&self.file)
    }

    /// Decodes the picture into `[height, width, 3]`; transparent parts show white.
    ///
    /// # Errors
    /// If the file is damaged or `rgb` has not the size of the picture.
    pub fn decode_into(&self, rgb: &mut [u8]) -> Result<(), ArtifactError> {
        png::decode_into(&self.file, rgb)
    }

    /// Height, width and the decoded pixels, `[height, width, 3]`.
    pub(super) fn to_rgb(&self) -> Result<(usize, usize, Vec<u8>), ArtifactError> {
        let (height, width) = self.size()?;
        let mut rgb = vec![0; height * width * COLOURS];
        self.decode_into(&mut rgb)?;
        Ok((height, width, rgb))
    }

    /// The digest of the decoded pixels.
    fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| {
            let decoded = self
                .to_rgb()
                .map(|(height, width, rgb)| digest_of(height, width, &rgb));
            // What cannot be decoded is told apart by its bytes; whoever looks at the picture gets the error.
            decoded.unwrap_or_else(|_| Digest::of_bytes(&self.file))
        })
    }
}

fn digest_of(height: usize, width: usize, rgb: &[u8]) -> Digest {
    let mut writer = DigestWriter::new("image");
    writer.number(height as u64);
    writer.number(width as u64);
    writer.bytes(rgb);
    writer.finish()
}

/// Pictures of one size, each of one of several classes.
#[derive(Clone, Debug)]
pub struct Images {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// What a label means: `classes[label]`.
    pub classes: Vec<String>,
    pub images: Vec<Image>,
}

impl Images {
    pub fn len(&self) -> usize {
        self.images.len()
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Indices of the pictures of one split, in order.
    pub fn of_split(&self, split: Split) -> Vec<usize> {
        (0..self.len())
            .filter(|index| self.images[*index].split == split)
            .collect()
    }

    /// Decodes some pictures, in parallel, into `[indices, height, width, 3]`: red, green and blue from 0 to 255.
    ///
    /// # Errors
    /// If a picture is damaged.
    pub fn pixels(&self, indices: &[usize]) -> Result<Vec<u8>, ArtifactError> {
        let size = self
            .height
            .saturating_mul(self.width)
            .saturating_mul(COLOURS);
        let mut pixels = vec![0; indices.len() * size];
        let pairs = pixels.par_chunks_mut(size.max(1)).zip(indices);
        pairs.try_for_each(|(rgb, index)| self.images[*index].decode_into(rgb))?;
        Ok(pixels)
    }

    /// Checks that the parts fit each other; who makes images calls it before handing them on.
    ///
    /// # Errors
    /// The first picture of another size or with a label that is no class.
    pub fn validate(&self) -> Result<(), String> {
        for image in &self.images {
            let name = &image.name;
            let (height, width) = image
                .size()
                .map_err(|error| format!("the picture `{}`: {error}", Shown(name)))?;
            if (height, width) != (self.height, self.width) {
                let (name, expected) = (Shown(name), format!("{}x{}", self.width, self.height));
                return Err(format!(
                    "the picture `{name}` is {width}x{height}, not {expected}"
                ));
            }
            if image
                .label
                .is_some_and(|label| label as usize >= self.classes.len())
            {
                let (name, classes) = (Shown(name), self.classes.len());
                return Err(format!(
                    "the picture `{name}` has a label beyond the {classes} classes"
                ));
            }
        }
        Ok(())
    }

    pub fn digest(&self) -> Digest {
        let pixels: Vec<Digest> = self.images.par_iter().map(Image::digest).collect();
        let mut writer = DigestWriter::new(WHAT);
        writer.number(self.height as u64);
        writer.number(self.width as u64);
        writer.number(self.classes.len() as u64);
        self.classes.iter().for_each(|class| writer.text(class));
        writer.number(self.images.len() as u64);
        for (image, pixels) in self.images.iter().zip(&pixels) {
            writer.text(&image.name);
            writer.text(image.split.name());
            writer.flag(image.label.is_some());
            writer.number(image.label.map_or(0, u64::from));
            writer.digest(pixels);
        }
        writer.finish()
    }

    pub(super) fn encode_to(&self, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
        let fields = vec![
            Field::new("image", DataType::Struct(image_fields()), true),
            Field::new("label", DataType::Int64, true),
            Field::new("class", DataType::Utf8, true),
            Field::new("split", DataType::Utf8, false),
        ];
        let metadata = Metadata::new(WHAT)
            .with("size", &(self.height, self.width))
            .with("classes", &self.classes)
            .with_foreign("huggingface", &self.hugging_face());
        let batches = self.images.chunks(BATCH).map(|images| self.columns(images));
        columns::write_batches(Schema::new(fields), batches, metadata, sink)
    }

    fn columns(&self, images: &[Image]) -> Vec<ArrayRef> {
        let files: BinaryArray = images.iter().map(|image| Some(image.file())).collect();
        let paths: StringArray = images
            .iter()
            .map(|image| Some(format!("{}.png", image.name)))
            .collect();
        let class = |image: &Image| Some(self.classes.get(image.label? as usize)?.as_str());
        vec![
            Arc::new(StructArray::new(
                image_fields(),
                vec![Arc::new(files), Arc::new(paths)],
                None,
            )),
            Arc::new(
                images
                    .iter()
                    .map(|image| image.label.map(i64::from))
                    .collect::<Int64Array>(),
            ),
            Arc::new(images.iter().map(class).collect::<StringArray>()),
            Arc::new(
                images
                    .iter()
                    .map(|image| Some(image.split.name()))
                    .collect::<StringArray>(),
            ),
        ]
    }

    /// What `datasets` wants to know: which column is a picture, and the names of the labels.
    fn hugging_face(&self) -> serde_json::Value {
        let text = || json!({"dtype": "string", "_type": "Value"});
        json!({"info": {"features": {
            "image": {"_type": "Image"},
            "label": {"names": self.classes, "_type": "ClassLabel"},
            "class": text(),
            "split": text(),
        }}})
    }

    pub(super) fn decode(source: Source) -> Result<Self, ArtifactError> {
        let file = columns::open(source, WHAT)?;
        let (height, width) = file.metadata().get("size")?;
        let classes = file.metadata().get("classes")?;
        let mut images = Vec::with_capacity(file.rows());
        let mut allowance = file.allowance();
        file.read_batches(BATCH, |batch| append(batch, &mut images, &mut allowance))?;
        let images = Self {
            height,
            width,
            classes,
            images,
        };
        images
            .validate()
            .map_err(|reason| ArtifactError::corrupt(WHAT, reason))?;
        Ok(images)
    }
}

/// Appends the pictures of a batch, as far as their bytes are allowed.
fn append(
    batch: &RecordBatch,
    images: &mut Vec<Image>,
    allowance: &mut usize,
) -> Result<(), ArtifactError> {
    let corrupt = |reason: &str| ArtifactError::corrupt(WHAT, reason);
    let missing = || corrupt("a column is missing");
    let pictures = optional::<StructArray>(batch, "image").ok_or_else(missing)?;
    let part = |name: &str| pictures.column_by_name(name).ok_or_else(missing);
    let files = part("bytes")?
        .as_any()
        .downcast_ref::<BinaryViewArray>()
        .ok_or_else(missing)?;
    let paths = part("path")?
        .as_any()
        .downcast_ref::<StringViewArray>()
        .ok_or_else(missing)?;
    let labels = optional::<Int64Array>(batch, "label").ok_or_else(missing)?;
    let splits = optional::<StringViewArray>(batch, "split").ok_or_else(missing)?;
    for row in 0..batch.num_rows() {
        let label = labels
            .is_valid(row)
            .then(|| u32::try_from(labels.value(row)));
        let label = label
            .transpose()
            .map_err(|_| corrupt("a label is out of range"))?;
        let split = splits
            .value(row)
            .parse()
            .map_err(|reason: String| corrupt(&reason))?;
        let (path, file) = (paths.value(row), files.value(row));
        let left = allowance
            .checked_sub(path.len())
            .and_then(|left| left.checked_sub(file.len()));
        *allowance = left.ok_or_else(|| columns::too_much_text(WHAT))?;
        let name = path.strip_suffix(".png").unwrap_or(path);
        images.push(Image::from_file(name, split, label, file.to_vec()));
    }
    Ok(())
}

/// The fields of a picture as `datasets` lays them out. It takes a column for pictures only if its type is the very same,
/// which includes that values may be missing, although none are.
fn image_fields() -> Fields {
    vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn sample(count: usize) -> Images {
        let (height, width) = (5, 7);
        let image = |index: usize| {
            let rgb: Vec<u8> = (0..height * width * COLOURS)
                .map(|value| (value * (index + 3)) as u8)
                .collect();
            let split = Split::ALL[index % 4];
            let label = (index % 3 < 2).then_some(index as u32 % 3);
            Image::from_rgb(
                format!("sample/{index}"),
                split,
                label,
                (height, width),
                &rgb,
            )
            .unwrap()
        };
        let classes = vec!["flat".to_owned(), "steep".to_owned()];
        Images {
            height,
            width,
            classes,
            images: (0..count).map(image).collect(),
        }
    }

    #[test]
    fn survives_its_file_whatever_the_number_of_batches() {
        for count in [0, 1, 6, BATCH + 3] {
            let images = sample(count);
            images.validate().unwrap();
            let mut bytes = Vec::new();
            images.encode_to(&mut bytes).unwrap();
            let again = Images::decode(bytes.into()).unwrap();
            assert_eq!(
                again.digest(),
                images.digest(),
                "decoding again gives the digest that the maker gave"
            );
            assert_eq!((again.len(), &again.classes), (count, &images.classes));
            let all: Vec<usize> = (0..count).collect();
            assert_eq!(again.pixels(&all).unwrap(), images.pixels(&all).unwrap());
            for (left, right) in images.images.iter().zip(&again.images) {
                assert_eq!(
                    (&left.name, left.split, left.label),
                    (&right.name, right.split, right.label)
                );
            }
        }
    }

    /// `datasets` compares the types with its own, and hands out bytes instead of pictures if they differ.
    #[test]
    fn the_column_of_pictures_has_the_very_type_of_other_tools() {
        let mut bytes = Vec::new();
        sample(3).encode_to(&mut bytes).unwrap();
        let file = ParquetRecordBatchReaderBuilder::try_new(Source::from(bytes)).unwrap();
        let part = |name, of| Field::new(name, of, true);
        let parts = vec![
            part("bytes", DataType::Binary),
            part("path", DataType::Utf8),
        ];
        let expected = Field::new("image", DataType::Struct(parts.into()), true);
        assert_eq!(*file.schema().field(0), expected);
        assert_eq!(file.metadata().file_metadata().num_rows(), 3);
    }

    #[test]
    fn pixels_come_in_the_order_that_was_asked_for() {
        let images = sample(4);
        let size = 5 * 7 * COLOURS;
        let some = images.pixels(&[2, 0]).unwrap();
        assert_eq!(some[..size], images.pixels(&[2]).unwrap());
        assert_eq!(some[size..], images.pixels(&[0]).unwrap());
        assert_eq!(images.of_split(Split::Validation), [1]);
    }

    #[test]
    fn the_digest_is_about_content_and_not_compression() {
        let images = sample(3);
        let mut stored = images.clone();
        for image in &mut stored.images {
            let mut rgb = vec![0; 5 * 7 * COLOURS];
            image.decode_into(&mut rgb).unwrap();
            *image = Image::from_file(
                &image.name,
                image.split,
                image.label,
                png::tests::uncompressed(5, 7, &rgb),
            );
        }
        assert_ne!(images.images[0].file(), stored.images[0].file());
        assert_eq!(images.digest(), stored.digest());
        let mut label = images.clone();
        label.images[0].label = Some(1);
        let mut class = images.clone();
        class.classes[0] = "level".into();
        let mut pixel = images.clone();
        pixel.images[1] =
            Image::from_rgb("sample/1", Split::Validation, Some(1), (5, 7), &[9; 105]).unwrap();
        for changed in [label, class, pixel] {
            assert_ne!(changed.digest(), images.digest());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut images = sample(3);
        images.images[1].label = Some(2);
        assert!(
            images
                .validate()
                .unwrap_err()
                .contains("`sample/1` has a label beyond the 2 classes")
        );
        images.height = 6;
        assert!(images.validate().unwrap_err().contains("is 7x5, not 7x6"));
        images.images[0] = Image::from_file("x", Split::Test, None, vec![1, 2, 3]);
        assert!(images.validate().unwrap_err().contains("the picture `x`"));
        assert!(images.pixels(&[0]).is_err());
        let _ = images.digest();
    }
}
