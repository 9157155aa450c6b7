//! Records of the store as files: a line of JSON, then a line with the blake3 of the first. A record that was cut off,
//! or in which a bit turned over, is recognised even where it still reads well.

use contract::artifact::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A line break, a blake3 in hexadecimal digits, a line break.
const TAIL: usize = 66;

/// The bytes of a record's file.
pub(super) fn seal(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(record).expect("a record is plain data");
    let sum = Digest::of_bytes(&bytes);
    bytes.extend_from_slice(format!("\n{sum}\n").as_bytes());
    bytes
}

/// The record in a file; `None` if these are not the bytes that were written.
pub(super) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (line, sum) = bytes.split_at(bytes.len().checked_sub(TAIL)?);
    let sum = std::str::from_utf8(sum).ok()?;
    let sum: Digest = sum.strip_prefix('\n')?.strip_suffix('\n')?.parse().ok()?;
    if Digest::of_bytes(line) == sum {
        serde_json::from_slice(line).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bit_and_no_byte_can_change_unseen() {
        let record = vec!["a".to_owned(), "line\nbreak".to_owned()];
        let bytes = seal(&record);
        assert_eq!(unseal::<Vec<String>>(&bytes), Some(record));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut harmed = bytes.clone();
                harmed[at] ^= 1 << bit;
                // The sum may be written in capitals; the record is the same.
                let same = harmed.eq_ignore_ascii_case(&bytes) && at >= bytes.len() - TAIL;
                assert!(
                    same || unseal::<Vec<String>>(&harmed).is_none(),
                    "bit {bit} of byte {at}"
                );
            }
            assert_eq!(unseal::<Vec<String>>(&bytes[..at]), None, "cut off at {at}");
        }
        assert_eq!(unseal::<Vec<String>>(&[&bytes[..], b"x"].concat()), None);
    }
}
