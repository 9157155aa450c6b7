//! `profiles`: named sets of parameter values, of which a run may choose one. They are put into the document before
//! `--set`, which therefore wins. What the values mean is found out with the parameters.

use std::sync::Arc;

use super::document::Document;
use super::node::{Key, Node};
use super::overrides::COMMAND_LINE;
use super::{is_name, name_hint};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, Span, suggestion};

/// Checks all profiles of the document, and gives its parameters the values of the chosen one.
pub(super) fn apply(
    document: &mut Document,
    chosen: Option<&str>,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) {
    let written = document.root.get("profiles").cloned();
    let profiles = written.as_ref().and_then(Node::entries).unwrap_or(&[]);
    for (name, values) in profiles {
        check(document, name, values, diagnostics);
    }
    let Some(chosen) = chosen else { return };
    match profiles.iter().find(|(name, _)| &*name.text == chosen) {
        Some((_, values)) => set(document, values),
        None => diagnostics.push(unknown(chosen, profiles, sources)),
    }
}

/// A profile has a name and sets what the pipeline declares.
fn check(document: &Document, name: &Key, values: &Node, diagnostics: &mut Diagnostics) {
    if !is_name(&name.text) {
        let message = format!("`{}` cannot be the name of a profile", name.text);
        diagnostics.push(
            Diagnostic::error("bad-name", message)
                .at(name.span)
                .hint(name_hint()),
        );
    }
    let params: Vec<&str> = document.params.keys().map(|name| &**name).collect();
    for (key, _) in values.entries().unwrap_or(&[]) {
        if !document.params.contains_key(&key.text) {
            let message = format!(
                "the profile `{}` sets `{}`, which is not a parameter",
                name.text, key.text
            );
            let diagnostic = Diagnostic::error("unknown-parameter", message).at(key.span);
            let declare =
                || "declare it in `params` with the value of a run without the profile".to_owned();
            diagnostics
                .push(diagnostic.hint(suggestion(&key.text, &params).unwrap_or_else(declare)));
        }
    }
}

fn set(document: &mut Document, values: &Node) {
    for (key, value) in values.entries().unwrap_or(&[]) {
        if let Some((_, old)) = document.params.get_mut(&key.text) {
            *old = value.clone();
        }
    }
}

fn unknown(chosen: &str, profiles: &[(Key, Node)], sources: &mut SourceMap) -> Diagnostic {
    const OPTION: &str = "--profile ";
    let text: Arc<str> = format!("{OPTION}{chosen}").into();
    let (start, end) = (OPTION.len() as u32, text.len() as u32);
    let span = Span::new(sources.add(COMMAND_LINE, text), start, end);
    let names: Vec<&str> = profiles.iter().map(|(name, _)| &*name.text).collect();
    let none = || {
        "the pipeline has no `profiles`; parameters are set one by one with `--set name=value`"
            .to_owned()
    };
    let diagnostic =
        Diagnostic::error("unknown-profile", format!("unknown profile `{chosen}`")).at(span);
    diagnostic.hint(suggestion(chosen, &names).unwrap_or_else(none))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::diagnostic::SourceMap;
    use crate::pipeline::{LoadOptions, Spec, load_text};

    const EXAMPLE: &str = "pipeline: p
params: {epochs: 10, stride: 1, total: \"${epochs}x${stride}\"}
profiles:
  smoke: {epochs: 1, stride: 50}
  long: {epochs: \"${stride}00\"}
  plain:
stages: {}
";

    /// Reads a text with a profile, and overrides that come after it.
    fn read(
        text: &str,
        profile: Option<&str>,
        overrides: &[(&str, &str)],
    ) -> (Option<Spec>, String) {
        let overrides = overrides
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options = LoadOptions {
            profile: profile.map(str::to_owned),
            overrides: overrides.collect(),
            given_by: None,
        };
        let mut sources = SourceMap::default();
        let (spec, diagnostics) = load_text(Path::new("p.yaml"), text, &options, &mut sources);
        (spec, diagnostics.render(&sources, false))
    }

    /// The parameters that come of the example.
    fn params(profile: Option<&str>, overrides: &[(&str, &str)]) -> Value {
        let (spec, report) = read(EXAMPLE, profile, overrides);
        assert!(!report.contains("error["), "{report}");
        let spec = spec.unwrap();
        assert_eq!(spec.profile.as_deref(), profile);
        Value::Object(
            spec.params
                .iter()
                .map(|(name, param)| (name.clone(), param.value.to_json()))
                .collect(),
        )
    }

    #[test]
    fn a_profile_sets_parameters_and_the_command_line_wins() {
        assert_eq!(
            params(None, &[]),
            json!({"epochs": 10, "stride": 1, "total": "10x1"})
        );
        assert_eq!(
            params(Some("smoke"), &[]),
            json!({"epochs": 1, "stride": 50, "total": "1x50"})
        );
        assert_eq!(
            params(Some("smoke"), &[("epochs", "2")]),
            json!({"epochs": 2, "stride": 50, "total": "2x50"})
        );
        assert_eq!(params(Some("plain"), &[]), params(None, &[]));
    }

    #[test]
    fn a_profile_may_refer_to_parameters() {
        assert_eq!(
            params(Some("long"), &[("stride", "3")]),
            json!({"epochs": "300", "stride": 3, "total": "300x3"})
        );
    }

    #[test]
    fn faults_are_reported_where_they_stand() {
        let faulty = EXAMPLE
            .replace("stride: 50", "strid: 50, width: 3")
            .replace("  plain:", "  2nd: [1]");
        let reports = [
            read(EXAMPLE, Some("smok"), &[]).1,
            read(EXAMPLE, Some("overnight"), &[]).1,
            read("pipeline: p\nstages: {}\n", Some("smoke"), &[]).1,
            read(&faulty, None, &[]).1,
        ];
        insta::assert_snapshot!(reports.concat(), @r#"
        error[unknown-profile]: unknown profile `smok`
         --> command line:1:11
          |
        1 | --profile smok
          |           ^^^^
          |
          = help: did you mean `smoke`?

        error[unknown-profile]: unknown profile `overnight`
         --> command line:1:11
          |
        1 | --profile overnight
          |           ^^^^^^^^^
          |
          = help: choose from `smoke`, `long`, `plain`

        error[unknown-profile]: unknown profile `smoke`
         --> command line:1:11
          |
        1 | --profile smoke
          |           ^^^^^
          |
          = help: the pipeline has no `profiles`; parameters are set one by one with `--set name=value`

        error[unknown-parameter]: the profile `smoke` sets `strid`, which is not a parameter
         --> p.yaml:4:22
          |
        4 |   smoke: {epochs: 1, strid: 50, width: 3}
          |                      ^^^^^
          |
          = help: did you mean `stride`?

        error[unknown-parameter]: the profile `smoke` sets `width`, which is not a parameter
         --> p.yaml:4:33
          |
        4 |   smoke: {epochs: 1, strid: 50, width: 3}
          |                                 ^^^^^
          |
          = help: choose from `epochs`, `stride`, `total`

        error[bad-name]: `2nd` cannot be the name of a profile
         --> p.yaml:6:3
          |
        6 |   2nd: [1]
          |   ^^^
          |
          = help: a name begins with a letter or `_`, followed by letters, digits, `_` and `-`

        error[wrong-type]: `profiles.2nd` must be a map, found a list
         --> p.yaml:6:8
          |
        6 |   2nd: [1]
          |        ^^^
        "#);
    }
}
