//! Settings that change nothing: parameters that nothing refers to, axes that reach nothing, a profile without effect,
//! a fragment that nobody needs. Each is a slip more often than not, so it is a warning at its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::document::Document;
use super::node::Node;
use super::substitute::references;
use crate::diagnostic::{Diagnostic, Diagnostics, FileId, Span, did_you_mean, list};

/// Warns of everything in a document that is without effect. Parameters that come with a fragment are for all who
/// include it, and are passed over unless somebody sets them.
pub(super) fn warn(document: &Document, profile: Option<&str>, diagnostics: &mut Diagnostics) {
    let names = Names::of(document);
    let main = document.root.span().file;
    for (name, (span, _)) in &document.params {
        if names.is_used(name) {
            continue;
        }
        if let Some(set) = document.set.get(name) {
            diagnostics.push(set_in_vain(name, *set, &names));
        } else if span.file == main {
            diagnostics.push(unused_parameter(name, *span, &names));
        }
    }
    for (stage, (_, node)) in &document.stages {
        diagnostics.extend(unused_axes(stage, node, &names));
    }
    diagnostics.extend(profile.and_then(|profile| idle_profile(document, profile)));
    diagnostics.extend(unused_includes(document, &names));
}

/// The names that are referred to.
struct Names {
    used: BTreeSet<String>,
    params: Vec<Arc<str>>,
}

impl Names {
    /// Starts with what stages and top-level keys refer to, and follows parameters into parameters.
    fn of(document: &Document) -> Self {
        let mut used = BTreeSet::new();
        let mut open: Vec<String> = Vec::new();
        let roots = ["seed", "strict"]
            .into_iter()
            .filter_map(|key| document.root.get(key));
        for node in roots.chain(document.stages.values().map(|(_, node)| node)) {
            open.extend(references(node).into_iter().map(|(name, _)| name));
        }
        let elsewhere = by_profiles(document);
        while let Some(name) = open.pop() {
            if used.contains(&name) {
                continue;
            }
            let value = document.params.get(name.as_str()).map(|(_, node)| node);
            let values = value
                .into_iter()
                .chain(elsewhere.get(name.as_str()).into_iter().flatten().copied());
            open.extend(values.flat_map(references).map(|(name, _)| name));
            used.insert(name);
        }
        Self {
            used,
            params: document.params.keys().cloned().collect(),
        }
    }

    fn is_used(&self, name: &str) -> bool {
        self.used.contains(name)
    }

    /// A parameter that is in use and was probably meant.
    fn meant(&self, name: &str) -> Option<&str> {
        did_you_mean(name, self.in_use())
    }

    fn in_use(&self) -> impl Iterator<Item = &str> {
        self.params
            .iter()
            .map(|name| &**name)
            .filter(|name| self.is_used(name))
    }
}

/// What any profile gives a parameter: one that was not chosen may refer to a parameter that is for it alone.
fn by_profiles(document: &Document) -> BTreeMap<&str, Vec<&Node>> {
    let mut values: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    let profiles = document
        .root
        .get("profiles")
        .and_then(Node::entries)
        .unwrap_or(&[]);
    for (key, value) in profiles
        .iter()
        .flat_map(|(_, profile)| profile.entries().unwrap_or(&[]))
    {
        values.entry(&*key.text).or_default().push(value);
    }
    values
}

fn unused_parameter(name: &str, span: Span, names: &Names) -> Diagnostic {
    let message = format!("nothing refers to the parameter `{name}`");
    let hint = match names.meant(name) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("write `${{{name}}}` where it is meant, or remove it"),
    };
    Diagnostic::warning("unused-parameter", message)
        .at(span)
        .hint(hint)
}

fn set_in_vain(name: &str, span: Span, names: &Names) -> Diagnostic {
    let message = format!("nothing refers to the parameter `{name}`, so to set it changes nothing");
    let used: Vec<&str> = names.in_use().collect();
    let hint = match names.meant(name) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if used.is_empty() => "no stage refers to a parameter".to_owned(),
        None => format!("stages refer to {}", list(&used)),
    };
    Diagnostic::warning("unused-parameter", message)
        .at(span)
        .hint(hint)
}

/// Axes of a stage to which nothing refers: neither the stage, nor what takes from it, nor another axis.
fn unused_axes(stage: &str, node: &Node, names: &Names) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (form, axes) in ["matrix", "foreach"]
        .into_iter()
        .filter_map(|form| Some((form, node.get(form)?)))
    {
        // Points that are listed have the same axes; the first says which.
        let axes = axes
            .entries()
            .or_else(|| axes.items()?.first()?.entries())
            .unwrap_or(&[]);
        for (key, values) in axes {
            let goes_by = |(_, other): &(super::Key, Node)| {
                other
                    .get("by")
                    .and_then(Node::as_str)
                    .and_then(|by| by.split('.').next())
                    == Some(&*key.text)
            };
            let only = values.items().is_some_and(|items| items.len() < 2);
            if names.is_used(&key.text) || axes.iter().any(goes_by) || only {
                continue;
            }
            let message = format!(
                "nothing refers to the axis `{}` of `{stage}`: its instances are all the same",
                key.text
            );
            let hint = format!(
                "write `${{{}}}` where its value is meant, or remove it from `{form}`",
                key.text
            );
            found.push(
                Diagnostic::warning("unused-axis", message)
                    .at(key.span)
                    .hint(hint),
            );
        }
    }
    found
}

/// A chosen profile that sets nothing, or nothing but what parameters are without it.
fn idle_profile(document: &Document, chosen: &str) -> Option<Diagnostic> {
    let (key, values) = document.root.get("profiles")?.entry(chosen)?;
    let written = document.root.get("params");
    let differs = |(name, value): &(super::Key, Node)| {
        written
            .and_then(|params| params.get(&name.text))
            .is_none_or(|usual| usual != value)
    };
    if values.entries().unwrap_or(&[]).iter().any(differs) {
        return None;
    }
    let message = format!("the profile `{chosen}` changes nothing");
    let hint = "give it values that differ from those in `params`";
    Some(
        Diagnostic::warning("unused-profile", message)
            .at(key.span)
            .hint(hint),
    )
}

/// Fragments that bring no stage and no parameter in use. One that includes others may be there for theirs.
fn unused_includes(document: &Document, names: &Names) -> Vec<Diagnostic> {
    let mut needed: BTreeSet<FileId> = document
        .stages
        .values()
        .map(|(span, _)| span.file)
        .collect();
    needed.extend(
        document
            .params
            .iter()
            .filter(|(name, _)| names.is_used(name))
            .map(|(_, (span, _))| span.file),
    );
    // A parameter of a fragment that the including file sets anew is why the fragment is there.
    needed.extend(
        document
            .overridden
            .iter()
            .filter(|(name, _)| names.is_used(name))
            .map(|(_, file)| *file),
    );
    let includes_others: BTreeSet<FileId> = document
        .includes
        .iter()
        .map(|(span, _)| span.file)
        .collect();
    let idle = document
        .includes
        .iter()
        .filter(|(_, file)| !needed.contains(file) && !includes_others.contains(file));
    let warning = |(span, _): &(Span, FileId)| {
        let message =
            "nothing of this file is used: it has no stages, and nothing refers to its parameters";
        Diagnostic::warning("unused-include", message)
            .at(*span)
            .hint("remove it from `include`")
    };
    idle.map(warning).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::diagnostic::SourceMap;
    use crate::pipeline::{LoadOptions, load};

    /// What is said about a pipeline beside some fragments: code and place of each problem.
    fn said(
        pipeline: &str,
        fragments: &[(&str, &str)],
        profile: Option<&str>,
        set: &[(&str, &str)],
    ) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in fragments.iter().chain(&[("p.yaml", pipeline)]) {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let overrides = set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let options = LoadOptions {
            profile: profile.map(str::to_owned),
            overrides,
            given_by: None,
        };
        let mut sources = SourceMap::default();
        let (_, diagnostics) = load(&folder.path().join("p.yaml"), &options, &mut sources);
        let place = |span| {
            let place = sources.location(span);
            let file = Path::new(place.path)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            format!("{file}:{}:{}", place.line, place.column)
        };
        let line = |problem: &crate::diagnostic::Diagnostic| {
            let place = problem
                .primary
                .as_ref()
                .map_or_else(String::new, |label| place(label.span));
            format!(
                "{} {place} {}",
                problem.code,
                problem.hint.as_deref().unwrap_or_default()
            )
        };
        diagnostics.sorted().into_iter().map(line).collect()
    }

    const STAGE: &str = "stages:\n  a: {uses: generate, with: {channels: \"${width}\"}}\n";

    #[test]
    fn a_parameter_that_nothing_refers_to_is_told_at_its_place() {
        let pipeline =
            format!("pipeline: p\nparams:\n  width: 3\n  widht: 4\n  epochs: 5\n{STAGE}");
        assert_eq!(
            said(&pipeline, &[], None, &[]),
            [
                "unused-parameter p.yaml:4:3 did you mean `width`?",
                "unused-parameter p.yaml:5:3 write `${epochs}` where it is meant, or remove it",
            ]
        );
        assert_eq!(
            said(&pipeline, &[], None, &[("epochs", "9")])[1],
            "unused-parameter command line:1:7 stages refer to `width`"
        );
    }

    #[test]
    fn references_are_followed_through_parameters_and_profiles() {
        let chain = format!(
            "pipeline: p\nparams: {{base: 3, width: \"${{base}}\", wide: 9}}\nprofiles: {{big: {{width: \"${{wide}}\"}}}}\n{STAGE}"
        );
        assert!(said(&chain, &[], None, &[]).is_empty());
        let seed = "pipeline: p\nseed: \"${s}\"\nparams: {s: 1}\nstages: {}\n";
        assert!(said(seed, &[], None, &[]).is_empty());
        let idle = "pipeline: p\nparams: {a: 1, b: \"${a}\"}\nstages: {}\n";
        assert_eq!(
            said(idle, &[], None, &[]).len(),
            2,
            "a chain that ends nowhere"
        );
    }

    #[test]
    fn an_axis_that_reaches_nothing_is_told() {
        let text = "pipeline: p\nstages:\n  a: {uses: generate, matrix: {used: [1, 2], idle: [3, 4], one: [5]}, with: {channels: 1}}\n  \
                    b: {uses: window, from: a, with: {length: \"${used}\"}}\n";
        assert_eq!(
            said(text, &[], None, &[]),
            [
                "unused-axis p.yaml:3:46 write `${idle}` where its value is meant, or remove it from `matrix`"
            ]
        );
    }

    #[test]
    fn a_profile_without_effect_is_told_when_it_is_chosen() {
        let text = format!(
            "pipeline: p\nparams: {{width: 3}}\nprofiles:\n  same: {{width: 3}}\n  more: {{width: 4}}\n{STAGE}"
        );
        assert!(
            said(&text, &[], None, &[]).is_empty()
                && said(&text, &[], Some("more"), &[]).is_empty()
        );
        let told = said(&text, &[], Some("same"), &[]);
        assert_eq!(
            told,
            ["unused-profile p.yaml:4:3 give it values that differ from those in `params`"]
        );
    }

    #[test]
    fn a_fragment_that_nobody_needs_is_told_and_its_spare_parameters_are_not() {
        let fragments = [
            ("f.yaml", "params: {width: 3, spare: 1}\n"),
            ("g.yaml", "params: {other: 1}\n"),
        ];
        let text = format!("pipeline: p\ninclude: [f.yaml, g.yaml]\n{STAGE}");
        assert_eq!(
            said(&text, &fragments, None, &[]),
            ["unused-include p.yaml:2:19 remove it from `include`"]
        );
        let told = said(&text, &fragments[..], None, &[("spare", "2")]);
        assert_eq!(
            told[1],
            "unused-parameter command line:1:7 stages refer to `width`"
        );
        let anew = format!("pipeline: p\ninclude: [f.yaml]\nparams: {{width: 4}}\n{STAGE}");
        assert!(said(&anew, &fragments, None, &[]).is_empty());
    }
}
