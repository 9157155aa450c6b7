//! The only door to YAML syntax: text becomes a tree with places, or diagnostics; a JSON value becomes YAML text.
//! What the tree should contain is decided elsewhere.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as Extent};
use serde_json::Value;

use super::limits::{DEEPEST, LARGEST_VALUE, MOST_NODES};
use super::node::{Key, Kind, Node};
use crate::diagnostic::{Diagnostic, Diagnostics, FileId, Span};

/// Reads the single document in `text`, which starts at byte `offset` of `file`. An empty text gives no node.
/// Without errors in the diagnostics the node is complete; with some, it holds what could be understood.
pub fn parse(text: &str, file: FileId, offset: u32) -> (Option<Node>, Diagnostics) {
    let mut builder = Builder::new(text, file, offset);
    if u32::try_from(text.len()).is_err() {
        builder.diagnostics.push(Diagnostic::error(
            "bad-yaml",
            "a file of 4 GiB or more cannot be a pipeline",
        ));
        return (None, builder.diagnostics);
    }
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let goes_on = match event {
            Ok((event, extent)) => builder.on_event(event, extent),
            Err(error) => builder.on_syntax_error(&error),
        };
        if !goes_on {
            return (None, builder.diagnostics);
        }
    }
    (builder.root, builder.diagnostics)
}

/// A value as YAML text, in the order of its keys.
///
/// # Errors
/// A sentence; no JSON value is known to cause one.
pub fn to_yaml(value: &Value) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

/// A sequence or mapping whose end was not seen yet.
struct Open {
    content: Content,
    start: u32,
    anchor: usize,
    /// Nodes made before it, to tell its size at the end.
    nodes_before: usize,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<(Key, Node)>,
        key: PendingKey,
    },
}

enum PendingKey {
    None,
    Some(Key),
    /// The key was refused; its value is read and dropped.
    Refused,
}

struct Builder<'a> {
    text: &'a str,
    file: FileId,
    offset: u32,
    /// Byte offset of every character, where these differ.
    bytes: Option<Vec<u32>>,
    open: Vec<Open>,
    /// Finished anchored nodes with their sizes.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    /// Bytes that aliases stand for.
    aliased: u64,
    documents: usize,
    root: Option<Node>,
    diagnostics: Diagnostics,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, file: FileId, offset: u32) -> Self {
        let bytes = (!text.is_ascii())
            .then(|| text.char_indices().map(|(index, _)| index as u32).collect());
        Self {
            text,
            file,
            offset,
            bytes,
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            aliased: 0,
            documents: 0,
            root: None,
            diagnostics: Diagnostics::default(),
        }
    }

    /// False when reading on makes no sense.
    fn on_event(&mut self, event: Event<'_>, extent: Extent) -> bool {
        let span = self.without_anchor(self.span(extent));
        match event {
            Event::DocumentStart(_) => return self.on_document(span),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                self.nodes += 1;
                let node = self.scalar(&text, style, span);
                self.deliver(node, anchor, 1);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                return self.start(Content::Sequence(Vec::new()), anchor, span);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                return self.start(
                    Content::Mapping {
                        entries: Vec::new(),
                        key: PendingKey::None,
                    },
                    anchor,
                    span,
                );
            }
            Event::SequenceEnd | Event::MappingEnd => self.finish(span),
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        true
    }

    fn on_syntax_error(&mut self, error: &ScanError) -> bool {
        let (message, hint) = explain(error.info());
        let at = self.byte(error.marker().index());
        let mut diagnostic =
            Diagnostic::error("bad-yaml", message).at(Span::new(self.file, at, at));
        if let Some(open) = self
            .open
            .iter()
            .rev()
            .find(|open| self.is_bracket(open.start))
        {
            diagnostic = diagnostic.also(
                Span::new(self.file, open.start, open.start + 1),
                "opened here",
            );
        }
        self.diagnostics
            .push(diagnostic.maybe_hint(hint.map(str::to_owned)));
        false
    }

    fn on_document(&mut self, span: Span) -> bool {
        self.documents += 1;
        if self.documents > 1 {
            let diagnostic = Diagnostic::error(
                "bad-yaml",
                "a second document starts here; a file holds one",
            )
            .at(span);
            self.diagnostics
                .push(diagnostic.hint("put it into a separate file"));
        }
        self.documents == 1
    }

    fn refuse_tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            let diagnostic =
                Diagnostic::error("yaml-tag", "YAML tags such as `!name` have no meaning here")
                    .at(span);
            self.diagnostics
                .push(diagnostic.hint("remove the tag; quote a value to make it a string"));
        }
    }

    fn start(&mut self, content: Content, anchor: usize, span: Span) -> bool {
        if self.open.len() == DEEPEST {
            self.diagnostics
                .push(Diagnostic::error("bad-yaml", too_deep()).at(span));
            return false;
        }
        self.open.push(Open {
            content,
            start: span.start,
            anchor,
            nodes_before: self.nodes,
        });
        self.nodes += 1;
        true
    }

    fn finish(&mut self, span: Span) {
        let Some(open) = self.open.pop() else { return };
        let size = self.nodes - open.nodes_before;
        let closed = self.is_bracket(open.start).then_some(span.start + 1);
        let node = match open.content {
            Content::Sequence(items) => {
                let last = items.last().map(|item| item.span().end);
                Node::sequence(
                    items,
                    Span::new(self.file, open.start, closed.or(last).unwrap_or(open.start)),
                )
            }
            Content::Mapping { entries, .. } => {
                let last = entries
                    .last()
                    .map(|(key, value)| value.span().end.max(key.span.end));
                let entries = self.without_duplicates(entries);
                Node::mapping(
                    entries,
                    Span::new(self.file, open.start, closed.or(last).unwrap_or(open.start)),
                )
            }
        };
        self.deliver(node, open.anchor, size);
    }

    /// Whether a collection that starts here is written in brackets or braces.
    fn is_bracket(&self, start: u32) -> bool {
        matches!(
            self.text.as_bytes().get((start - self.offset) as usize),
            Some(b'[' | b'{')
        )
    }

    fn without_duplicates(&mut self, entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        const FEW: usize = 12;
        let duplicated = if entries.len() <= FEW {
            (1..entries.len()).any(|index| {
                entries[..index]
                    .iter()
                    .any(|(key, _)| key.text == entries[index].0.text)
            })
        } else {
            let distinct: std::collections::HashSet<&str> =
                entries.iter().map(|(key, _)| &*key.text).collect();
            distinct.len() < entries.len()
        };
        if !duplicated {
            return entries;
        }
        let mut first = HashMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match first.insert(std::sync::Arc::clone(&key.text), key.span) {
                None => kept.push((key, value)),
                Some(place) => {
                    let message = format!("`{}` is given twice", key.text);
                    let diagnostic =
                        Diagnostic::error("duplicate-key", message).at_with(key.span, "again here");
                    self.diagnostics.push(
                        diagnostic
                            .also(place, "first here")
                            .hint("keep one of them"),
                    );
                }
            }
        }
        kept
    }

    fn alias(&mut self, anchor: usize, span: Span) -> bool {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            self.diagnostics.push(
                Diagnostic::error("bad-yaml", "this alias is part of what it refers to").at(span),
            );
            return false;
        };
        let (node, size) = (node.used_at(span), *size);
        self.nodes = self.nodes.saturating_add(size);
        self.aliased = self.aliased.saturating_add(node.weight());
        if self.aliased > LARGEST_VALUE {
            let most = LARGEST_VALUE >> 20;
            let message = format!("with its aliases followed, the file has more than {most} MiB");
            self.diagnostics
                .push(Diagnostic::error("too-large", message).at(span));
            return false;
        }
        if self.open.len() + node.depth() > DEEPEST {
            self.diagnostics
                .push(Diagnostic::error("bad-yaml", too_deep()).at(span));
            return false;
        }
        if self.nodes > MOST_NODES {
            let message =
                format!("with its aliases followed, the file has more than {MOST_NODES} values");
            self.diagnostics
                .push(Diagnostic::error("bad-yaml", message).at(span));
            return false;
        }
        self.deliver(node, 0, size);
        true
    }

    fn scalar(&self, text: &str, style: ScalarStyle, span: Span) -> Node {
        let quoted = style != ScalarStyle::Plain;
        let missing = !quoted && text.is_empty();
        match self.open.last() {
            // Nothing was written: the key says best where.
            Some(Open {
                content:
                    Content::Mapping {
                        key: PendingKey::Some(key),
                        ..
                    },
                ..
            }) if missing => Node::scalar(text, quoted, key.span),
            _ => Node::scalar(text, quoted, span),
        }
    }

    /// Hands a finished node to what it is part of.
    fn deliver(&mut self, node: Node, anchor: usize, size: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut open.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { entries, key } => match std::mem::replace(key, PendingKey::None) {
                PendingKey::Some(name) => entries.push((name, node)),
                PendingKey::Refused => {}
                PendingKey::None => {
                    *key = match as_key(&node) {
                        Ok(name) => PendingKey::Some(name),
                        Err(diagnostic) => {
                            self.diagnostics.push(diagnostic);
                            PendingKey::Refused
                        }
                    }
                }
            },
        }
    }

    fn span(&self, extent: Extent) -> Span {
        let (start, end) = (
            self.byte(extent.start.index()),
            self.byte(extent.end.index()),
        );
        let end = end.max(start);
        let blank = self.text_of(Span::new(self.file, start, end));
        let trimmed = blank.trim_end_matches([' ', '\t', '\n', '\r']).len() as u32;
        Span::new(self.file, start, start + trimmed)
    }

    /// A value without the `&name` in front of it.
    fn without_anchor(&self, span: Span) -> Span {
        let text = self.text_of(span);
        if !text.starts_with('&') {
            return span;
        }
        let name = text.find([' ', '\t', '\n', '\r']).unwrap_or(text.len());
        let value = text[name..].trim_start_matches([' ', '\t', '\n', '\r']);
        Span::new(self.file, span.end - value.len() as u32, span.end)
    }

    fn text_of(&self, span: Span) -> &str {
        let (start, end) = (span.start - self.offset, span.end - self.offset);
        self.text.get(start as usize..end as usize).unwrap_or("")
    }

    /// The parser counts characters; places are bytes.
    fn byte(&self, character: usize) -> u32 {
        let length = self.text.len() as u32;
        let within = match &self.bytes {
            Some(bytes) => bytes.get(character).copied().unwrap_or(length),
            None => u32::try_from(character).unwrap_or(u32::MAX),
        };
        within.min(length) + self.offset
    }
}

fn too_deep() -> String {
    format!("lists and maps are nested more than {DEEPEST} deep")
}

fn as_key(node: &Node) -> Result<Key, Diagnostic> {
    let refused = |message: &str| Diagnostic::error("bad-key", message.to_owned()).at(node.span());
    match node.kind() {
        Kind::Scalar(scalar) if &*scalar.text == "<<" && !scalar.quoted => {
            let hint = "repeat the keys, or share them through `params` or `include`";
            Err(refused("merge keys (`<<`) are not supported").hint(hint))
        }
        Kind::Scalar(scalar) if scalar.text.is_empty() => {
            Err(refused("a key is missing before `:`"))
        }
        Kind::Scalar(scalar) => Ok(Key {
            text: scalar.text.clone(),
            span: node.span(),
        }),
        _ => Err(refused("a key must be a word, not a list or a map")
            .hint("a value such as `${name}` in braces must be quoted: \"${name}\"")),
    }
}

/// The parser's words, in words for people.
fn explain(info: &str) -> (String, Option<&'static str>) {
    let (message, hint) = match info {
        "mapping values are not allowed in this context" => (
            "a `:` is not possible here",
            "quote a text that holds `: `, and check the indentation of this line",
        ),
        "simple key expect ':'" | "simple key expected" => (
            "a key without `:`",
            "write `key: value`, with a blank after the colon",
        ),
        "while parsing a block mapping, did not find expected key" => (
            "a `key: value` pair should stand here",
            "check the indentation of this line and of the one above",
        ),
        "while parsing a block collection, did not find expected '-' indicator" => (
            "a list item should stand here",
            "start it with `- `, indented like the items above",
        ),
        "while parsing a flow mapping, did not find expected ',' or '}'" => (
            "a `,` or `}` should stand here",
            "write `{key: value, key: value}`, and quote a text that holds braces: \"${name}\"",
        ),
        "while parsing a flow sequence, expected ',' or ']'" => {
            ("a `,` or `]` should stand here", "write `[value, value]`")
        }
        "while parsing a node, did not find expected node content" => {
            ("a value is missing here", "add it")
        }
        "while scanning a quoted scalar, found unexpected end of stream" => {
            ("a quoted text is not closed", "add the closing quote")
        }
        "while parsing node, found unknown anchor" => (
            "there is no anchor of this name",
            "quote the text if the `*` belongs to it",
        ),
        "illegal placement of ':' indicator" => (
            "a `:` is not possible here",
            "close the bracket before it, or write `{key: value}` for a map in a list",
        ),
        "invalid indentation"
        | "invalid indentation in flow construct"
        | "invalid indentation in quoted scalar" => (
            "this line is not indented as its context asks",
            "indent it further than the key it belongs to",
        ),
        "recursion limit exceeded" => return (too_deep(), None),
        _ if info.contains("tab") => ("a tab stands where YAML wants blanks", "indent with blanks"),
        other => return (format!("this is not YAML: {other}"), None),
    };
    (message.to_owned(), Some(hint))
}

#[cfg(test)]
mod tests;
