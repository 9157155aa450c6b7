//! Names as parts of paths. The map is one-to-one by construction: it is the identity but for characters that cannot stand
//! in a name of a file or would show as something else, which are escaped as `%XX`, and the percent sign is escaped as
//! well; what is too long is cut and ends in a digest of the whole behind `%~`, which no escape gives. Names in one folder are
//! also apart where a file system takes capital letters for small ones: such a digest stands behind those that are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use contract::artifact::Digest;

/// Longer names are cut. File systems take 255 bytes, and something may be put before or behind a name.
const LONGEST: usize = 200;

/// Endings up to this length stay with a name that is cut, so that programs know the file.
const LONGEST_ENDING: usize = 16;

/// Hexadecimal digits of the digest behind a name that was cut.
const DIGITS: usize = 32;

/// The part of a path that stands for a name, whatever the name holds. Different names have different parts.
pub fn file_name(name: &str) -> String {
    if name.is_empty() {
        // Nothing else gives a percent sign without digits.
        return "%".to_owned();
    }
    let last = name.char_indices().next_back().map(|(place, _)| place);
    let mut part = String::with_capacity(name.len());
    for (place, character) in name.char_indices() {
        // `.` and `..` are folders, and some systems drop dots and blanks at an end.
        let is_dropped = Some(place) == last && (character == '.' || character == ' ');
        if is_dropped || must_be_escaped(character) {
            escape(character, &mut part);
        } else {
            part.push(character);
        }
    }
    if part.len() > LONGEST {
        part = with_digest(&part, name);
    }
    part
}

/// Names that lie in one folder, each as [`file_name`] writes it. Of those that differ in nothing but capital letters, only the
/// one in small letters is written so, and a digest stands behind the others.
#[derive(Clone, Debug, Default)]
pub struct FileNames {
    /// Names with a digest behind them, and how they are written.
    marked: BTreeMap<String, String>,
}

impl FileNames {
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut alike: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for name in names {
            let folded = folded(&file_name(name));
            alike.entry(folded).or_default().insert(name);
        }
        let mut marked = BTreeMap::new();
        for names in alike.into_values().filter(|names| names.len() > 1) {
            for name in names {
                if folded(name) != name {
                    marked.insert(name.to_owned(), with_digest(&file_name(name), name));
                }
            }
        }
        Self { marked }
    }

    /// The part of a path that stands for one of the names.
    pub fn part(&self, name: &str) -> String {
        match self.marked.get(name) {
            Some(part) => part.clone(),
            None => file_name(name),
        }
    }
}

/// Where the files of outputs belong, below a folder of a whole run.
#[derive(Clone, Debug, Default)]
pub struct OutputPaths {
    stages: FileNames,
}

impl OutputPaths {
    /// For a run of these stages.
    pub fn of<'a>(stages: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            stages: FileNames::of(stages),
        }
    }

    /// The path of an output, which is one of all `outputs` of its stage. An output that is one file has its ending behind it, so
    /// that no dot stands in an output's own name.
    pub fn path<'a>(
        &self,
        stage: &str,
        output: &str,
        outputs: impl IntoIterator<Item = &'a str>,
    ) -> String {
        let part = FileNames::of(outputs).part(output).replace('.', "%2E");
        let part = if part.len() <= LONGEST {
            part
        } else {
            with_digest(&part.replace('.', ""), output)
        };
        format!("{}/{part}", self.stages.part(stage))
    }
}

/// Relative paths with `/` between their parts, each part as [`FileNames`] writes it among those of its folder.
#[derive(Clone, Debug, Default)]
pub struct FilePaths {
    /// Folders, as they are named, in which a name has a digest behind it.
    folders: BTreeMap<String, FileNames>,
}

impl FilePaths {
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (folder, name) in paths.into_iter().flat_map(steps) {
            names.entry(folder).or_default().insert(name);
        }
        let mut folders = BTreeMap::new();
        for (folder, names) in names {
            let names = FileNames::of(names);
            if !names.marked.is_empty() {
                folders.insert(folder.to_owned(), names);
            }
        }
        Self { folders }
    }

    /// How one of the paths is written.
    pub fn path(&self, path: &str) -> String {
        let mut parts = Vec::new();
        for (folder, name) in steps(path) {
            parts.push(match self.folders.get(folder) {
                Some(names) => names.part(name),
                None => file_name(name),
            });
        }
        parts.join("/")
    }
}

/// The parts of a path, each with the path of the folder in which it lies.
fn steps(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut start = 0;
    path.split('/').map(move |name| {
        let folder = &path[..start];
        start += name.len() + usize::from(start + name.len() < path.len());
        (folder, name)
    })
}

/// The same for names that a file system may take for one: no capital letters, and no letters that differ from others only in
/// being small ones, such as the long s.
fn folded(name: &str) -> String {
    let mut folded = name.to_owned();
    loop {
        // What a capital letter becomes may have another one of its own: ẞ, ß, ss.
        let again: String = folded
            .chars()
            .flat_map(char::to_uppercase)
            .flat_map(char::to_lowercase)
            .collect();
        if again == folded {
            return folded;
        }
        folded = again;
    }
}

/// What leads elsewhere, cannot be seen, or changes the direction of the text around it.
fn must_be_escaped(character: char) -> bool {
    matches!(
        character,
        '/' | '\\' | '%' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    ) || character.is_control()
}

fn escape(character: char, into: &mut String) {
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(into, "%{byte:02X}");
    }
}

fn is_plain_ending(ending: &str) -> bool {
    let is_plain = ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_plain && (1..LONGEST_ENDING).contains(&ending.len())
}

/// As much of the part as fits, a digest of the whole name, and the ending.
fn with_digest(part: &str, name: &str) -> String {
    let (start, ending) = match part.rfind('.') {
        Some(dot) if is_plain_ending(&part[dot + 1..]) => part.split_at(dot),
        _ => (part, ""),
    };
    let room = LONGEST - "%~".len() - DIGITS - ending.len();
    let mut end = start.len().min(room);
    while !part.is_char_boundary(end) {
        end -= 1;
    }
    let digest = Digest::of_bytes(name.as_bytes()).to_string();
    format!("{}%~{}{ending}", &part[..end], &digest[..DIGITS])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_that_become_others_step_by_step_fold_to_the_same() {
        assert_eq!(folded("ẞ"), folded("ß"));
        assert_eq!(folded("STRASSE"), folded("straße"));
        let names = FileNames::of(["ẞ", "ß"]);
        assert_ne!(folded(&names.part("ẞ")), folded(&names.part("ß")));
    }

    #[test]
    fn an_output_of_many_dots_has_a_path_that_is_not_too_long() {
        let outputs = [".".repeat(190), "a".repeat(90) + &".".repeat(99)];
        let paths = OutputPaths::of(["s"]);
        let told: BTreeSet<String> = outputs
            .iter()
            .map(|output| paths.path("s", output, [&**output]))
            .collect();
        assert_eq!(told.len(), 2);
        for path in told {
            let part = path.strip_prefix("s/").unwrap();
            assert!(part.len() <= LONGEST && !part.contains('.'), "{part}");
        }
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in [
            "scores",
            "it[machine=m-1,lr=1.0e-2]",
            "Grüße 1.txt",
            ".hidden",
            "a~",
            "it[v=\"a\"]#7,seed=2",
        ] {
            assert_eq!(file_name(name), name);
        }
        assert_eq!(file_name("it[v=a/b]"), "it[v=a%2Fb]");
        assert_eq!(
            ["", ".", "..", "a.", "a ", "100%"].map(file_name),
            ["%", "%2E", ".%2E", "a%2E", "a%20", "100%25"]
        );
        assert_eq!(file_name("a\u{1b}[31m\u{202e}"), "a%1B[31m%E2%80%AE");
        assert_eq!(FilePaths::of(["a/b%/.."]).path("a/b%/.."), "a/b%25/.%2E");
        let path = OutputPaths::of(["it[v=a/b]", "Mixed"]).path(
            "it[v=a/b]",
            "log.parquet",
            ["log.parquet", "Log"],
        );
        assert_eq!(path, "it[v=a%2Fb]/log%2Eparquet");
        assert_eq!(
            OutputPaths::of(["Mixed", "mixes"]).path("Mixed", "Out", ["Out"]),
            "Mixed/Out"
        );
        let paths = FilePaths::of(["A/x", "B/x", "B/X.txt"]);
        assert_eq!(
            ["A/x", "B/X.txt"].map(|path| paths.path(path)),
            ["A/x", "B/X.txt"]
        );
    }

    #[test]
    fn what_differs_only_in_capital_letters_has_a_digest_behind_it() {
        let names = FileNames::of(["model", "Model", "MODEL.png", "model.png", "Other", "model"]);
        assert_eq!(
            ["model", "model.png", "Other"].map(|name| names.part(name)),
            ["model", "model.png", "Other"]
        );
        let (one, other) = (names.part("Model"), names.part("MODEL.png"));
        assert!(
            one.starts_with("Model%~") && one.len() == 7 + DIGITS,
            "{one}"
        );
        assert!(
            other.starts_with("MODEL%~") && other.ends_with(".png"),
            "{other}"
        );
        // Without one in small letters, none is written as it is.
        let names = FileNames::of(["Ab", "aB"]);
        assert!(
            ["Ab", "aB"]
                .iter()
                .all(|name| names.part(name).contains("%~"))
        );
        // Folders collide as files do.
        let paths = FilePaths::of(["a/x", "A/x", "A/y/Z", "A/y/z"]);
        assert_eq!(paths.path("a/x"), "a/x");
        let (x, z) = (paths.path("A/x"), paths.path("A/y/Z"));
        assert!(
            x.starts_with("A%~") && x.ends_with("/x") && z.contains("/y/Z%~"),
            "{x} {z}"
        );
        for (one, other) in [("ſ", "s"), ("ß", "SS"), ("É", "é"), ("ǆ", "ǅ")] {
            assert_eq!(folded(one), folded(other));
        }
    }

    #[test]
    fn long_names_keep_their_beginning_and_their_ending() {
        let (one, other) = (
            format!("{}1.png", "é".repeat(300)),
            format!("{}2.png", "é".repeat(300)),
        );
        let (first, second) = (file_name(&one), file_name(&other));
        assert!(
            first != second && first.starts_with("éé") && first.ends_with(".png"),
            "{first}"
        );
        assert!(first.len() <= LONGEST && file_name(&"/".repeat(5000)).len() <= LONGEST);
        // What a name is cut to is the part of no other name.
        assert_ne!(file_name(&first), first);
    }

    proptest! {
        #[test]
        fn different_names_are_different_parts(names in proptest::collection::vec(hostile_name(), 2..40)) {
            let mut parts: BTreeMap<String, String> = BTreeMap::new();
            let names_here = FileNames::of(names.iter().map(String::as_str));
            for name in names {
                let part = names_here.part(&name);
                prop_assert!(!part.is_empty() && part.len() <= 255 && part != "." && part != "..");
                prop_assert!(!part.contains(['/', '\\', '\0', '\n']));
                let known = parts.insert(folded(&part), name.clone());
                prop_assert!(known.is_none_or(|known| known == name));
            }
        }
    }

    proptest! {
        /// An output with an ending of ours behind it is the folder of no other.
        #[test]
        fn different_files_of_outputs_are_different_paths(
            files in proptest::collection::vec((hostile_name(), hostile_name(), hostile_name()), 2..20)
        ) {
            let mut paths = BTreeMap::new();
            let outputs = OutputPaths::of(files.iter().map(|(stage, ..)| stage.as_str()));
            for (stage, output, inner) in &files {
                let of_stage = files.iter().filter(|(other, ..)| other == stage).map(|(_, output, _)| output.as_str());
                let folder = outputs.path(stage, output, of_stage);
                let of_output = files.iter().filter(|other| (&other.0, &other.1) == (stage, output));
                let inside = FileNames::of(of_output.map(|(_, _, inner)| inner.as_str()));
                for (path, what) in [
                    (format!("{folder}/{}", inside.part(inner)), (stage, output, Some(inner))),
                    (format!("{folder}.parquet"), (stage, output, None)),
                ] {
                    prop_assert_eq!(path.split('/').count(), if what.2.is_some() { 3 } else { 2 });
                    if let Some(known) = paths.insert(folded(&path), what) {
                        prop_assert_eq!(known, what);
                    }
                }
            }
            // No file is a folder of another.
            for path in paths.keys() {
                let is_folder = paths.keys().any(|other| other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/')));
                prop_assert!(!is_folder, "{path}");
            }
        }
    }

    /// Names made of what is escaped, of what escapes look like, and of long repetitions.
    fn hostile_name() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            proptest::sample::select(vec![
                "a", "A", "aB", "Ab", "É", "/", "\\", "%", "%2F", "%~", ".", "..", " ", "_", "\0",
                "\n", "é", "e\u{301}", "2F", "\u{202e}", ".png",
            ])
            .prop_map(str::to_owned),
            (1_usize..300).prop_map(|count| "x".repeat(count)),
            ".{0,3}",
        ];
        proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }
}
