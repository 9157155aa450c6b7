//! Where text came from: the files of a pipeline by number, and ranges of bytes in them.
//! It does not read files; their reader adds their text here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A text in a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(u32);

/// A range of bytes in a file. Spans sort by file, then by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub file: FileId,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    pub fn new(file: FileId, start: u32, end: u32) -> Self {
        Self {
            file,
            start,
            end: end.max(start),
        }
    }

    /// From the start of this span to the end of another one in the same file.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self::new(self.file, self.start, other.end)
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// Line and column as people count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    pub path: &'a str,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

#[derive(Clone, Debug)]
struct Source {
    path: String,
    text: Arc<str>,
    /// Offsets at which lines begin, found when a position is first asked for.
    lines: OnceLock<Vec<u32>>,
}

/// All texts that diagnostics point into.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    sources: Vec<Source>,
    /// Texts that stand for files, no matter what lies on disk by now.
    kept: Arc<BTreeMap<PathBuf, Arc<str>>>,
}

impl SourceMap {
    /// An empty map for reading files as they were: these texts are taken instead of what lies at their absolute paths.
    pub fn keeping(texts: impl IntoIterator<Item = (PathBuf, Arc<str>)>) -> Self {
        Self {
            sources: Vec::new(),
            kept: Arc::new(texts.into_iter().collect()),
        }
    }

    /// An empty map in which the same files are as they were.
    #[must_use]
    pub fn alike(&self) -> Self {
        Self {
            sources: Vec::new(),
            kept: Arc::clone(&self.kept),
        }
    }

    /// The text that stands for a file.
    pub fn kept(&self, path: &Path) -> Option<&Arc<str>> {
        if self.kept.is_empty() {
            return None;
        }
        self.kept.get(&std::path::absolute(path).ok()?)
    }

    /// Adds a text under the name that messages show.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<Arc<str>>) -> FileId {
        self.sources.push(Source {
            path: path.into(),
            text: text.into(),
            lines: OnceLock::new(),
        });
        FileId(u32::try_from(self.sources.len() - 1).unwrap_or(u32::MAX))
    }

    /// All texts in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.sources
            .iter()
            .map(|source| (source.path.as_str(), &source.text))
    }

    pub fn path(&self, file: FileId) -> &str {
        &self.source(file).path
    }

    pub fn text(&self, file: FileId) -> &Arc<str> {
        &self.source(file).text
    }

    /// The text that a span covers.
    pub fn excerpt(&self, span: Span) -> &str {
        self.text(span.file)
            .get(span.start as usize..span.end as usize)
            .unwrap_or("")
    }

    /// Where a span starts.
    pub fn location(&self, span: Span) -> Location<'_> {
        let source = self.source(span.file);
        let line = self.line_index(span.file, span.start);
        let begin = self.line_starts(span.file)[line] as usize;
        let before = source.text.get(begin..span.start as usize).unwrap_or("");
        Location {
            path: &source.path,
            line: line + 1,
            column: before.chars().count() + 1,
        }
    }

    /// The line, counted from 0, that holds a byte.
    pub(super) fn line_index(&self, file: FileId, offset: u32) -> usize {
        let starts = self.line_starts(file);
        let after = starts.partition_point(|start| *start <= offset);
        after.saturating_sub(1)
    }

    /// The bytes of a line counted from 0, without its line break.
    pub(super) fn line_range(&self, file: FileId, line: usize) -> (u32, u32) {
        let starts = self.line_starts(file);
        let begin = starts[line.min(starts.len() - 1)];
        let rest = &self.text(file)[begin as usize..];
        let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
        (begin, begin + length as u32)
    }

    fn line_starts(&self, file: FileId) -> &[u32] {
        let source = self.source(file);
        source.lines.get_or_init(|| {
            let mut starts = vec![0];
            for (index, byte) in source.text.bytes().enumerate() {
                if byte == b'\n' {
                    starts.push(index as u32 + 1);
                }
            }
            starts
        })
    }

    fn source(&self, file: FileId) -> &Source {
        &self.sources[file.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_from_one() {
        let mut sources = SourceMap::default();
        let file = sources.add("a.yaml", "größe: 1\nb: ü2\n");
        let at = |start| sources.location(Span::new(file, start, start));
        assert_eq!((at(0).line, at(0).column), (1, 1));
        assert_eq!((at(9).line, at(9).column), (1, 8));
        assert_eq!((at(16).line, at(16).column), (2, 5));
        assert_eq!(sources.excerpt(Span::new(file, 0, 7)), "größe");
    }

    #[test]
    fn the_end_of_the_text_has_a_position() {
        let mut sources = SourceMap::default();
        let file = sources.add("a.yaml", "a: 1\n");
        assert_eq!(sources.location(Span::new(file, 5, 5)).line, 2);
        assert_eq!(sources.line_range(file, 0), (0, 4));
        assert_eq!(sources.line_range(file, 1), (5, 5));
    }
}
