//! Names as MLflow takes them: letters, digits and `_-. :/`, at most 250 characters. The map is one-to-one: what MLflow
//! refuses is written behind a colon, and so is the colon itself.

use std::fmt::Write;

use contract::artifact::Digest;

/// Longer keys are cut. MLflow takes 250 characters, and as names of files they have at most 255 bytes.
const LONGEST: usize = 240;

/// Hexadecimal digits of the digest behind a key that was cut.
const DIGITS: usize = 32;

/// MLflow keeps so much of a parameter's value.
const LONGEST_PARAMETER: usize = 6000;

/// And so much of a tag's.
const LONGEST_TAG: usize = 8000;

/// The key that stands for a name. Different names have different keys.
pub(super) fn key(name: &str) -> String {
    if name.is_empty() {
        return ":".to_owned();
    }
    let mut key = String::with_capacity(name.len());
    for (place, character) in name.char_indices() {
        match character {
            // What names of instances are made of stays readable: `model[lr=0.1,seed=2].f1`.
            '[' => key.push_str(": "),
            ']' => key.push_str(":."),
            ',' => key.push_str(":_"),
            '=' => key.push_str("::"),
            // A key that begins with a dot leads elsewhere.
            '.' if place == 0 => escape(character, &mut key),
            character if is_taken(character) => key.push(character),
            character => escape(character, &mut key),
        }
    }
    shortened_to(key, ":-", name)
}

fn escape(character: char, into: &mut String) {
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(into, ":{byte:02X}");
    }
}

/// A key if it is short enough, or else as much of it as fits, and behind a mark, which no escape gives, a digest of the
/// whole name.
fn shortened_to(key: String, mark: &str, name: &str) -> String {
    if key.len() <= LONGEST {
        return key;
    }
    let mut end = LONGEST - mark.len() - DIGITS;
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    let digest = Digest::of_bytes(name.as_bytes()).to_string();
    format!("{}{mark}{}", &key[..end], &digest[..DIGITS])
}

/// The path of an artifact as a server takes it. Servers decode percent signs again and again and read `#` and `?` as parts of an
/// address, so that all of these are written behind `~`. The path is made of names as [`crate::cache::file_name`] writes them,
/// which have no other escapes than behind a percent sign; different ones stay different.
pub(super) fn artifact_path(path: &str) -> String {
    let parts: Vec<String> = path.split('/').map(artifact_part).collect();
    parts.join("/")
}

fn artifact_part(part: &str) -> String {
    let mut written = String::with_capacity(part.len());
    for character in part.chars() {
        match character {
            '%' => written.push('~'),
            character if character.is_ascii_alphanumeric() || "_-.=[],+@ ".contains(character) => {
                written.push(character)
            }
            character if character.is_ascii() => {
                let _ = write!(written, "~{:02X}", u32::from(character));
            }
            character => written.push(character),
        }
    }
    shortened_to(written, "~-", part)
}

/// Characters that MLflow's pattern has: `\w` of Python, as far as it certainly goes, and some signs.
fn is_taken(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || "_-. ".contains(character)
        || matches!(character, '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{24f}')
        || matches!(character, '\u{391}'..='\u{3a1}' | '\u{3a3}'..='\u{3c9}' | '\u{400}'..='\u{481}')
        || matches!(character, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}')
        || matches!(character, '\u{ac00}'..='\u{d7a3}')
}

/// A parameter's value; one that is too long is cut and told from others by a digest.
pub(super) fn parameter(value: &str) -> String {
    shortened(value, LONGEST_PARAMETER)
}

/// A tag's value, likewise.
pub(super) fn tag(value: &str) -> String {
    shortened(value, LONGEST_TAG)
}

fn shortened(value: &str, longest: usize) -> String {
    if value.chars().nth(longest).is_none() {
        return value.to_owned();
    }
    let end = format!("… (blake3:{})", Digest::of_bytes(value.as_bytes()));
    let kept: String = value.chars().take(longest - end.chars().count()).collect();
    kept + &end
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_those_that_mlflow_takes() {
        assert_eq!(key("metrics.vus_pr"), "metrics.vus_pr");
        assert_eq!(
            key("model[machine=m-1,lr=1.0e-2].f1"),
            "model: machine::m-1:_lr::1.0e-2:..f1"
        );
        assert_eq!(
            key("../x/ü%"),
            ":2E./x/ü%".replace('/', ":2F").replace('%', ":25")
        );
        assert_eq!(
            [key(""), key(":"), key("e\u{301}")],
            [":", ":3A", "e:CC:81"]
        );
        let (one, other) = (
            key(&format!("{}1", "é".repeat(300))),
            key(&format!("{}2", "é".repeat(300))),
        );
        assert!(one != other && one.len() <= LONGEST);
    }

    #[test]
    fn servers_need_not_decode_paths_of_artifacts() {
        use crate::cache::FilePaths;
        let path = |path: &str| artifact_path(&FilePaths::of([path]).path(path));
        assert_eq!(path("it[v=a b]/é.txt"), "it[v=a b]/é.txt");
        assert_eq!(path("a%2Fb/c#d?~e"), "a~252Fb/c~23d~3F~7Ee");
        let names = [
            "a%b", "a~b", "a~25b", "a~7Eb", "", "~", "a.", "a~2E", "a#", "a~23",
        ];
        let distinct: std::collections::BTreeSet<String> =
            names.iter().map(|name| path(name)).collect();
        assert_eq!(distinct.len(), names.len());
        assert!(path(&"\"".repeat(200)).len() <= LONGEST);
    }

    #[test]
    fn long_values_stay_apart() {
        let (one, other) = (
            format!("{}1", "é".repeat(7000)),
            format!("{}2", "é".repeat(7000)),
        );
        assert_ne!(parameter(&one), parameter(&other));
        assert_eq!(
            (parameter(&one).chars().count(), tag(&one)),
            (LONGEST_PARAMETER, one)
        );
    }

    proptest! {
        #[test]
        fn different_names_have_different_keys(names in proptest::collection::vec(hostile_name(), 2..40)) {
            let mut keys: BTreeMap<String, String> = BTreeMap::new();
            for name in names {
                let key = key(&name);
                prop_assert!(!key.is_empty() && key.len() <= 250 && !key.starts_with('.') && !key.contains('/'));
                prop_assert!(key.chars().all(|one| one == ':' || is_taken(one)), "{key}");
                let known = keys.insert(key, name.clone());
                prop_assert!(known.is_none_or(|known| known == name));
            }
        }
    }

    fn hostile_name() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            proptest::sample::select(vec![
                "a", "[", "]", "=", ",", ":", " ", ".", "..", "/", "_", "-", ":-", ":5B", "5B",
                "é", "e\u{301}", "\n",
            ])
            .prop_map(str::to_owned),
            (1_usize..300).prop_map(|count| "x".repeat(count)),
            ".{0,3}",
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }
}
