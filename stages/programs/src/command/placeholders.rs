//! Judges the placeholders of a command before anything runs. One that stands for nothing is an error; text that was probably
//! meant as one, such as `{metrics}` or `{inputs.raw}`, is a warning, since braces may be anything to a program.

use std::collections::BTreeSet;

use super::CommandParams;
use super::template::{Part, parts, placeholders};
use contract::Remark;

/// The code of warnings about text that looks like a placeholder.
const NOT_A_PLACEHOLDER: &str = "not-a-placeholder";

/// What a placeholder may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Output,
    File,
    Input,
}

const KINDS: [Kind; 3] = [Kind::Output, Kind::File, Kind::Input];

impl Kind {
    /// What stands before the dot.
    fn word(self) -> &'static str {
        match self {
            Self::Output => "out",
            Self::File => "file",
            Self::Input => "in",
        }
    }

    fn article_and_name(self) -> &'static str {
        match self {
            Self::Output => "an output",
            Self::File => "a declared file",
            Self::Input => "an input",
        }
    }

    /// The kind that a word means, also one that is not quite right.
    fn meant(word: &str) -> Option<Self> {
        match word.to_lowercase().as_str() {
            "out" | "output" | "outputs" => Some(Self::Output),
            "file" | "files" => Some(Self::File),
            "in" | "input" | "inputs" => Some(Self::Input),
            _ => None,
        }
    }
}

/// All that is wrong, or odd, about the placeholders of a command. `connected` has the inputs as `inputs.NAME`, if they are
/// known.
pub(super) fn remarks(params: &CommandParams, connected: Option<&[&str]>) -> Vec<Remark> {
    let names = Names::of(params, connected);
    let mut found = Vec::new();
    for (index, argument) in params.run.iter().enumerate() {
        let place = format!("run.{index}");
        // Sets: what stands in an argument twice is reported once.
        for name in placeholders(argument).collect::<BTreeSet<&str>>() {
            if names.lacks(name) {
                found.push(names.unknown(&place, name));
            }
        }
        for text in in_braces(argument) {
            found.extend(names.almost(&place, text));
        }
    }
    for (name, value) in &params.env {
        if let Some(placeholder) = placeholders(value).next() {
            found.push(in_a_variable(&format!("env.{name}"), placeholder));
        }
    }
    found
}

fn in_a_variable(place: &str, placeholder: &str) -> Remark {
    let message =
        format!("`{{{placeholder}}}` is passed on as it is written: `env` has no placeholders");
    let hint = format!("give `\"{{{placeholder}}}\"` to the program as an argument in `run`");
    Remark::warning(NOT_A_PLACEHOLDER, place, message).hint(hint)
}

/// The names that placeholders may have.
struct Names<'a> {
    outputs: Vec<&'a str>,
    files: Vec<&'a str>,
    /// Nothing if it is not known what is connected.
    inputs: Option<Vec<&'a str>>,
}

impl<'a> Names<'a> {
    fn of(params: &'a CommandParams, connected: Option<&[&'a str]>) -> Self {
        let items = |ports: &[&'a str]| {
            let names = ports.iter().filter_map(|port| port.strip_prefix("inputs."));
            names.collect()
        };
        Self {
            outputs: params.outputs.keys().map(String::as_str).collect(),
            files: params.files.keys().map(String::as_str).collect(),
            inputs: connected.map(items),
        }
    }

    fn of_kind(&self, kind: Kind) -> Option<&[&'a str]> {
        match kind {
            Kind::Output => Some(&self.outputs),
            Kind::File => Some(&self.files),
            Kind::Input => self.inputs.as_deref(),
        }
    }

    /// Whether a placeholder stands for nothing, as far as is known.
    fn lacks(&self, placeholder: &str) -> bool {
        let Some((kind, name)) = split(placeholder) else {
            return false;
        };
        let known = self.of_kind(kind);
        known.is_some_and(|names| !names.contains(&name))
    }

    /// The placeholders for what has this name.
    fn called(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        for kind in KINDS {
            if self.of_kind(kind).unwrap_or_default().contains(&name) {
                found.push(written(kind, name));
            }
        }
        found
    }

    fn unknown(&self, place: &str, placeholder: &str) -> Remark {
        let (kind, name) = split(placeholder).unwrap_or((Kind::Input, placeholder));
        let what = kind.article_and_name();
        let message = format!("`{{{placeholder}}}` is not {what} of this stage");
        let hint = match &self.called(name)[..] {
            [] => self.choices(kind, name),
            meant => format!("did you mean {}?", meant.join(" or ")),
        };
        Remark::error(place, message).hint(hint)
    }

    /// The placeholders of a kind, or how to get one.
    fn choices(&self, kind: Kind, name: &str) -> String {
        const MOST: usize = 20;
        let names = self.of_kind(kind).unwrap_or_default().iter().take(MOST);
        let shown: Vec<String> = names.map(|name| written(kind, name)).collect();
        match (kind, &shown[..]) {
            (Kind::Input, []) => "the stage has no inputs: name a stage in `from`".to_owned(),
            (Kind::File, []) => {
                format!("no files are declared: add `files: {{{name}: PATH}}` under `with`")
            }
            (Kind::Output, []) => format!("add `outputs: {{{name}: {{path: PATH}}}}` under `with`"),
            (_, [only]) => format!("there is {only}"),
            (_, several) => format!("there are {}", several.join(", ")),
        }
    }

    /// What to say of text in braces that is not a placeholder, if it was probably meant as one.
    fn almost(&self, place: &str, text: &str) -> Option<Remark> {
        let (word, name) = text.split_once('.').unwrap_or((text, ""));
        let meant = match (Kind::meant(word), &self.called(text)[..]) {
            (_, called @ [_, ..]) => format!("did you mean {}?", called.join(" or ")),
            (Some(kind), []) if name.is_empty() => {
                self.of_kind(kind)?.first()?;
                self.choices(kind, name)
            }
            (Some(kind), []) => match &self.called(name)[..] {
                [] => {
                    self.of_kind(kind)?;
                    self.choices(kind, name)
                }
                called => format!("did you mean {}?", called.join(" or ")),
            },
            (None, []) => return None,
        };
        let message =
            format!("`{{{text}}}` is passed on as it is written: it is not a placeholder");
        Some(Remark::warning(NOT_A_PLACEHOLDER, place, message).hint(meant))
    }
}

fn split(placeholder: &str) -> Option<(Kind, &str)> {
    let (word, name) = placeholder.split_once('.')?;
    let kind = KINDS.into_iter().find(|kind| kind.word() == word)?;
    Some((kind, name))
}

fn written(kind: Kind, name: &str) -> String {
    format!("`{{{}.{name}}}`", kind.word())
}

/// What stands in braces in the text between placeholders, without blanks around it; not that of `${NAME}`, which is a shell's.
fn in_braces(argument: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for part in parts(argument) {
        let Part::Text(text) = part else { continue };
        for (start, _) in text.match_indices('{') {
            let rest = &text[start + 1..];
            if let Some(end) = rest.find(['{', '}'])
                && rest[end..].starts_with('}')
                && !text[..start].ends_with('$')
            {
                found.insert(rest[..end].trim());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Place, whether it is an error, what is said about it, and the hint.
    fn told(run: Value, connected: Option<&[&str]>) -> Vec<String> {
        let params: CommandParams = serde_json::from_value(json!({
            "run": run,
            "files": {"script": "train.py"},
            "outputs": {"metrics": {"path": "m.json"}, "both": {"path": "b"}},
        }))
        .unwrap();
        let shown = |remark: Remark| {
            let mark = if remark.fatal { "!" } else { "" };
            let name = remark
                .message
                .split('`')
                .nth(1)
                .unwrap_or_default()
                .to_owned();
            format!(
                "{}{mark} {name}: {}",
                remark.parameter,
                remark.hint.unwrap_or_default()
            )
        };
        remarks(&params, connected).into_iter().map(shown).collect()
    }

    #[test]
    fn every_wrong_placeholder_is_reported_with_what_there_is() {
        let run = json!([
            "x",
            "{in.rwa} {file.metrics}",
            "{out.o}{out.o}",
            "{file.script} {out.metrics} {in.raw}"
        ]);
        assert_eq!(
            told(run.clone(), Some(&["inputs", "inputs.raw"])),
            [
                "run.1! {file.metrics}: did you mean `{out.metrics}`?",
                "run.1! {in.rwa}: there is `{in.raw}`",
                "run.2! {out.o}: there are `{out.both}`, `{out.metrics}`",
            ]
        );
        assert_eq!(told(run, None).len(), 2, "what is not known is not judged");
        assert_eq!(
            told(json!(["{in.x}"]), Some(&[])),
            ["run.0! {in.x}: the stage has no inputs: name a stage in `from`"]
        );
    }

    #[test]
    fn text_that_was_meant_as_a_placeholder_is_a_warning() {
        let connected: Option<&[&str]> = Some(&["inputs.raw", "inputs.both"]);
        for (text, hint) in [
            ("{metrics}", "did you mean `{out.metrics}`?"),
            ("{script}", "did you mean `{file.script}`?"),
            ("{both}", "did you mean `{out.both}` or `{in.both}`?"),
            ("--to={ raw }", "did you mean `{in.raw}`?"),
            ("{inputs.raw}", "did you mean `{in.raw}`?"),
            ("{Files.script}", "did you mean `{file.script}`?"),
            ("{output.other}", "there are `{out.both}`, `{out.metrics}`"),
            ("{input}", "there are `{in.raw}`, `{in.both}`"),
        ] {
            let found = told(json!(["x", text]), connected);
            assert!(
                found.len() == 1 && found[0].ends_with(&format!(": {hint}")),
                "{text}: {found:?}"
            );
            assert!(found[0].starts_with("run.1 {"), "{found:?}");
        }
        for fine in [
            "{}",
            "{x}",
            "${metrics}",
            "awk '{print $1}'",
            "{ echo; }",
            "{\"metrics\": 1}",
            "{in.raw}",
            "f() {",
        ] {
            assert_eq!(
                told(json!(["x", fine]), connected),
                Vec::<String>::new(),
                "{fine}"
            );
        }
    }

    #[test]
    fn variables_have_no_placeholders() {
        let with = json!({"run": ["x"], "env": {"A": "{in.raw}", "B": "{b}"}, "outputs": {"o": {"path": "o"}}});
        let found = remarks(
            &serde_json::from_value(with).unwrap(),
            Some(&["inputs.raw"]),
        );
        assert_eq!(
            found
                .iter()
                .map(|remark| remark.parameter.as_str())
                .collect::<Vec<_>>(),
            ["env.A"]
        );
    }
}
