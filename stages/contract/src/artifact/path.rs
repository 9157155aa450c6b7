//! The path of a file inside an artifact. It can only be made checked, so that whoever has one can use it beneath any
//! folder; where it came from (a bundle, a remote, a forged store, a program) no longer matters.

use std::fmt::{self, Write};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// The longest name of a file that file systems take.
const LONGEST_PART: usize = 255;

/// The longest path that systems take in one call.
const LONGEST: usize = 4096;

/// A path that leads to one place beneath a folder, on every system: parts between `/`, none of which is empty, `.` or
/// `..`. Also with `\` read as `/` it leads nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RelativePath(String);

/// Why a text is not the path of a file inside an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the path `{}` {reason}", Shown(.path))]
pub struct PathFault {
    path: String,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Reason {
    #[error("is empty")]
    Empty,
    #[error("is absolute")]
    Absolute,
    #[error("ends in `/`")]
    TrailingSlash,
    #[error("has an empty part")]
    EmptyPart,
    #[error("has a part `.`")]
    Dot,
    #[error("has a part `..`")]
    DotDot,
    #[error("has a NUL byte")]
    Nul,
    #[error("leads elsewhere where `\\` separates folders")]
    Backslash,
    #[error("has a part of more than {LONGEST_PART} bytes")]
    LongPart,
    #[error("has more than {LONGEST} bytes")]
    Long,
    #[error("is not UTF-8 text")]
    NotText,
    #[error("comes twice")]
    Twice,
    #[error("is a file and a folder at once")]
    FileAndFolder,
}

impl PathFault {
    fn new(path: impl Into<String>, reason: Reason) -> Self {
        Self {
            path: path.into(),
            reason,
        }
    }
}

impl RelativePath {
    /// # Errors
    /// If the text does not lead to one place beneath a folder.
    pub fn new(path: impl Into<String>) -> Result<Self, PathFault> {
        let path = path.into();
        match fault(&path) {
            Some(reason) => Err(PathFault { path, reason }),
            None => Ok(Self(path)),
        }
    }

    /// The path of a file that somebody else named.
    ///
    /// # Errors
    /// As for [`Self::new`], and if the path is not UTF-8.
    pub fn from_path(path: &Path) -> Result<Self, PathFault> {
        let text = path
            .to_str()
            .ok_or_else(|| PathFault::new(path.to_string_lossy(), Reason::NotText))?;
        Self::new(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The folder that it lies in, if that is not the root, and its name there.
    pub fn split(&self) -> (Option<&str>, &str) {
        match self.0.rsplit_once('/') {
            Some((folder, name)) => (Some(folder), name),
            None => (None, &self.0),
        }
    }

    /// Whether it lies below a folder of that path.
    fn is_below(&self, folder: &Self) -> bool {
        self.0
            .strip_prefix(&folder.0)
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl PartialEq<str> for RelativePath {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for RelativePath {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<'a> Deserialize<'a> for RelativePath {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn fault(path: &str) -> Option<Reason> {
    if path.is_empty() {
        return Some(Reason::Empty);
    }
    if path.contains('\0') {
        return Some(Reason::Nul);
    }
    if path.len() > LONGEST {
        return Some(Reason::Long);
    }
    if path.starts_with('/') {
        return Some(Reason::Absolute);
    }
    if path.ends_with('/') {
        return Some(Reason::TrailingSlash);
    }
    if let Some(reason) = path.split('/').find_map(fault_of_part) {
        return Some(reason);
    }
    // A name may hold a backslash. It must be harmless where the backslash means more than itself.
    let is_harmless = path
        .split(['/', '\\'])
        .all(|part| fault_of_part(part).is_none());
    (!is_harmless).then_some(Reason::Backslash)
}

fn fault_of_part(part: &str) -> Option<Reason> {
    match part {
        "" => Some(Reason::EmptyPart),
        "." => Some(Reason::Dot),
        ".." => Some(Reason::DotDot),
        _ => (part.len() > LONGEST_PART).then_some(Reason::LongPart),
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    File,
    Folder,
}

/// Checks that paths can exist together. Returns the folders among them that hold something else of the list, which is
/// why they need no mention.
pub(super) fn check_together<'a>(
    paths: &mut [(&'a RelativePath, Stands)],
) -> Result<Vec<&'a RelativePath>, PathFault> {
    // With `/` before every other character, what lies below a path comes right after it.
    let key = |path: &'a RelativePath| {
        path.0
            .bytes()
            .map(|byte| if byte == b'/' { 0 } else { byte })
    };
    paths.sort_by(|left, right| key(left.0).cmp(key(right.0)));
    let mut filled = Vec::new();
    for pair in paths.windows(2) {
        let [(first, stands), (second, also)] = pair else {
            continue;
        };
        if first == second {
            let reason = if stands == also {
                Reason::Twice
            } else {
                Reason::FileAndFolder
            };
            return Err(PathFault::new(first.as_str(), reason));
        }
        if second.is_below(first) {
            match stands {
                Stands::File => return Err(PathFault::new(first.as_str(), Reason::FileAndFolder)),
                Stands::Folder => filled.push(*first),
            }
        }
    }
    Ok(filled)
}

/// A name from elsewhere as it may stand in a message: on one line, without what steers a terminal or turns text around.
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A message need not repeat more of a name.
        const MOST: usize = 200;
        for character in self.0.chars().take(MOST) {
            match character {
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(formatter, "{}", character.escape_unicode())?;
                }
                character if character.is_control() => {
                    write!(formatter, "{}", character.escape_default())?
                }
                character => formatter.write_char(character)?,
            }
        }
        if self.0.chars().nth(MOST).is_some() {
            formatter.write_str("…")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str) -> String {
        RelativePath::new(path).unwrap_err().to_string()
    }

    #[test]
    fn only_what_leads_to_one_place_beneath_is_a_path() {
        for path in [
            "a", "a/b.txt", "...", "..a", "a..", ".hidden", "a b", "ü/é", "a\nb", "c:", r"a\b",
            r"x\x2dy", "-", "~",
        ] {
            assert_eq!(RelativePath::new(path).unwrap().as_str(), path);
        }
        assert!(
            RelativePath::new("é".repeat(127)).is_ok()
                && RelativePath::new("a".repeat(255)).is_ok()
        );
        for (path, reason) in [
            ("", "is empty"),
            ("/etc/passwd", "is absolute"),
            ("/", "is absolute"),
            ("..", "has a part `..`"),
            ("a/../../b", "has a part `..`"),
            ("a/..", "has a part `..`"),
            (".", "has a part `.`"),
            ("./a", "has a part `.`"),
            ("a/./b", "has a part `.`"),
            ("a//b", "has an empty part"),
            ("a/", "ends in `/`"),
            (r"..\a", "separates folders"),
            (r"a\..\..\b", "separates folders"),
            (r"\a", "separates folders"),
            (r"a\", "separates folders"),
        ] {
            assert!(refused(path).contains(reason), "{}", refused(path));
        }
        assert_eq!(refused("a\0b"), r"the path `a\u{0}b` has a NUL byte");
        assert!(refused(&"a".repeat(256)).ends_with("has a part of more than 255 bytes"));
        assert!(refused(&format!("a{}", "/a".repeat(3000))).ends_with("has more than 4096 bytes"));
        assert!(serde_json::from_str::<RelativePath>(r#""a/../b""#).is_err());
    }

    #[test]
    fn messages_steer_no_terminal() {
        assert_eq!(
            refused("a\x1b[31m/../\u{202e}\n"),
            r"the path `a\u{1b}[31m/../\u{202e}\n` has a part `..`"
        );
        assert!(refused(&format!("{}/..", "x".repeat(250))).len() < 260);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(std::ffi::OsStr::from_bytes(b"a\xff"));
        assert!(
            RelativePath::from_path(name)
                .unwrap_err()
                .to_string()
                .ends_with("is not UTF-8 text")
        );
    }

    #[test]
    fn a_path_is_one_thing() {
        let together = |files: &[&str], folders: &[&str]| {
            let path = |path: &&str| RelativePath::new(*path).unwrap();
            let (files, folders): (Vec<_>, Vec<_>) = (
                files.iter().map(path).collect(),
                folders.iter().map(path).collect(),
            );
            let files = files.iter().map(|path| (path, Stands::File));
            let mut all: Vec<_> = files
                .chain(folders.iter().map(|path| (path, Stands::Folder)))
                .collect();
            let filled = check_together(&mut all);
            filled
                .map(|paths| {
                    paths
                        .into_iter()
                        .map(|path| path.0.clone())
                        .collect::<Vec<_>>()
                })
                .map_err(|fault| fault.to_string())
        };
        assert_eq!(
            together(&["a.txt", "a", "a-/b", "b/c", "b/d"], &["e", "b/e"]),
            Ok(vec![])
        );
        assert_eq!(
            together(&["a/b"], &["a", "c", "c/d"]),
            Ok(vec!["a".into(), "c".into()])
        );
        assert_eq!(
            together(&["a", "b", "a"], &[]),
            Err("the path `a` comes twice".into())
        );
        assert_eq!(
            together(&[], &["a", "a"]),
            Err("the path `a` comes twice".into())
        );
        // `a.txt` and `a-` sort between `a` and `a/b` as text.
        let both = Err("the path `a` is a file and a folder at once".to_owned());
        assert_eq!(together(&["a", "a-", "a.txt", "a/b"], &[]), both);
        assert_eq!(together(&["a"], &["a/b/c"]), both);
        assert_eq!(together(&["a"], &["a"]), both);
    }
}
