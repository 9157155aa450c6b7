//! Logical digests: blake3 over tagged, length-prefixed content, so that no two contents share a byte stream.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A blake3 digest, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of bytes as they are: blobs and object files.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest and the number of the bytes that a reader gives until its end.
    ///
    /// # Errors
    /// If reading fails.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let (mut digest, mut bytes) = (ByteDigest::default(), 0);
        // Most files are small, and clearing a long buffer would take longer than hashing them.
        let mut piece = vec![0; PIECE / 16];
        loop {
            match reader.read(&mut piece)? {
                0 => return Ok((digest.finish(), bytes)),
                read => {
                    digest.update(&piece[..read]);
                    bytes += read as u64;
                }
            }
            if bytes >= piece.len() as u64 {
                piece.resize(PIECE, 0);
            }
        }
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
        let hash = blake3::Hash::from_hex(text)
            .map_err(|_| format!("`{}` is not a blake3 digest", super::Shown(text)))?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Digits)
    }
}

/// Reads the digits where they stand: ledgers hold tens of thousands of digests.
struct Digits;

impl Visitor<'_> for Digits {
    type Value = Digest;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Digest, E> {
        text.parse().map_err(E::custom)
    }
}

/// Bytes that are read and hashed at a time.
const PIECE: usize = 256 * 1024;

/// The digest of bytes that come in pieces; the same as [`Digest::of_bytes`] of all of them.
#[derive(Clone, Debug, Default)]
pub struct ByteDigest(blake3::Hasher);

impl ByteDigest {
    /// Takes the next bytes. Pieces of 16 KiB and more are hashed several times as fast as short ones.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// Items are gathered up to this many bytes before they are hashed: most are a few bytes long, and blake3 wants more.
const GATHERED: usize = 1024;

/// Feeds logical content to blake3. Every item carries its type and its length.
pub struct DigestWriter {
    hasher: blake3::Hasher,
    /// Not hashed yet.
    gathered: Vec<u8>,
}

impl DigestWriter {
    /// Starts a digest in the domain `what`: equal content of two domains never collides.
    pub fn new(what: &str) -> Self {
        let mut writer = Self {
            hasher: blake3::Hasher::new(),
            gathered: Vec::with_capacity(GATHERED),
        };
        writer.text(what);
        writer
    }

    fn item(&mut self, tag: u8, bytes: &[u8]) {
        const HEAD: usize = 9;
        if self.gathered.len() + HEAD + bytes.len() > GATHERED {
            self.hash_gathered();
        }
        self.gathered.push(tag);
        self.gathered
            .extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        if HEAD + bytes.len() > GATHERED {
            self.hash_gathered();
            self.hasher.update(bytes);
        } else {
            self.gathered.extend_from_slice(bytes);
        }
    }

    fn hash_gathered(&mut self) {
        self.hasher.update(&self.gathered);
        self.gathered.clear();
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

    /// 64-bit floats by their bits.
    pub fn reals(&mut self, values: &[f64]) {
        self.item(b'D', little_endian_bytes(values));
    }

    /// 64-bit integers.
    pub fn integers(&mut self, values: &[i64]) {
        self.item(b'i', little_endian_bytes(values));
    }

    pub fn digest(&mut self, digest: &Digest) {
        self.item(b'#', &digest.0);
    }

    pub fn finish(mut self) -> Digest {
        self.hash_gathered();
        Digest(*self.hasher.finalize().as_bytes())
    }
}

/// The memory of plain numbers as bytes.
fn little_endian_bytes<T: arrow::datatypes::ArrowNativeType>(values: &[T]) -> &[u8] {
    const {
        assert!(
            cfg!(target_endian = "little"),
            "digests are defined over little-endian content"
        )
    };
    arrow::datatypes::ToByteSlice::to_byte_slice(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_changes_no_digest() {
        let content: Vec<u8> = (0..3 * GATHERED).map(|index| index as u8).collect();
        let (mut writer, mut stream) = (
            DigestWriter::new("test"),
            b"t\x04\0\0\0\0\0\0\0test".to_vec(),
        );
        for length in (0..content.len()).step_by(97).chain([
            GATHERED - 10,
            GATHERED - 9,
            GATHERED - 8,
            GATHERED,
        ]) {
            writer.bytes(&content[..length]);
            stream.push(b'b');
            stream.extend_from_slice(&(length as u64).to_le_bytes());
            stream.extend_from_slice(&content[..length]);
            writer.flag(true);
            stream.extend_from_slice(b"?\x01\0\0\0\0\0\0\0\x01");
        }
        assert_eq!(writer.finish(), Digest::of_bytes(&stream));
    }

    #[test]
    fn pieces_make_the_digest_of_the_whole() {
        let content: Vec<u8> = (0..2 * PIECE + 3)
            .map(|index| (index % 255) as u8)
            .collect();
        for length in [0, 1, PIECE, PIECE + 1, content.len()] {
            let whole = &content[..length];
            assert_eq!(
                Digest::of_reader(whole).unwrap(),
                (Digest::of_bytes(whole), length as u64)
            );
            let mut digest = ByteDigest::default();
            whole.chunks(1000).for_each(|piece| digest.update(piece));
            assert_eq!(digest.finish(), Digest::of_bytes(whole));
        }
    }

    #[test]
    fn digests_are_read_back() {
        let digest = Digest::of_bytes(b"abc");
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(text, format!("\"{digest}\""));
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        assert_eq!(
            serde_json::from_reader::<_, Digest>(text.as_bytes()).unwrap(),
            digest
        );
        assert!(serde_json::from_str::<Digest>("\"abc\"").is_err());
        assert!(serde_json::from_str::<Digest>("7").is_err());
    }
}
