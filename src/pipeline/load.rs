//! From a file, its fragments, a profile and `--set` to a [`Spec`]: parameters are resolved, stages take their form.
//! Problems are gathered; reading goes on as far as it makes sense, so that one report holds them all.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::document::{Document, Reader};
use super::misplaced::strays;
use super::node::Node;
use super::scalar::Resolved;
use super::schema::STAGE;
use super::substitute::{Scope, substitute};
use super::{
    Axes, From, Resources, Spec, StageSpec, overrides, params, profiles, tolerance, units, unused,
    validate,
};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, Spanned};

/// Stages that a thread reads at a time; fewer are not worth another thread.
const SPAN_OF_WORK: usize = 64;

/// What a run adds to the file.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--profile NAME`: a set of parameter values among the file's `profiles`; overrides come after it.
    pub profile: Option<String>,
    /// `--set NAME=VALUE`, in their order; the value is YAML, and a later one wins. `NAME` is
    /// - a parameter, or a part of one: `machine`, `model.layers.0`; with `params.` before it if need be;
    /// - `seed` or `strict`, unless a parameter is called so;
    /// - a key of a stage: `model.with.optimizer.lr`, `model.retries`; with `stages.` before it if need be.
    ///
    /// Parameters come first, then top-level keys, then stages. New keys can be set below `with`, new parameters not.
    pub overrides: Vec<(String, String)>,
    /// Who gives the overrides, for messages; by default the command line does.
    pub given_by: Option<String>,
}

/// Reads a pipeline file. The `Spec` holds whatever could be understood even if the diagnostics hold errors, so that
/// later checks can add theirs; nothing may run then. Stages without a usable `uses` are named in [`Spec::broken`].
pub fn load(
    path: &Path,
    options: &LoadOptions,
    sources: &mut SourceMap,
) -> (Option<Spec>, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let earlier = sources.iter().count();
    let document = Reader::new(sources, &mut diagnostics).pipeline(path);
    finish(document, options, sources, earlier, diagnostics)
}

/// [`load`] for a text that stands for a file at `path`, such as an embedded pipeline.
pub fn load_text(
    path: &Path,
    text: &str,
    options: &LoadOptions,
    sources: &mut SourceMap,
) -> (Option<Spec>, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let earlier = sources.iter().count();
    let document = Reader::new(sources, &mut diagnostics).pipeline_text(path, text.to_owned());
    finish(document, options, sources, earlier, diagnostics)
}

/// `earlier` texts of the map belong to something else.
fn finish(
    document: Option<Document>,
    options: &LoadOptions,
    sources: &mut SourceMap,
    earlier: usize,
    mut diagnostics: Diagnostics,
) -> (Option<Spec>, Diagnostics) {
    let Some(mut document) = document else {
        return (None, diagnostics);
    };
    let files = sources
        .iter()
        .skip(earlier)
        .map(|(path, text)| (path.to_owned(), Arc::clone(text)))
        .collect();
    profiles::apply(
        &mut document,
        options.profile.as_deref(),
        sources,
        &mut diagnostics,
    );
    overrides::apply(&mut document, options, sources, &mut diagnostics);
    let spec = Spec {
        profile: options.profile.clone(),
        files,
        ..spec(&document, &mut diagnostics)
    };
    if !diagnostics.has_errors() {
        unused::warn(&document, options.profile.as_deref(), &mut diagnostics);
    }
    (Some(spec), diagnostics)
}

fn spec(document: &Document, diagnostics: &mut Diagnostics) -> Spec {
    let params = params::resolve(&document.params, diagnostics);
    let scope = Scope::new(&params);
    let root = &document.root;
    let name = root
        .get("pipeline")
        .and_then(|node| Some(Spanned::new(node.as_str()?.to_owned(), node.span())));
    let seed = top_level(root, "seed", &scope, diagnostics);
    let strict = top_level(root, "strict", &scope, diagnostics);
    let mut stages = Vec::with_capacity(document.stages.len());
    let mut broken = Vec::new();
    let written: Vec<_> = document.stages.iter().collect();
    let read = written
        .par_iter()
        .with_min_len(SPAN_OF_WORK)
        .map(|(name, (span, node))| {
            let mut found = Diagnostics::default();
            let name = Spanned::new(name.to_string(), *span);
            let stage = stage(&name, node, &scope, &mut found);
            (stage.ok_or(name), found)
        });
    for (stage, found) in read.collect::<Vec<_>>() {
        diagnostics.extend(found);
        match stage {
            Ok(stage) => stages.push(stage),
            Err(name) => broken.push(name),
        }
    }
    Spec {
        name: name.unwrap_or_else(|| Spanned::new("pipeline".to_owned(), root.span())),
        description: root
            .get("description")
            .and_then(Node::as_str)
            .map(str::to_owned),
        seed: seed.and_then(|node| integer(&node)).unwrap_or(0),
        profile: None,
        strict: matches!(
            strict.as_ref().and_then(Node::resolve),
            Some(Resolved::Bool(true))
        ),
        params,
        stages,
        files: Vec::new(),
        broken,
    }
}

/// A top-level value with `${name}` put in, checked again if that changed it.
fn top_level(
    root: &Node,
    key: &str,
    scope: &Scope<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Node> {
    let node = root.get(key)?;
    match substitute(node, scope) {
        Ok(value) => {
            let problems = validate(
                &value,
                &super::schema::PIPELINE["properties"][key],
                &format!("`{key}`"),
            );
            diagnostics.extend(problems);
            Some(value)
        }
        Err(problems) => {
            diagnostics.extend(problems);
            None
        }
    }
}

fn integer<T: TryFrom<i128>>(node: &Node) -> Option<T> {
    match node.resolve() {
        Some(Resolved::Integer(value)) => T::try_from(value).ok(),
        _ => None,
    }
}

/// Keys of a stage that may refer to parameters and are read at once.
const IMMEDIATE: [&str; 5] = [
    "resources",
    "retries",
    "timeout",
    "tolerance",
    "description",
];

fn stage(
    name: &Spanned<String>,
    node: &Node,
    scope: &Scope<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<StageSpec> {
    let node = immediate(node, scope, diagnostics);
    let (strays, problems) = strays(
        &node,
        validate(&node, &STAGE, &format!("stage `{}`", name.value)),
    );
    diagnostics.extend(problems);
    let Some(uses) = node
        .get("uses")
        .and_then(|uses| Some(Spanned::new(uses.as_str()?.to_owned(), uses.span())))
    else {
        diagnostics.extend(strays.iter().map(|stray| stray.told(None)));
        return None;
    };
    let axes = Axes::new(node.entry("foreach"), node.entry("matrix"), diagnostics);
    Some(StageSpec {
        name: name.clone(),
        uses,
        with: node
            .get("with")
            .filter(|with| with.entries().is_some())
            .cloned(),
        from: From::new(node.get("from"), diagnostics),
        axes,
        resources: resources(node.get("resources"), diagnostics),
        retries: node.get("retries").and_then(integer).unwrap_or(0),
        timeout: node.get("timeout").and_then(|node| {
            measured(
                node,
                units::duration,
                "`timeout` must be a duration",
                "write it as `90 s`, `30 min` or `1h 30m`",
                diagnostics,
            )
        }),
        tolerance: tolerance::read(node.get("tolerance")),
        description: node
            .get("description")
            .and_then(Node::as_str)
            .map(str::to_owned),
        strays,
        span: node.span(),
    })
}

/// The stage with parameters put into the keys that do not wait for axis values.
fn immediate(node: &Node, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Node {
    let is_immediate = |key: &str, value: &Node| IMMEDIATE.contains(&key) && value.is_templated();
    match node.entries() {
        Some(entries)
            if entries
                .iter()
                .any(|(key, value)| is_immediate(&key.text, value)) =>
        {
            let mut changed = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                if !is_immediate(&key.text, value) {
                    changed.push((key.clone(), value.clone()));
                    continue;
                }
                match substitute(value, scope) {
                    Ok(value) => changed.push((key.clone(), value)),
                    Err(problems) => diagnostics.extend(problems),
                }
            }
            Node::mapping(changed, node.span())
        }
        _ => node.clone(),
    }
}

fn resources(node: Option<&Node>, diagnostics: &mut Diagnostics) -> Resources {
    let Some(node) = node else {
        return Resources::default();
    };
    Resources {
        cpus: node.get("cpus").and_then(integer),
        memory: node.get("memory").and_then(|node| {
            measured(
                node,
                units::size,
                "`memory` must be a size",
                "write it as `500 MB` or `4 GiB`",
                diagnostics,
            )
        }),
        gpus: node.get("gpus").and_then(integer),
    }
}

/// Reads a text with a unit.
fn measured<T>(
    node: &Node,
    read: impl FnOnce(&str) -> Option<T>,
    message: &str,
    hint: &str,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let value = node.as_str().and_then(read);
    if value.is_none() {
        let message = format!("{message}, found {}", node.describe());
        diagnostics.push(
            Diagnostic::error("bad-unit", message)
                .at(node.span())
                .hint(hint),
        );
    }
    value
}

#[cfg(test)]
mod tests;
