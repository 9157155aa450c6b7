//! Logical digests: blake3 over tagged, length-prefixed content, so that no two contents share a byte stream.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A blake3 digest, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of bytes as they are: blobs and object files.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The first twelve digits, enough to tell digests apart in a table.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| format!("`{text}` is not a blake3 digest"))?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Feeds logical content to blake3. Every item carries its type and its length.
pub struct DigestWriter(blake3::Hasher);

impl DigestWriter {
    /// Starts a digest in the domain `what`: equal content of two domains never collides.
    pub fn new(what: &str) -> Self {
        let mut writer = Self(blake3::Hasher::new());
        writer.text(what);
        writer
    }

    fn item(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update(&[tag]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.item(b't', text.as_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.item(b'b', bytes);
    }

    pub fn number(&mut self, number: u64) {
        self.item(b'n', &number.to_le_bytes());
    }

    pub fn real(&mut self, number: f64) {
        self.item(b'd', &number.to_bits().to_le_bytes());
    }

    pub fn flag(&mut self, flag: bool) {
        self.item(b'?', &[u8::from(flag)]);
    }

    /// 32-bit floats by their bits. Assumes a little-endian machine, like Arrow.
    pub fn floats(&mut self, values: &[f32]) {
        self.item(b'f', little_endian_bytes(values));
    }

    /// 64-bit integers.
    pub fn integers(&mut self, values: &[i64]) {
        self.item(b'i', little_endian_bytes(values));
    }

    pub fn digest(&mut self, digest: &Digest) {
        self.item(b'#', &digest.0);
    }

    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// The memory of plain numbers as bytes.
fn little_endian_bytes<T: arrow::datatypes::ArrowNativeType>(values: &[T]) -> &[u8] {
    const { assert!(cfg!(target_endian = "little"), "digests are defined over little-endian content") };
    arrow::datatypes::ToByteSlice::to_byte_slice(values)
}
