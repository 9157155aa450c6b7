//! `--set NAME=VALUE`: values from the command line, put into the document before anything is made of it.
//! Each is a small file of its own, so that problems point at what was typed.

use std::sync::Arc;

use super::document::Document;
use super::file::STAGE_KEYS;
use super::limits::DEEPEST;
use super::node::{Key, Kind, Node};
use super::{LoadOptions, yaml};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, Span, did_you_mean, list, suggestion};

/// The name under which messages show the command line.
pub(super) const COMMAND_LINE: &str = "command line";

/// A part of the dotted name with its place.
type Step<'a> = (&'a str, Span);

/// Applies all overrides in their order.
pub(super) fn apply(
    document: &mut Document,
    options: &LoadOptions,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) {
    let (giver, word) = options
        .given_by
        .as_deref()
        .map_or((COMMAND_LINE, "--set "), |giver| (giver, ""));
    for (name, value) in &options.overrides {
        let text: Arc<str> = format!("{word}{name}={value}").into();
        let file = sources.add(giver, Arc::clone(&text));
        let name_start = word.len() as u32;
        let value_start = name_start + name.len() as u32 + 1;
        let name_span = Span::new(file, name_start, value_start - 1);
        let (node, problems) = yaml::parse(&text[value_start as usize..], file, value_start);
        let failed = problems.has_errors();
        diagnostics.extend(problems);
        if name.split('.').count() > DEEPEST {
            let message = format!("the name goes more than {DEEPEST} deep");
            diagnostics.push(Diagnostic::error("bad-override", message).at(name_span));
            continue;
        }
        let value = node.unwrap_or_else(|| Node::scalar("", false, name_span));
        if !failed && let Err(diagnostic) = set(document, &steps(name, name_span), name_span, value)
        {
            diagnostics.push(diagnostic);
        }
    }
}

fn steps(name: &str, span: Span) -> Vec<Step<'_>> {
    let mut start = span.start;
    let part = |text| {
        let place = Span::new(span.file, start, start + text_length(text));
        start = place.end + 1;
        (text, place)
    };
    name.split('.').map(part).collect()
}

fn text_length(text: &str) -> u32 {
    text.len() as u32
}

/// Finds what a name means: a parameter first, then a top-level key, then a stage.
fn set(
    document: &mut Document,
    steps: &[Step<'_>],
    span: Span,
    value: Node,
) -> Result<(), Diagnostic> {
    let (&(first, place), rest) = steps
        .split_first()
        .filter(|((first, _), _)| !first.is_empty())
        .ok_or_else(|| nothing_named(span))?;
    if document.params.contains_key(first) {
        return set_param(document, steps, value);
    }
    match (first, rest) {
        ("seed" | "strict", []) => {
            document.root = with_value(Some(&document.root), steps, value)?;
            Ok(())
        }
        ("params", [_, ..]) => set_param(document, rest, value),
        ("stages", [_, ..]) => set_stage(document, rest, value),
        _ if document.stages.contains_key(first) => set_stage(document, steps, value),
        _ => Err(unknown(document, first, place)),
    }
}

fn nothing_named(span: Span) -> Diagnostic {
    Diagnostic::error("bad-override", "nothing is named before `=`")
        .at(span)
        .hint("write `--set name=value`")
}

fn unknown(document: &Document, name: &str, span: Span) -> Diagnostic {
    let params: Vec<&str> = document.params.keys().map(|name| &**name).collect();
    let others = document
        .stages
        .keys()
        .map(|name| &**name)
        .chain(["seed", "strict"]);
    let hint = match did_you_mean(name, params.iter().copied().chain(others)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if params.is_empty() => {
            "the pipeline has no `params`; a stage is set as `STAGE.with.KEY`".to_owned()
        }
        None => format!(
            "the parameters are {}; a stage is set as `STAGE.with.KEY`",
            list(&params)
        ),
    };
    Diagnostic::error("unknown-parameter", format!("unknown parameter `{name}`"))
        .at(span)
        .hint(hint)
}

fn set_param(document: &mut Document, steps: &[Step<'_>], value: Node) -> Result<(), Diagnostic> {
    let Some(((name, place), rest)) = steps.split_first() else {
        return Ok(());
    };
    let Some((_, node)) = document.params.get_mut(*name) else {
        return Err(unknown(document, name, *place));
    };
    *node = with_value(Some(node), rest, value)?;
    document.set.insert((*name).into(), *place);
    Ok(())
}

fn set_stage(document: &mut Document, steps: &[Step<'_>], value: Node) -> Result<(), Diagnostic> {
    let Some((&(name, place), rest)) = steps.split_first() else {
        return Ok(());
    };
    let Some((_, node)) = document.stages.get_mut(name) else {
        let names: Vec<&str> = document.stages.keys().map(|name| &**name).collect();
        let diagnostic =
            Diagnostic::error("unknown-stage", format!("there is no stage `{name}`")).at(place);
        return Err(diagnostic.maybe_hint(suggestion(name, &names)));
    };
    match rest {
        [] => {
            let diagnostic = Diagnostic::error(
                "bad-override",
                format!("`{name}` is a stage, not a parameter"),
            );
            Err(diagnostic
                .at(place)
                .hint(format!("name the key to set, such as `{name}.with.KEY`")))
        }
        [(key, place), ..] if !STAGE_KEYS.contains(key) => {
            let path = rest
                .iter()
                .map(|(step, _)| *step)
                .collect::<Vec<_>>()
                .join(".");
            let diagnostic =
                Diagnostic::error("bad-override", format!("`{key}` is not a key of a stage"))
                    .at(*place);
            Err(
                diagnostic.hint(match did_you_mean(key, STAGE_KEYS.iter().copied()) {
                    Some(meant) => format!("did you mean `{name}.{meant}`?"),
                    None => {
                        format!("parameters of a stage stand below `with`: `{name}.with.{path}`")
                    }
                }),
            )
        }
        _ => {
            *node = with_value(Some(node), rest, value)?;
            Ok(())
        }
    }
}

/// A tree with one value replaced or added; maps that are not there yet are made.
fn with_value(node: Option<&Node>, steps: &[Step<'_>], value: Node) -> Result<Node, Diagnostic> {
    let Some(((step, place), rest)) = steps.split_first() else {
        return Ok(value);
    };
    let Some(node) = node.filter(|node| !node.is_null()) else {
        let key = Key {
            text: (*step).into(),
            span: *place,
        };
        return Ok(Node::mapping(
            vec![(key, with_value(None, rest, value)?)],
            *place,
        ));
    };
    match node.kind() {
        Kind::Mapping(entries) => {
            let mut entries = entries.to_vec();
            match entries.iter_mut().find(|(key, _)| &*key.text == *step) {
                Some((_, old)) => *old = with_value(Some(old), rest, value)?,
                None => {
                    let key = Key {
                        text: (*step).into(),
                        span: *place,
                    };
                    entries.push((key, with_value(None, rest, value)?));
                }
            }
            Ok(Node::mapping(entries, node.span()))
        }
        Kind::Sequence(items) => {
            let mut items = items.to_vec();
            let count = items.len();
            let old = step
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get_mut(index))
                .ok_or_else(|| {
                    let message = format!("`{step}` is not an item of a list of {count}");
                    Diagnostic::error("bad-override", message)
                        .at(*place)
                        .also(node.span(), "the list")
                        .hint("items count from 0")
                })?;
            *old = with_value(Some(old), rest, value)?;
            Ok(Node::sequence(items, node.span()))
        }
        Kind::Scalar(_) => {
            let message = format!("there is no `{step}` in {}", node.describe());
            let diagnostic = Diagnostic::error("bad-override", message)
                .at(*place)
                .also(node.span(), "the value");
            Err(if node.is_templated() {
                diagnostic.hint("set the parameter that it refers to")
            } else {
                diagnostic
            })
        }
    }
}
