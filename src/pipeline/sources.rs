//! `from`: where the inputs of a stage come from. Whether such stages, outputs and ports exist is judged by the graph.

use std::borrow::Cow;

use super::node::Node;
use super::substitute::{Scope, substitute};
use super::{is_name, name_hint};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, Spanned};

/// One upstream output: `stage` or `stage.output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub stage: Spanned<String>,
    pub output: Option<Spanned<String>>,
}

impl Reference {
    /// The place of the whole reference.
    pub fn span(&self) -> Span {
        self.output
            .as_ref()
            .map_or(self.stage.span, |output| self.stage.span.to(output.span))
    }
}

/// What was named for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSources {
    pub port: Spanned<String>,
    /// Several only for a list, which a `many` port takes.
    pub references: Vec<Reference>,
    /// Whether it was written as a list, even if of one.
    pub list: bool,
}

/// All inputs of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sources {
    /// No `from`.
    #[default]
    None,
    /// `from: raw`: the port is found by what fits.
    One(Reference),
    /// `from: [a, b]`: all to the one `many` port.
    Many(Vec<Reference>, Span),
    /// `from: {model: a, windows: b}`.
    Ports(Vec<PortSources>, Span),
}

/// `from` as it was written, with `${name}` in it perhaps.
#[derive(Clone, Debug, Default)]
pub struct From {
    node: Option<Node>,
    /// Read once, if there is nothing to substitute.
    literal: Option<Sources>,
}

impl From {
    /// Reads `from`; problems of a form that no substitution could mend go to the diagnostics.
    pub(super) fn new(node: Option<&Node>, diagnostics: &mut Diagnostics) -> Self {
        let literal = match node {
            None => Some(Sources::None),
            Some(node) if node.is_templated() => None,
            Some(node) => match read(node) {
                Ok(sources) => Some(sources),
                Err(problems) => {
                    diagnostics.extend(problems);
                    None
                }
            },
        };
        Self {
            node: node.cloned(),
            literal,
        }
    }

    /// The place of the value of `from`.
    pub fn span(&self) -> Option<Span> {
        self.node.as_ref().map(Node::span)
    }

    /// Whether the sources depend on parameters or axis values.
    pub fn is_templated(&self) -> bool {
        self.literal.is_none()
    }

    /// The inputs, with values put in for `${name}`.
    ///
    /// # Errors
    /// Undefined names, and texts that are no references.
    pub fn sources(&self, scope: &Scope<'_>) -> Result<Cow<'_, Sources>, Diagnostics> {
        match (&self.literal, &self.node) {
            (Some(sources), _) => Ok(Cow::Borrowed(sources)),
            (None, Some(node)) => Ok(Cow::Owned(read(&substitute(node, scope)?)?)),
            (None, None) => Ok(Cow::Owned(Sources::None)),
        }
    }
}

fn read(node: &Node) -> Result<Sources, Diagnostics> {
    let mut diagnostics = Diagnostics::default();
    let sources = if let Some(entries) = node.entries() {
        if entries.is_empty() {
            diagnostics.push(wrong_form(node));
        }
        let mut ports = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            ports.push(PortSources {
                port: Spanned::new(key.text.to_string(), key.span),
                references: references(value, &mut diagnostics),
                list: value.items().is_some(),
            });
        }
        Sources::Ports(ports, node.span())
    } else if node.items().is_some() {
        Sources::Many(references(node, &mut diagnostics), node.span())
    } else {
        match reference(node) {
            Ok(reference) => Sources::One(reference),
            Err(diagnostic) => return Err(diagnostic.into()),
        }
    };
    diagnostics.unless_any(sources)
}

/// The references in a string or a list of strings.
fn references(node: &Node, diagnostics: &mut Diagnostics) -> Vec<Reference> {
    let items = match node.items() {
        Some([]) => {
            diagnostics.push(wrong_form(node));
            &[]
        }
        Some(items) => items,
        None => std::slice::from_ref(node),
    };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        match reference(item) {
            Ok(reference) => found.push(reference),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    found
}

fn wrong_form(node: &Node) -> Diagnostic {
    let message = format!("`from` must name a stage, found {}", node.describe());
    let hint = "write `from: stage`, `from: stage.output`, `from: [a, b]` or `from: {port: stage}`";
    Diagnostic::error("bad-from", message)
        .at(node.span())
        .hint(hint)
}

fn reference(node: &Node) -> Result<Reference, Diagnostic> {
    let text = node.as_str().ok_or_else(|| wrong_form(node))?;
    let (stage, output) = match text.split_once('.') {
        Some((stage, output)) => (stage, Some(output)),
        None => (text, None),
    };
    if !is_name(stage) || output.is_some_and(|output| !is_name(output)) {
        let message = format!("`{text}` is not a reference to a stage");
        let hint = format!("write `stage` or `stage.output`; {}", name_hint());
        return Err(Diagnostic::error("bad-from", message)
            .at(node.span())
            .hint(hint));
    }
    let (stage_span, output_span) = spans(node.span(), text.len(), stage.len());
    Ok(Reference {
        stage: Spanned::new(stage.to_owned(), stage_span),
        output: output.map(|output| Spanned::new(output.to_owned(), output_span)),
    })
}

/// The places of the two parts of `stage.output`, if the text stands there as it is or in quotes.
fn spans(span: Span, length: usize, stage: usize) -> (Span, Span) {
    let quotes = match (span.end - span.start).checked_sub(length as u32) {
        Some(0) => 0,
        Some(2) => 1,
        _ => return (span, span),
    };
    let begin = span.start + quotes;
    let middle = begin + stage as u32;
    let behind = begin + length as u32;
    (
        Span::new(span.file, begin, middle),
        Span::new(span.file, (middle + 1).min(behind), behind),
    )
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::pipeline::yaml;

    fn run(text: &str) -> Result<(Sources, SourceMap), String> {
        let mut sources = SourceMap::default();
        let file = sources.add("p.yaml", text);
        let (node, diagnostics) = yaml::parse(text, file, 0);
        assert!(diagnostics.is_empty());
        let mut diagnostics = Diagnostics::default();
        let from = From::new(node.as_ref(), &mut diagnostics);
        if diagnostics.has_errors() {
            return Err(diagnostics.render(&sources, false));
        }
        match from.sources(&Scope::new(&IndexMap::new())) {
            Ok(read) => Ok((read.into_owned(), sources)),
            Err(diagnostics) => Err(diagnostics.render(&sources, false)),
        }
    }

    #[test]
    fn the_three_forms() {
        let (one, sources) = run("raw.labels").unwrap();
        let Sources::One(reference) = one else {
            panic!("{one:?}")
        };
        assert_eq!(sources.excerpt(reference.stage.span), "raw");
        assert_eq!(
            sources.excerpt(reference.output.clone().unwrap().span),
            "labels"
        );
        assert_eq!(sources.excerpt(reference.span()), "raw.labels");
        assert!(matches!(run("[a, b.c]").unwrap().0, Sources::Many(list, _) if list.len() == 2));
        let (ports, sources) = run("{model: 'm.best', all: [a]}").unwrap();
        let Sources::Ports(ports, _) = ports else {
            panic!("{ports:?}")
        };
        assert_eq!(sources.excerpt(ports[0].references[0].span()), "m.best");
        assert_eq!((ports[0].list, ports[1].list), (false, true));
        assert_eq!(run("").unwrap().0, Sources::None);
    }

    #[test]
    fn other_forms_are_refused() {
        let cases = [
            "[]",
            "{a: , b: [x, {}], c: x.y.z}",
            "5",
            "two words",
            "\"${stage}\"",
        ];
        let report: String = cases.iter().map(|text| run(text).unwrap_err()).collect();
        insta::assert_snapshot!(report, @r#"
        error[bad-from]: `from` must name a stage, found an empty list
         --> p.yaml:1:1
          |
        1 | []
          | ^^
          |
          = help: write `from: stage`, `from: stage.output`, `from: [a, b]` or `from: {port: stage}`

        error[bad-from]: `from` must name a stage, found nothing
         --> p.yaml:1:2
          |
        1 | {a: , b: [x, {}], c: x.y.z}
          |  ^
          |
          = help: write `from: stage`, `from: stage.output`, `from: [a, b]` or `from: {port: stage}`

        error[bad-from]: `from` must name a stage, found an empty map
         --> p.yaml:1:14
          |
        1 | {a: , b: [x, {}], c: x.y.z}
          |              ^^
          |
          = help: write `from: stage`, `from: stage.output`, `from: [a, b]` or `from: {port: stage}`

        error[bad-from]: `x.y.z` is not a reference to a stage
         --> p.yaml:1:22
          |
        1 | {a: , b: [x, {}], c: x.y.z}
          |                      ^^^^^
          |
          = help: write `stage` or `stage.output`; a name begins with a letter or `_`, followed by letters, digits, `_` and `-`

        error[bad-from]: `from` must name a stage, found `5`
         --> p.yaml:1:1
          |
        1 | 5
          | ^
          |
          = help: write `from: stage`, `from: stage.output`, `from: [a, b]` or `from: {port: stage}`

        error[bad-from]: `two words` is not a reference to a stage
         --> p.yaml:1:1
          |
        1 | two words
          | ^^^^^^^^^
          |
          = help: write `stage` or `stage.output`; a name begins with a letter or `_`, followed by letters, digits, `_` and `-`

        error[undefined-name]: `stage` is not defined
         --> p.yaml:1:1
          |
        1 | "${stage}"
          | ^^^^^^^^^^
          |
          = help: define it under `params`
        "#);
    }
}
