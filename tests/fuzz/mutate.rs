//! Mutations of bytes: of a format's own examples, with what that format finds interesting.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One change.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    /// A piece once more, elsewhere, several times.
    Repeat(Index, usize, Index, usize),
    Swap(Index, Index, usize),
    Cut(Index),
    /// A number of the text, if it has any, becomes this.
    Number(Index, Vec<u8>),
    /// Eight bytes become this number, lowest byte first.
    Word(Index, u64),
}

/// Examples with a few changes; `words` are what is put in whole.
pub fn mutated(
    examples: Vec<Vec<u8>>,
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    (select(examples), vec(change(words), 0..8)).prop_map(|(mut bytes, changes)| {
        for change in changes {
            apply(&change, &mut bytes);
        }
        bytes
    })
}

/// Numbers where types end.
const EXTREMES: [&str; 30] = [
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "127",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e38",
    "3.5e38",
    "1e39",
    "-1e39",
    "1e308",
    "1e309",
    "5e-324",
    ".nan",
    ".inf",
    "-.inf",
];

fn change(words: &'static [&'static str]) -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let word = if words.is_empty() {
        Just("\u{0}").boxed()
    } else {
        select(words).boxed()
    };
    let extreme = || select(&EXTREMES[..]).prop_map(|text| text.as_bytes().to_vec());
    let sizes = prop_oneof![
        0..40_u64,
        (0..64_u32).prop_map(|bit| 1 << bit),
        (0..64_u32).prop_map(|bit| u64::MAX >> bit)
    ];
    prop_oneof![
        2 => (at(), any::<u8>()).prop_map(|(index, byte)| Change::Set(index, byte)),
        2 => (at(), 0..8_u8).prop_map(|(index, bit)| Change::Flip(index, bit)),
        4 => (at(), word).prop_map(|(index, word)| Change::Insert(index, word.as_bytes().to_vec())),
        1 => (at(), vec(any::<u8>(), 1..6)).prop_map(|(index, bytes)| Change::Insert(index, bytes)),
        2 => (at(), 1..40_usize).prop_map(|(index, length)| Change::Delete(index, length)),
        2 => (at(), 1..200_usize, at(), prop_oneof![8 => Just(1_usize), 1 => 1..200_usize])
            .prop_map(|(from, length, to, times)| Change::Repeat(from, length, to, times)),
        1 => (at(), at(), 1..40_usize).prop_map(|(first, second, length)| Change::Swap(first, second, length)),
        1 => at().prop_map(Change::Cut),
        4 => (at(), extreme()).prop_map(|(index, number)| Change::Number(index, number)),
        1 => (at(), sizes).prop_map(|(index, word)| Change::Word(index, word)),
    ]
}

fn apply(change: &Change, bytes: &mut Vec<u8>) {
    let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
    match change {
        Change::Insert(index, new) => {
            let at = place(index, bytes);
            bytes.splice(at..at, new.iter().copied());
        }
        _ if bytes.is_empty() => {}
        Change::Set(index, byte) => *index.get_mut(bytes) = *byte,
        Change::Flip(index, bit) => *index.get_mut(bytes) ^= 1 << bit,
        Change::Delete(index, length) => {
            let at = index.index(bytes.len());
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Change::Repeat(from, length, to, times) => {
            let start = from.index(bytes.len());
            let piece = bytes[start..(start + length).min(bytes.len())].repeat(*times);
            let at = place(to, bytes);
            bytes.splice(at..at, piece);
        }
        Change::Swap(first, second, length) => {
            for step in 0..*length {
                let (a, b) = (
                    first.index(bytes.len()) + step,
                    second.index(bytes.len()) + step,
                );
                let length = bytes.len();
                bytes.swap(a % length, b % length);
            }
        }
        Change::Cut(index) => bytes.truncate(index.index(bytes.len())),
        Change::Number(index, number) => {
            let numbers = numbers(bytes);
            if !numbers.is_empty() {
                bytes.splice(index.get(&numbers).clone(), number.iter().copied());
            }
        }
        Change::Word(index, word) => {
            let at = index.index(bytes.len());
            for (place, byte) in bytes[at..].iter_mut().zip(word.to_le_bytes()) {
                *place = byte;
            }
        }
    }
}

/// Where digits stand.
fn numbers(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (index, byte) in bytes.iter().chain([&b' ']).enumerate() {
        match (
            byte.is_ascii_digit() || (start.is_some() && *byte == b'.'),
            start,
        ) {
            (true, None) => start = Some(index),
            (false, Some(first)) => {
                found.push(first..index);
                start = None;
            }
            _ => {}
        }
    }
    found
}
