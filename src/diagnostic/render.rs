//! Problems as text for people, with the offending line, and as JSON for programs. It changes nothing in them.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::{Diagnostic, Diagnostics, FileId, Label, Severity, SourceMap, counted, visible};

impl Diagnostics {
    /// All problems in the order of the text, an empty line behind each; with colours of the terminal or without.
    pub fn render(&self, sources: &SourceMap, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        let mut sorted = self.sorted();
        if sorted.len() > MOST {
            // What keeps the file from being used must be among those that are shown.
            sorted.sort_by_key(|diagnostic| diagnostic.severity != Severity::Error);
        }
        for diagnostic in sorted.iter().take(MOST) {
            let shown = shown(diagnostic);
            text.push_str(&renderer.render(&[group(&shown, sources)]));
            text.push_str("\n\n");
        }
        if sorted.len() > MOST {
            text.push_str(&format!(
                "… and {}\n\n",
                counted(sorted.len() - MOST, "more problem")
            ));
        }
        text
    }

    /// A list of `{severity, code, message, file, line, column, hint, related}`, in the order of the text.
    pub fn to_json(&self, sources: &SourceMap) -> Value {
        let sorted = self.sorted().into_iter();
        sorted
            .map(|diagnostic| to_json(diagnostic, sources))
            .collect()
    }
}

/// More problems than this are only counted: nobody reads further, and the first ones mostly cause the rest.
const MOST: usize = 100;

/// Characters of a sentence that are shown.
const LONGEST: usize = 1000;

/// The problem with words that may be shown: what was quoted from the file may hold anything.
fn shown(diagnostic: &Diagnostic) -> Diagnostic {
    let mut shown = diagnostic.clone();
    shown.message = words(&shown.message);
    for label in shown.primary.iter_mut().chain(&mut shown.secondary) {
        label.text = words(&label.text).into();
    }
    if let Some(hint) = &mut shown.hint {
        *hint = words(hint).into();
    }
    shown
}

fn words(text: &str) -> String {
    let text = visible(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a SourceMap) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(
        level
            .primary_title(diagnostic.message.as_str())
            .id(diagnostic.code),
    );
    for file in files(diagnostic) {
        group = group.element(snippet(diagnostic, file, sources));
    }
    match &diagnostic.hint {
        Some(hint) => group.element(Level::HELP.message(&**hint)),
        None => group,
    }
}

/// The files that are pointed into, that of the primary label first.
fn files(diagnostic: &Diagnostic) -> Vec<FileId> {
    let mut files = Vec::new();
    for label in diagnostic.primary.iter().chain(&diagnostic.secondary) {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    files
}

/// The lines of a file that a problem points at. Only these are handed on, so that a report over a large file is fast.
fn snippet<'a>(
    diagnostic: &'a Diagnostic,
    file: FileId,
    sources: &'a SourceMap,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let mut labels = Vec::new();
    labels.extend(
        diagnostic
            .primary
            .iter()
            .map(|label| (AnnotationKind::Primary, label)),
    );
    labels.extend(
        diagnostic
            .secondary
            .iter()
            .map(|label| (AnnotationKind::Context, label)),
    );
    labels.retain(|(_, label)| label.span.file == file);
    let labelled = labels.iter();
    let lines: Vec<usize> = labelled
        .map(|(_, label)| sources.line_index(file, label.span.start))
        .collect();
    let first = lines.iter().copied().min().unwrap_or(0);
    let last = lines.iter().copied().max().unwrap_or(0);
    let (begin, _) = sources.line_range(file, first);
    let (_, end) = sources.line_range(file, last);
    let text = &sources.text(file)[begin as usize..end as usize];
    let mut snippet = Snippet::source(text)
        .line_start(first + 1)
        .path(visible(sources.path(file)));
    for (kind, label) in labels {
        let (start, stop) = on_one_line(label, sources);
        let annotation = kind.span((start - begin) as usize..(stop - begin) as usize);
        let words = (!label.text.is_empty()).then_some(&*label.text);
        snippet = snippet.annotation(annotation.label(words));
    }
    snippet
}

/// A span that runs over several lines is shown up to the end of its first one.
fn on_one_line(label: &Label, sources: &SourceMap) -> (u32, u32) {
    let line = sources.line_index(label.span.file, label.span.start);
    let (_, end) = sources.line_range(label.span.file, line);
    let start = label.span.start.min(end);
    (start, label.span.end.clamp(start, end))
}

fn to_json(diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
    let primary = diagnostic.primary.as_ref();
    let place = primary.map(|label| sources.location(label.span));
    let mut related = Vec::new();
    for Label { span, text } in &diagnostic.secondary {
        let place = sources.location(*span);
        related.push(
            json!({"file": place.path, "line": place.line, "column": place.column, "message": text}),
        );
    }
    json!({
        "severity": diagnostic.severity.name(),
        "code": diagnostic.code,
        "message": diagnostic.message,
        "file": place.map(|place| place.path),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "hint": diagnostic.hint,
        "related": related,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnostic, Diagnostics, SourceMap, Span};

    fn example() -> (Diagnostics, SourceMap) {
        let mut sources = SourceMap::default();
        let file = sources.add(
            "p.yaml",
            "pipeline: größe\nstages:\n  raw:\n    uses: ingset\n",
        );
        let other = sources.add("command line", "--set a=1");
        let mut diagnostics = Diagnostics::default();
        let diagnostic = Diagnostic::error("unknown-kind", "there is no stage kind `ingset`")
            .at_with(Span::new(file, 43, 49), "stage `raw`")
            .also(Span::new(other, 6, 7), "set here")
            .hint("did you mean `ingest`?");
        diagnostics.push(diagnostic);
        diagnostics
            .push(Diagnostic::warning("odd-name", "an odd name").at(Span::new(file, 10, 45)));
        diagnostics.push(Diagnostic::error("no-file", "cannot read `q.yaml`"));
        (diagnostics, sources)
    }

    #[test]
    fn people_see_line_caret_and_hint() {
        let (diagnostics, sources) = example();
        insta::assert_snapshot!(diagnostics.render(&sources, false), @r#"
        error[no-file]: cannot read `q.yaml`

        warning[odd-name]: an odd name
         --> p.yaml:1:11
          |
        1 | pipeline: größe
          |           ^^^^^

        error[unknown-kind]: there is no stage kind `ingset`
         --> p.yaml:4:11
          |
        4 |     uses: ingset
          |           ^^^^^^ stage `raw`
          |
         ::: command line:1:7
          |
        1 | --set a=1
          |       - set here
          |
          = help: did you mean `ingest`?
        "#);
    }

    #[test]
    fn programs_see_positions() {
        let (diagnostics, sources) = example();
        let json = diagnostics.to_json(&sources);
        assert_eq!(json[2]["file"], "p.yaml");
        assert_eq!(
            (json[2]["line"].as_u64(), json[2]["column"].as_u64()),
            (Some(4), Some(11))
        );
        assert_eq!(json[2]["related"][0]["file"], "command line");
        assert_eq!(json[0]["line"], serde_json::Value::Null);
    }

    #[test]
    fn colours_only_when_asked_for() {
        let (diagnostics, sources) = example();
        assert!(!diagnostics.render(&sources, false).contains('\u{1b}'));
        assert!(diagnostics.render(&sources, true).contains('\u{1b}'));
    }

    /// Places in trials are named after values of axes, which may hold anything.
    #[test]
    fn the_name_of_a_place_cannot_steer_a_terminal_or_make_a_line() {
        let mut sources = SourceMap::default();
        let file = sources.add("trial 1,a\u{7f}\nerror: b=1", "text");
        let mut diagnostics = Diagnostics::default();
        diagnostics.push(Diagnostic::error("wrong", "it is wrong").at(Span::new(file, 0, 4)));
        let shown = diagnostics.render(&sources, false);
        assert!(
            shown.contains(r" --> trial 1,a\u{7f}\nerror: b=1:1:1"),
            "{shown}"
        );
    }
}
