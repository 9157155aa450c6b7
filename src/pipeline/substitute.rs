//! `${name}` in scalars: a scalar that is nothing but a reference becomes the value, with its type; elsewhere the text
//! of the value is put in. `$${` stands for `${`. A dotted name reaches into a value: `${model.kind}`.
//! Keys are never substituted.

use std::sync::Arc;

use indexmap::IndexMap;

use super::axes::Point;
use super::limits::{DEEPEST, LARGEST_VALUE, LONGEST_TEXT};
use super::node::{Key, Kind, Node};
use super::scalar::Scalar;
use super::{Param, is_name};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, suggestion};

/// The names that may be referred to: parameters, and around them axis values, inner ones first.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    layer: Layer<'a>,
    outer: Option<&'a Scope<'a>>,
}

#[derive(Clone, Copy, Debug)]
enum Layer<'a> {
    Params(&'a IndexMap<String, Param>),
    Point(&'a Point),
}

impl<'a> Scope<'a> {
    pub fn new(params: &'a IndexMap<String, Param>) -> Self {
        Self {
            layer: Layer::Params(params),
            outer: None,
        }
    }

    /// This scope with the axis values of a point before it.
    pub fn with<'b>(&'b self, point: &'b Point) -> Scope<'b> {
        Scope {
            layer: Layer::Point(point),
            outer: Some(self),
        }
    }

    pub fn get(&self, name: &str) -> Option<&'a Node> {
        let found = match self.layer {
            Layer::Params(params) => params.get(name).map(|param| &param.value),
            Layer::Point(point) => point.get(name),
        };
        found.or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }

    /// All names, inner ones first.
    pub fn names(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = match self.layer {
            Layer::Params(params) => params.keys().map(String::as_str).collect(),
            Layer::Point(point) => point.names().collect(),
        };
        names.extend(self.outer.map(|outer| outer.names()).unwrap_or_default());
        names
    }

    /// Whether a name stands for a parameter whose problem was reported already.
    fn is_failed(&self, name: &str) -> bool {
        match (self.layer, self.outer) {
            (Layer::Params(params), _) => params.get(name).is_some_and(|param| param.failed),
            (Layer::Point(point), _) if point.get(name).is_some() => false,
            (Layer::Point(_), outer) => outer.is_some_and(|outer| outer.is_failed(name)),
        }
    }

    /// The value of a dotted name; nothing if its failure was reported already.
    fn find(&self, reference: &str, span: Span) -> Result<&'a Node, Option<Diagnostic>> {
        let (name, path) = split(reference);
        if self.is_failed(name) {
            return Err(None);
        }
        let value = self
            .get(name)
            .ok_or_else(|| undefined(name, &self.names(), span))?;
        let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
        let found = value.at(&steps).ok_or_else(|| {
            let message = format!("`{name}` has no `{path}`");
            let keys: Vec<&str> = value
                .entries()
                .unwrap_or(&[])
                .iter()
                .map(|(key, _)| &*key.text)
                .collect();
            Diagnostic::error("undefined-name", message)
                .at(span)
                .also(
                    value.origin().unwrap_or(value.span()),
                    format!("the value of `{name}`"),
                )
                .maybe_hint(suggestion(steps.first().unwrap_or(&""), &keys))
        });
        Ok(found?)
    }
}

/// Name and path of a dotted reference.
fn split(reference: &str) -> (&str, &str) {
    reference.split_once('.').unwrap_or((reference, ""))
}

pub(super) fn undefined(name: &str, names: &[&str], span: Span) -> Diagnostic {
    let diagnostic =
        Diagnostic::error("undefined-name", format!("`{name}` is not defined")).at(span);
    diagnostic
        .hint(suggestion(name, names).unwrap_or_else(|| "define it under `params`".to_owned()))
}

/// Part of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    /// A dotted name, and the bytes from `${` to `}`.
    Reference(&'a str, usize, usize),
}

/// Cuts a text into pieces.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, (String, usize, usize)> {
    let mut pieces = Vec::new();
    let mut literal = 0;
    let mut position = 0;
    while let Some(found) = text[position..].find("${") {
        let start = position + found;
        if start > literal && text.as_bytes()[start - 1] == b'$' {
            pieces.push(Piece::Text(&text[literal..start - 1]));
            literal = start;
            position = start + 2;
            continue;
        }
        let Some(length) = text[start..].find('}') else {
            return Err(("`${` without a closing `}`".to_owned(), start, text.len()));
        };
        let name = text[start + 2..start + length].trim();
        if !name
            .split('.')
            .enumerate()
            .all(|(index, part)| is_name(part) || (index > 0 && is_number(part)))
        {
            return Err((format!("`{name}` is not a name"), start, start + length + 1));
        }
        pieces.push(Piece::Text(&text[literal..start]));
        pieces.push(Piece::Reference(name, start, start + length + 1));
        literal = start + length + 1;
        position = literal;
    }
    pieces.push(Piece::Text(&text[literal..]));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Puts values for all references in a tree. A tree without any is shared, not copied.
///
/// # Errors
/// Every reference that is malformed, undefined, or stands in a text and has no text. The diagnostics are empty if the
/// only cause is a parameter whose own problem was reported.
pub fn substitute(node: &Node, scope: &Scope<'_>) -> Result<Node, Diagnostics> {
    let (result, outcome) = substitute_where_possible(node, scope);
    outcome.map(|()| result)
}

/// [`substitute`] that also gives what it made if it fails: scalars with a faulty reference stay as they were written,
/// so that the rest can be checked (see [`validate_rest`](super::validate_rest)).
pub fn substitute_where_possible(
    node: &Node,
    scope: &Scope<'_>,
) -> (Node, Result<(), Diagnostics>) {
    let mut problems = Vec::new();
    let mut result = walk(node, scope, &mut problems);
    if node.is_templated()
        && let Some(problem) = too_large(&result)
    {
        problems.push(Some(problem));
        result = node.clone();
    }
    if problems.is_empty() {
        return (result, Ok(()));
    }
    let mut diagnostics = Diagnostics::default();
    diagnostics.extend(problems.into_iter().flatten());
    (result, Err(diagnostics))
}

/// What a value has become is too large or nested too deep to work with.
fn too_large(value: &Node) -> Option<Diagnostic> {
    let message = match () {
        () if value.weight() > LARGEST_VALUE => {
            format!(
                "with its references followed, this value has more than {} MiB",
                LARGEST_VALUE >> 20
            )
        }
        () if value.depth() > DEEPEST => {
            format!("with its references followed, this value is nested more than {DEEPEST} deep")
        }
        () => return None,
    };
    Some(
        Diagnostic::error("too-large", message)
            .at(value.span())
            .hint(REFERENCES_DOUBLE),
    )
}

/// How a small file comes to a large value.
const REFERENCES_DOUBLE: &str = "does a parameter hold another one twice, and that one a third?";

fn too_long(value: &Node, name: &str, span: Span) -> Diagnostic {
    let message =
        format!("with its references followed, this text has more than {LONGEST_TEXT} bytes");
    let diagnostic = Diagnostic::error("too-large", message)
        .at(span)
        .hint(REFERENCES_DOUBLE);
    diagnostic.also(
        value.origin().unwrap_or(value.span()),
        format!("the value of `{name}`"),
    )
}

fn walk(node: &Node, scope: &Scope<'_>, diagnostics: &mut Vec<Option<Diagnostic>>) -> Node {
    if !node.is_templated() {
        return node.clone();
    }
    match node.kind() {
        Kind::Scalar(scalar) => scalar_value(node, scalar, scope).unwrap_or_else(|diagnostic| {
            diagnostics.push(diagnostic);
            node.clone()
        }),
        Kind::Sequence(items) => {
            let items = items
                .iter()
                .map(|item| walk(item, scope, diagnostics))
                .collect();
            node.replaced(Node::sequence(items, node.span()))
        }
        Kind::Mapping(entries) => {
            let entry = |(key, value): &(Key, Node)| (key.clone(), walk(value, scope, diagnostics));
            node.replaced(Node::mapping(
                entries.iter().map(entry).collect(),
                node.span(),
            ))
        }
    }
}

fn scalar_value(
    node: &Node,
    scalar: &Scalar,
    scope: &Scope<'_>,
) -> Result<Node, Option<Diagnostic>> {
    let pieces = pieces(&scalar.text)
        .map_err(|(message, start, end)| malformed(node, scalar, &message, start, end))?;
    if let [Piece::Reference(name, ..)] = pieces[..] {
        return Ok(scope.find(name, node.span())?.used_at(node.span()));
    }
    let mut text = String::with_capacity(scalar.text.len());
    let mut origin = None;
    for piece in pieces {
        match piece {
            Piece::Text(literal) => text.push_str(literal),
            Piece::Reference(name, start, end) => {
                let span = part(node, scalar, start, end);
                let value = scope.find(name, span)?;
                text.push_str(&spliced(name, value, span)?);
                if text.len() > LONGEST_TEXT {
                    return Err(Some(too_long(value, name, span)));
                }
                origin = origin.or(Some(value));
            }
        }
    }
    let result = Node::finished(text, node.span());
    Ok(origin.map_or(result.clone(), |value| {
        result.with_origin(value.origin().unwrap_or(value.span()))
    }))
}

/// The text of a value that becomes part of a longer text.
fn spliced(name: &str, value: &Node, span: Span) -> Result<Arc<str>, Diagnostic> {
    match value.kind() {
        Kind::Scalar(scalar) if !value.is_null() => Ok(Arc::clone(&scalar.text)),
        _ => {
            let message = format!(
                "`{name}` is {}, which cannot become part of a text",
                value.describe()
            );
            let diagnostic = Diagnostic::error("bad-splice", message).at(span);
            let diagnostic = diagnostic.also(
                value.origin().unwrap_or(value.span()),
                format!("the value of `{name}`"),
            );
            Err(diagnostic.hint(format!(
                "use \"${{{name}}}\" alone to put in the value itself"
            )))
        }
    }
}

fn malformed(node: &Node, scalar: &Scalar, message: &str, start: usize, end: usize) -> Diagnostic {
    let diagnostic = Diagnostic::error("bad-reference", message).at(part(node, scalar, start, end));
    diagnostic
        .hint("write `${name}` for a parameter or an axis, `$${` for the characters themselves")
}

/// The place of some bytes of a scalar, as far as it can be told: escapes and folded lines shift them.
fn part(node: &Node, scalar: &Scalar, start: usize, end: usize) -> Span {
    let span = node.span();
    let written = (span.end - span.start) as usize;
    let quotes = match (scalar.quoted, written.checked_sub(scalar.text.len())) {
        (false, Some(0)) => 0,
        (true, Some(2)) => 1,
        _ => return span,
    };
    let begin = span.start + quotes;
    Span::new(span.file, begin + start as u32, begin + end as u32)
}

/// The names that a tree refers to, with the places of the scalars. Malformed scalars are passed over.
pub(super) fn references(node: &Node) -> Vec<(String, Span)> {
    fn walk(node: &Node, found: &mut Vec<(String, Span)>) {
        match node.kind() {
            _ if !node.is_templated() => {}
            Kind::Sequence(items) => items.iter().for_each(|item| walk(item, found)),
            Kind::Mapping(entries) => entries.iter().for_each(|(_, value)| walk(value, found)),
            Kind::Scalar(scalar) => {
                for piece in pieces(&scalar.text).unwrap_or_default() {
                    if let Piece::Reference(name, start, end) = piece {
                        found.push((split(name).0.to_owned(), part(node, scalar, start, end)));
                    }
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(node, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::pipeline::yaml;

    /// Parameters and a text below them, substituted.
    fn run(params: &str, text: &str) -> Result<Value, String> {
        let mut sources = SourceMap::default();
        let mut read = |name: &str, text: &str| {
            let file = sources.add(name, text);
            let (node, diagnostics) = yaml::parse(text, file, 0);
            assert!(diagnostics.is_empty(), "{text}");
            node.unwrap()
        };
        let (params, node) = (read("params", params), read("p.yaml", text));
        let param = |(key, value): &(Key, Node)| {
            (key.text.to_string(), Param::new(value.clone(), key.span))
        };
        let params = params.entries().unwrap().iter().map(param).collect();
        let result = substitute(&node, &Scope::new(&params));
        result
            .map(|node| node.to_json())
            .map_err(|diagnostics| diagnostics.render(&sources, false))
    }

    #[test]
    fn whole_references_keep_types_and_parts_become_text() {
        let params = "{n: 3, lr: 1e-4, s: '3', on: true, none: ~, list: [1, 2], model: {kind: tvnet, layers: [8, 4]}}";
        let cases = [
            ("\"${n}\"", json!(3)),
            ("${n}", json!(3)),
            ("\"${lr}\"", json!(1e-4)),
            ("\"${s}\"", json!("3")),
            ("\"${on}\"", json!(true)),
            ("\"${none}\"", json!(null)),
            ("\"${list}\"", json!([1, 2])),
            ("\"${ model.kind }\"", json!("tvnet")),
            ("\"${model.layers.1}\"", json!(4)),
            ("lr-${lr}/n-${n}", json!("lr-1e-4/n-3")),
            ("${n}${n}", json!("33")),
            ("$${n}", json!("${n}")),
            ("a$${n}b${n}", json!("a${n}b3")),
            ("$n $ {n} {n}", json!("$n $ {n} {n}")),
            ("$${", json!("${")),
            ("$$${n}", json!("$${n}")),
        ];
        for (text, expected) in cases {
            assert_eq!(run(params, text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_references_are_explained() {
        let cases = [
            "a: \"${machin}\"\nb: x-${window}-${windw}\n",
            "a: ${window\n",
            "a: \"${two words}\"\n",
            "a: \"${model.knd}\"\n",
            "a: \"x ${model}\"\n",
        ];
        let params = "machine: machine-2-1\nwindow: 100\nmodel: {kind: tvnet}\n";
        let report: String = cases
            .iter()
            .map(|text| run(params, text).unwrap_err())
            .collect();
        insta::assert_snapshot!(report, @r#"
        error[undefined-name]: `machin` is not defined
         --> p.yaml:1:4
          |
        1 | a: "${machin}"
          |    ^^^^^^^^^^^
          |
          = help: did you mean `machine`?

        error[undefined-name]: `windw` is not defined
         --> p.yaml:2:16
          |
        2 | b: x-${window}-${windw}
          |                ^^^^^^^^
          |
          = help: did you mean `window`?

        error[bad-reference]: `${` without a closing `}`
         --> p.yaml:1:4
          |
        1 | a: ${window
          |    ^^^^^^^^
          |
          = help: write `${name}` for a parameter or an axis, `$${` for the characters themselves

        error[bad-reference]: `two words` is not a name
         --> p.yaml:1:5
          |
        1 | a: "${two words}"
          |     ^^^^^^^^^^^^
          |
          = help: write `${name}` for a parameter or an axis, `$${` for the characters themselves

        error[undefined-name]: `model` has no `knd`
         --> p.yaml:1:4
          |
        1 | a: "${model.knd}"
          |    ^^^^^^^^^^^^^^
          |
         ::: params:3:8
          |
        3 | model: {kind: tvnet}
          |        ------------- the value of `model`
          |
          = help: did you mean `kind`?

        error[bad-splice]: `model` is a map, which cannot become part of a text
         --> p.yaml:1:7
          |
        1 | a: "x ${model}"
          |       ^^^^^^^^
          |
         ::: params:3:8
          |
        3 | model: {kind: tvnet}
          |        ------------- the value of `model`
          |
          = help: use "${model}" alone to put in the value itself
        "#);
    }

    proptest! {
        #[test]
        fn any_text_is_substituted_or_refused(text in "[$\\{\\}a.]{0,24}|.{0,40}") {
            let mut sources = SourceMap::default();
            let span = Span::new(sources.add("p.yaml", text.as_str()), 0, text.len() as u32);
            let _ = substitute(&Node::scalar(text, true, span), &Scope::new(&IndexMap::new()));
        }

        #[test]
        fn whole_references_keep_any_value(
            number: i64,
            float in proptest::num::f64::NORMAL,
            text in ".{0,12}",
            switch: bool,
            items in proptest::collection::vec("[a-z]{0,3}", 0..3),
        ) {
            let mut sources = SourceMap::default();
            let span = Span::new(sources.add("p.yaml", "${x}"), 0, 4);
            for value in [json!(number), json!(float), json!(switch), json!(null), json!(items), json!({"k": items}), json!(text)] {
                if text.contains("${") {
                    continue;
                }
                let params = IndexMap::from([("x".to_owned(), Param::new(Node::from_json(&value, span), span))]);
                let result = substitute(&Node::scalar("${x}", true, span), &Scope::new(&params)).unwrap();
                prop_assert_eq!(result.to_json(), value);
            }
        }

        #[test]
        fn escaped_text_comes_back(text in "[$\\{\\}a ]{0,24}") {
            let mut sources = SourceMap::default();
            let span = Span::new(sources.add("p.yaml", ""), 0, 0);
            let escaped = Node::scalar(text.replace("${", "$${"), true, span);
            let result = substitute(&escaped, &Scope::new(&IndexMap::new())).unwrap();
            prop_assert_eq!(result.to_json(), json!(text));
        }
    }
}
