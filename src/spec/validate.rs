//! Checks a tree against a JSON Schema as `schemars` writes it, and reports every problem at its place, in words for
//! people. It knows the keywords that Rust types lead to: types, `enum`, `const`, `oneOf`, `anyOf`, `allOf`, objects,
//! lists, bounds and references within the schema. Formats and patterns are left to the type that reads the value.

use serde_json::{Map, Value};

use super::node::{Key, Node};
use super::scalar::Resolved;
use super::schema_words::{accepts_null, choices, expected, flatten, resolve_reference, tag, type_names};
use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean, list, suggestion};

/// Checks `node`; `subject` names it in messages, such as ``stage `model` ``.
pub fn validate(node: &Node, schema: &Value, subject: &str) -> Diagnostics {
    let mut validator = Validator { root: schema, subject, path: Vec::new(), diagnostics: Diagnostics::default() };
    validator.value(node, schema);
    validator.diagnostics
}

struct Validator<'a> {
    root: &'a Value,
    subject: &'a str,
    /// Keys and item numbers from the root to the value at hand.
    path: Vec<String>,
    diagnostics: Diagnostics,
}

impl<'a> Validator<'a> {
    fn value(&mut self, node: &Node, schema: &'a Value) {
        let schema = resolve_reference(schema, self.root);
        let Some(schema) = schema.as_object() else {
            if schema == &Value::Bool(false) {
                self.report(node, "bad-value", format!("{} is not possible here", self.name()), None);
            }
            return;
        };
        if node.is_null() && accepts_null(schema, self.root) {
            return;
        }
        for keyword in ["oneOf", "anyOf"] {
            if let Some(options) = schema.get(keyword).and_then(Value::as_array) {
                self.options(node, schema, options);
            }
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.value(node, part);
        }
        if self.of_type(node, schema) && self.of_choices(node, schema) {
            self.bounds(node, schema);
            self.items(node, schema);
            self.properties(node, schema);
        }
    }

    /// Whether the value has one of the types; reports it if not.
    fn of_type(&mut self, node: &Node, schema: &Map<String, Value>) -> bool {
        let names = type_names(schema);
        let fits = names.is_empty() || names.iter().any(|name| has_type(node, name));
        if !fits {
            self.wrong(node, schema);
        }
        fits
    }

    fn of_choices(&mut self, node: &Node, schema: &Map<String, Value>) -> bool {
        let listed = match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
            (Some(only), _) => std::slice::from_ref(only),
            (None, Some(listed)) => listed.as_slice(),
            (None, None) => return true,
        };
        if listed.contains(&node.to_json()) {
            return true;
        }
        self.not_among(node, listed);
        false
    }

    fn not_among(&mut self, node: &Node, listed: &[Value]) {
        let words: Vec<String> = listed.iter().filter(|value| !value.is_null()).map(written).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let message = match words[..] {
            [only] => format!("{} must be `{only}`, found {}", self.name(), node.describe()),
            _ => format!("{} cannot be {}", self.name(), node.describe()),
        };
        let hint = node.as_str().map_or_else(|| suggestion("", &words), |word| suggestion(word, &words));
        self.report(node, "bad-value", message, hint);
    }

    fn wrong(&mut self, node: &Node, schema: &Map<String, Value>) {
        let expected = expected(schema, self.root);
        let message = format!("{} must be {expected}, found {}", self.name(), node.describe());
        self.report(node, "wrong-type", message, conversion(node, &type_names(schema)));
    }

    fn bounds(&mut self, node: &Node, schema: &Map<String, Value>) {
        let number = match node.resolve() {
            Some(Resolved::Integer(value)) => value as f64,
            Some(Resolved::Float(value)) => value,
            _ => return self.lengths(node, schema),
        };
        let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
        let inside = bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most)
            && bound("exclusiveMinimum").is_none_or(|least| number > least)
            && bound("exclusiveMaximum").is_none_or(|most| number < most);
        let stepped = bound("multipleOf").is_none_or(|step| step > 0.0 && number % step == 0.0);
        if !(inside && stepped) {
            let message = format!("{} must be {}, found {}", self.name(), expected(schema, self.root), node.describe());
            self.report(node, "out-of-range", message, None);
        }
    }

    fn lengths(&mut self, node: &Node, schema: &Map<String, Value>) {
        let Some(text) = node.as_str() else { return };
        let length = text.chars().count() as u64;
        let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
        if bound("minLength").is_some_and(|least| length < least)
            || bound("maxLength").is_some_and(|most| length > most)
        {
            let message = format!("{} must be {}, found {}", self.name(), expected(schema, self.root), node.describe());
            self.report(node, "out-of-range", message, None);
        }
    }

    fn items(&mut self, node: &Node, schema: &'a Map<String, Value>) {
        let Some(items) = node.items() else { return };
        let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_u64);
        let length = items.len() as u64;
        if bound("minItems").is_some_and(|least| length < least) || bound("maxItems").is_some_and(|most| length > most)
        {
            let message = format!("{} must be {}, found {length} items", self.name(), expected(schema, self.root));
            self.report(node, "out-of-range", message.replace("found 1 items", "found 1 item"), None);
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            self.unique(items);
        }
        let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(index).or_else(|| schema.get("items")) {
                self.within(index.to_string(), |validator| validator.value(item, schema));
            }
        }
    }

    fn unique(&mut self, items: &[Node]) {
        for (index, item) in items.iter().enumerate() {
            let value = item.to_json();
            if let Some(first) = items[..index].iter().find(|other| other.to_json() == value) {
                let message = format!("{} holds {} twice", self.name(), item.describe());
                let diagnostic =
                    Diagnostic::error("bad-value", message).at(item.span()).also(first.span(), "first here");
                self.diagnostics.push(diagnostic);
            }
        }
    }

    fn properties(&mut self, node: &Node, schema: &'a Map<String, Value>) {
        let Some(entries) = node.entries() else { return };
        let known = schema.get("properties").and_then(Value::as_object);
        let other = schema.get("additionalProperties");
        for (key, value) in entries {
            match (known.and_then(|known| known.get(&*key.text)), other) {
                (Some(schema), _) => self.within(key.text.to_string(), |validator| validator.value(value, schema)),
                (None, Some(Value::Bool(false))) => self.unknown_key(key, entries, known),
                (None, Some(schema)) => self.within(key.text.to_string(), |validator| validator.value(value, schema)),
                (None, None) => {}
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if node.get(name).is_none() {
                self.missing_key(node, name, known.and_then(|known| known.get(name)));
            }
        }
    }

    fn unknown_key(&mut self, key: &Key, entries: &[(Key, Node)], known: Option<&Map<String, Value>>) {
        let known: Vec<&str> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let present = |name: &str| entries.iter().any(|(key, _)| &*key.text == name);
        let free: Vec<&str> = known.iter().copied().filter(|name| !present(name)).collect();
        let hint = match did_you_mean(&key.text, known.iter().copied()) {
            Some(meant) if present(meant) => format!("`{meant}` is given already; remove this one"),
            Some(meant) => format!("did you mean `{meant}`?"),
            None if free.is_empty() => "remove it".to_owned(),
            None => format!("choose from {}", list(&free)),
        };
        let message = format!("unknown key `{}` in {}", key.text, self.name());
        self.diagnostics.push(Diagnostic::error("unknown-key", message).at(key.span).hint(hint));
    }

    fn missing_key(&mut self, node: &Node, name: &str, schema: Option<&'a Value>) {
        let message = format!("{} lacks `{name}`", self.name());
        let schema = schema.map(|schema| resolve_reference(schema, self.root));
        let hint = schema.and_then(Value::as_object).map(|schema| {
            let doc = schema.get("description").and_then(Value::as_str).map(first_sentence);
            let doc = doc.map(|doc| format!(" ({doc})")).unwrap_or_default();
            format!("add `{name}`: {}{doc}", expected(schema, self.root))
        });
        self.report(node, "missing-key", message, hint);
    }

    /// One of several schemas. The one that was meant is found by its tag or by the form of the value.
    fn options(&mut self, node: &Node, schema: &'a Map<String, Value>, options: &'a [Value]) {
        let options = flatten(options, self.root);
        let is_free = |option: &Value| option.get("properties").is_none() && option.get("enum").is_none();
        if options.iter().any(|option| is_free(option) && self.fits(node, option)) {
            return;
        }
        if let Some(tag) = tag(&options) {
            return self.tagged(node, &options, tag);
        }
        if options.iter().any(|option| self.fits(node, option)) {
            return;
        }
        if let Some(listed) = choices(&options) {
            return match node.resolve() {
                Some(_) => self.not_among(node, &listed),
                None => self.wrong(node, schema),
            };
        }
        match alike(node, &options)[..] {
            [only] => self.value(node, only),
            _ => self.wrong(node, schema),
        }
    }

    /// Options that are told apart by the value of one key, and perhaps bare names.
    fn tagged(&mut self, node: &Node, options: &[&'a Value], tag: &str) {
        let name_of = |option: &'a Value| option.pointer(&format!("/properties/{tag}/const")).and_then(Value::as_str);
        let names: Vec<&str> = options.iter().filter_map(|option| name_of(option)).collect();
        let bare = options.iter().any(|option| name_of(option).is_none() && alike_bare(option));
        if node.entries().is_none() {
            let word = node.as_str().filter(|word| names.contains(word));
            return match (node.as_str(), bare) {
                (Some(word), true) if names.contains(&word) => self.bare(node, options, tag, word),
                (Some(word), true) => self.unknown_tag(node, word, &names),
                _ => {
                    let message = format!("{} must be a map with `{tag}`, found {}", self.name(), node.describe());
                    let example =
                        word.map_or_else(|| suggestion("", &names), |word| Some(format!("write `{{{tag}: {word}}}`")));
                    self.report(node, "wrong-type", message, example);
                }
            };
        }
        let Some(chosen) = node.get(tag) else {
            let message = format!("{} lacks `{tag}`", self.name());
            return self.report(node, "missing-key", message, suggestion("", &names));
        };
        let meant = options.iter().find(|option| chosen.as_str().is_some() && name_of(option) == chosen.as_str());
        match meant {
            Some(option) => self.value(node, option),
            None => {
                self.within(tag.to_owned(), |validator| match chosen.as_str() {
                    Some(word) => validator.unknown_tag(chosen, word, &names),
                    None => {
                        let message = format!("{} must be a name, found {}", validator.name(), chosen.describe());
                        validator.report(chosen, "wrong-type", message, suggestion("", &names));
                    }
                });
            }
        }
    }

    /// A bare name stands for `{tag: name}`, so nothing else may be required.
    fn bare(&mut self, node: &Node, options: &[&'a Value], tag: &str, word: &str) {
        let option = options
            .iter()
            .find(|option| option.pointer(&format!("/properties/{tag}/const")).and_then(Value::as_str) == Some(word));
        let required = option.and_then(|option| option.get("required")).and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str).filter(|name| *name != tag) {
            let message = format!("`{word}` lacks `{name}`");
            let hint = format!("write `{{{tag}: {word}, {name}: …}}`");
            self.report(node, "missing-key", message, Some(hint));
        }
    }

    fn unknown_tag(&mut self, node: &Node, word: &str, names: &[&str]) {
        let diagnostic = Diagnostic::error("unknown-choice", format!("{} cannot be `{word}`", self.name()));
        let diagnostic = with_origin(diagnostic.at(node.span()), node);
        self.diagnostics.push(diagnostic.maybe_hint(suggestion(word, names)));
    }

    fn fits(&self, node: &Node, schema: &'a Value) -> bool {
        let mut trial =
            Validator { root: self.root, subject: "", path: Vec::new(), diagnostics: Diagnostics::default() };
        trial.value(node, schema);
        trial.diagnostics.is_empty()
    }

    fn within(&mut self, step: String, check: impl FnOnce(&mut Self)) {
        self.path.push(step);
        check(self);
        self.path.pop();
    }

    fn report(&mut self, node: &Node, code: &'static str, message: String, hint: Option<String>) {
        let diagnostic = with_origin(Diagnostic::error(code, message).at(node.span()), node);
        self.diagnostics.push(diagnostic.maybe_hint(hint));
    }

    /// The value at hand as the beginning of a sentence: `` `optimizer.lr` ``.
    fn name(&self) -> String {
        if self.path.is_empty() { self.subject.to_owned() } else { format!("`{}`", self.path.join(".")) }
    }
}

/// Adds where a value was written that came here through `${name}`.
fn with_origin(diagnostic: Diagnostic, node: &Node) -> Diagnostic {
    match node.origin() {
        Some(origin) => diagnostic.also(origin, "the value comes from here"),
        None => diagnostic,
    }
}

fn first_sentence(text: &str) -> &str {
    let line = text.split("\n\n").next().unwrap_or(text);
    line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches('.')
}

fn has_type(node: &Node, name: &str) -> bool {
    match (name, node.resolve()) {
        ("array", _) => node.items().is_some(),
        ("object", _) => node.entries().is_some(),
        ("null", Some(Resolved::Null)) | ("boolean", Some(Resolved::Bool(_))) => true,
        ("integer" | "number", Some(Resolved::Integer(_))) => true,
        ("number", Some(Resolved::Float(value))) => value.is_finite(),
        ("string", Some(Resolved::Text(_))) => true,
        _ => false,
    }
}

/// The options of the form of the value: maps where a map stands, a list for a list, scalars of its type.
/// Among maps, those that share a key with the value are meant, if there are any.
fn alike<'a>(node: &Node, options: &[&'a Value]) -> Vec<&'a Value> {
    let of_type = |option: &&&Value| {
        let names = option.as_object().map(type_names).unwrap_or_default();
        names.iter().any(|name| has_type(node, name))
    };
    let shares_key = |option: &&&Value| {
        let known = option.get("properties").and_then(Value::as_object);
        let mut keys = node.entries().unwrap_or(&[]).iter().map(|(key, _)| key);
        known.is_some_and(|known| keys.any(|key| known.contains_key(&*key.text)))
    };
    let near: Vec<&'a Value> = options.iter().filter(of_type).filter(shares_key).copied().collect();
    if near.is_empty() { options.iter().filter(of_type).copied().collect() } else { near }
}

fn alike_bare(option: &Value) -> bool {
    option.get("enum").is_some() || option.get("type").and_then(Value::as_str) == Some("string")
}

/// How to write a value so that it has the type.
fn conversion(node: &Node, names: &[&str]) -> Option<String> {
    let wants = |name: &str| names.contains(&name);
    match node.resolve()? {
        Resolved::Text(text) => {
            let plain = super::scalar::resolve(text);
            let is_number = matches!(plain, Resolved::Integer(_))
                || matches!(plain, Resolved::Float(value) if value.is_finite() && wants("number"));
            if (wants("integer") || wants("number")) && is_number {
                return Some(format!("without quotes it is a number: {text}"));
            }
            let is_switch = wants("boolean");
            match text {
                "yes" | "on" | "Yes" | "On" if is_switch => Some("write `true`".to_owned()),
                "no" | "off" | "No" | "Off" if is_switch => Some("write `false`".to_owned()),
                "true" | "false" if is_switch => Some("remove the quotes".to_owned()),
                _ if wants("array") && !wants("object") => Some(format!("a list of one is written `[{text}]`")),
                _ => None,
            }
        }
        Resolved::Float(value) if wants("integer") && value.fract() == 0.0 && value.abs() < 1e15 => {
            Some(format!("write `{value:.0}`"))
        }
        Resolved::Float(value) if !value.is_finite() => Some("infinities and `.nan` are not possible".to_owned()),
        Resolved::Null => None,
        _ if wants("string") => match node.kind() {
            super::Kind::Scalar(scalar) => Some(format!("quote it: \"{}\"", scalar.text)),
            _ => None,
        },
        _ if wants("array") => Some(format!("a list of one is written `[{}]`", node.to_json())),
        _ => None,
    }
}

fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use stages::contract::{Choice, Entry, Registry};

    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::spec::yaml;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Adam {
        /// Step size. Larger is faster.
        #[serde(default)]
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        lr: f64,
        betas: Option<[f64; 2]>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Sgd {
        #[schemars(range(min = 0.0, max = 1.0))]
        momentum: f64,
    }

    struct Optimizers;

    impl Registry for Optimizers {
        const TAG: &'static str = "kind";
        const WHAT: &'static str = "optimizer";
        const BARE: bool = true;

        fn entries() -> Vec<Entry> {
            vec![Entry::new::<Adam>("adam", "Adam."), Entry::new::<Sgd>("sgd", "Gradient descent.")]
        }
    }

    struct Models;

    impl Registry for Models {
        const TAG: &'static str = "kind";
        const WHAT: &'static str = "model";

        fn entries() -> Vec<Entry> {
            vec![Entry::new::<Sgd>("tvnet-recon", "TVNet."), Entry::new::<Adam>("moment", "MOMENT.")]
        }
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Overlap {
        Last,
        /// The mean of all windows.
        Mean,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Width {
        Full,
        Fixed(u32),
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Params {
        /// Passes over the data.
        #[schemars(range(min = 1))]
        epochs: u32,
        #[serde(default)]
        shuffle: bool,
        #[serde(default)]
        note: Option<String>,
        optimizer: Option<Choice<Optimizers>>,
        models: Option<Vec<Choice<Models>>>,
        #[schemars(length(min = 1))]
        layers: Option<Vec<u32>>,
        overlap: Option<Overlap>,
        width: Option<Width>,
        names: Option<std::collections::BTreeMap<String, i64>>,
    }

    fn problems(text: &str) -> String {
        let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
        });
        let schema = settings.into_generator().into_root_schema_for::<Params>().to_value();
        let mut sources = SourceMap::default();
        let file = sources.add("p.yaml", text);
        let (node, diagnostics) = yaml::parse(text, file, 0);
        assert!(diagnostics.is_empty());
        let node = node.unwrap();
        let diagnostics = validate(&node, &schema, "stage `model`");
        let parsed = serde_json::from_value::<Params>(node.to_json());
        // What passes is read; what serde refuses was reported, with better words.
        assert!(parsed.is_ok() || diagnostics.has_errors(), "{text}: {}", parsed.err().unwrap());
        diagnostics.render(&sources, false)
    }

    #[test]
    fn good_values_pass() {
        let text = "epochs: 3\nshuffle: true\nnote: ~\noptimizer: {kind: adam, lr: 1e-4, betas: [0.9, 1]}\nmodels: [{kind: \
                    moment}]\nlayers: [1, 2]\noverlap: mean\nwidth: {fixed: 3}\nnames: {a: 1}\n";
        assert_eq!(problems(text), "");
        assert_eq!(problems("epochs: 3\noptimizer: adam\nwidth: full\nlayers:\n"), "");
    }

    #[test]
    fn every_problem_is_explained() {
        let text = "epochs: -3
shufle: true
shuffle: yes
note: 12
optimizer: {kind: adma}
models:
  - {kind: tvnet_recon}
  - {kind: tvnet-recon, momentum: 1.5, lr: 2}
  - moment
  - {}
  - {kind: 3}
layers: [1, x, 2.0, -1]
overlap: first
width: {fixd: 3}
names: {a: 1, b: \"2\"}
";
        insta::assert_snapshot!(problems(text), @r#"
        error[out-of-range]: `epochs` must be an integer of at least 1, found `-3`
         --> p.yaml:1:9
          |
        1 | epochs: -3
          |         ^^

        error[unknown-key]: unknown key `shufle` in stage `model`
         --> p.yaml:2:1
          |
        2 | shufle: true
          | ^^^^^^
          |
          = help: `shuffle` is given already; remove this one

        error[wrong-type]: `shuffle` must be `true` or `false`, found `yes`
         --> p.yaml:3:10
          |
        3 | shuffle: yes
          |          ^^^
          |
          = help: write `true`

        error[wrong-type]: `note` must be a string, found `12`
         --> p.yaml:4:7
          |
        4 | note: 12
          |       ^^
          |
          = help: quote it: "12"

        error[unknown-choice]: `optimizer.kind` cannot be `adma`
         --> p.yaml:5:19
          |
        5 | optimizer: {kind: adma}
          |                   ^^^^
          |
          = help: did you mean `adam`?

        error[unknown-choice]: `models.0.kind` cannot be `tvnet_recon`
         --> p.yaml:7:12
          |
        7 |   - {kind: tvnet_recon}
          |            ^^^^^^^^^^^
          |
          = help: did you mean `tvnet-recon`?

        error[out-of-range]: `models.1.momentum` must be a number between 0 and 1, found `1.5`
         --> p.yaml:8:35
          |
        8 |   - {kind: tvnet-recon, momentum: 1.5, lr: 2}
          |                                   ^^^

        error[unknown-key]: unknown key `lr` in `models.1`
         --> p.yaml:8:40
          |
        8 |   - {kind: tvnet-recon, momentum: 1.5, lr: 2}
          |                                        ^^
          |
          = help: remove it

        error[wrong-type]: `models.2` must be a map with `kind`, found `moment`
         --> p.yaml:9:5
          |
        9 |   - moment
          |     ^^^^^^
          |
          = help: write `{kind: moment}`

        error[missing-key]: `models.3` lacks `kind`
          --> p.yaml:10:5
           |
        10 |   - {}
           |     ^^
           |
           = help: choose from `tvnet-recon`, `moment`

        error[wrong-type]: `models.4.kind` must be a name, found `3`
          --> p.yaml:11:12
           |
        11 |   - {kind: 3}
           |            ^
           |
           = help: choose from `tvnet-recon`, `moment`

        error[wrong-type]: `layers.1` must be an integer of at least 0, found `x`
          --> p.yaml:12:13
           |
        12 | layers: [1, x, 2.0, -1]
           |             ^

        error[wrong-type]: `layers.2` must be an integer of at least 0, found `2.0`
          --> p.yaml:12:16
           |
        12 | layers: [1, x, 2.0, -1]
           |                ^^^
           |
           = help: write `2`

        error[out-of-range]: `layers.3` must be an integer of at least 0, found `-1`
          --> p.yaml:12:21
           |
        12 | layers: [1, x, 2.0, -1]
           |                     ^^

        error[bad-value]: `overlap` cannot be `first`
          --> p.yaml:13:10
           |
        13 | overlap: first
           |          ^^^^^
           |
           = help: choose from `last`, `mean`

        error[missing-key]: `width` lacks `fixed`
          --> p.yaml:14:8
           |
        14 | width: {fixd: 3}
           |        ^^^^^^^^^
           |
           = help: add `fixed`: an integer of at least 0

        error[unknown-key]: unknown key `fixd` in `width`
          --> p.yaml:14:9
           |
        14 | width: {fixd: 3}
           |         ^^^^
           |
           = help: did you mean `fixed`?

        error[wrong-type]: `names.b` must be an integer, found the string "2"
          --> p.yaml:15:18
           |
        15 | names: {a: 1, b: "2"}
           |                  ^^^
           |
           = help: without quotes it is a number: 2
        "#);
    }

    #[test]
    fn more_problems() {
        let cases = [
            "epochs: ten\noptimizer: sgd\nlayers: []\n",
            "optimizer: adm\nlayers: 5\n",
            "epochs: 1.0\noptimizer: 5\nwidth: 3\n",
            "epochs: .inf\noptimizer: {lr: 0, kind: adam, betas: [1]}\n",
            "epochs: '5'\nepoch: 5\noverlap: [mean]\n",
            "5\n",
        ];
        let report: String = cases.iter().map(|text| problems(text)).collect();
        insta::assert_snapshot!(report, @r#"
        error[wrong-type]: `epochs` must be an integer of at least 1, found `ten`
         --> p.yaml:1:9
          |
        1 | epochs: ten
          |         ^^^

        error[missing-key]: `sgd` lacks `momentum`
         --> p.yaml:2:12
          |
        2 | optimizer: sgd
          |            ^^^
          |
          = help: write `{kind: sgd, momentum: …}`

        error[out-of-range]: `layers` must be a list of at least 1 integer, found 0 items
         --> p.yaml:3:9
          |
        3 | layers: []
          |         ^^

        error[missing-key]: stage `model` lacks `epochs`
         --> p.yaml:1:1
          |
        1 | optimizer: adm
          | ^^^^^^^^^^^^^^
          |
          = help: add `epochs`: an integer of at least 1 (Passes over the data)

        error[unknown-choice]: `optimizer` cannot be `adm`
         --> p.yaml:1:12
          |
        1 | optimizer: adm
          |            ^^^
          |
          = help: did you mean `adam`?

        error[wrong-type]: `layers` must be a list of at least 1 integer, found `5`
         --> p.yaml:2:9
          |
        2 | layers: 5
          |         ^
          |
          = help: a list of one is written `[5]`

        error[wrong-type]: `epochs` must be an integer of at least 1, found `1.0`
         --> p.yaml:1:9
          |
        1 | epochs: 1.0
          |         ^^^
          |
          = help: write `1`

        error[wrong-type]: `optimizer` must be a map with `kind`, found `5`
         --> p.yaml:2:12
          |
        2 | optimizer: 5
          |            ^
          |
          = help: choose from `adam`, `sgd`

        error[wrong-type]: `width` must be `full` or a map with `fixed`, found `3`
         --> p.yaml:3:8
          |
        3 | width: 3
          |        ^

        error[wrong-type]: `epochs` must be an integer of at least 1, found `.inf`
         --> p.yaml:1:9
          |
        1 | epochs: .inf
          |         ^^^^
          |
          = help: infinities and `.nan` are not possible

        error[out-of-range]: `optimizer.lr` must be a number above 0, found `0`
         --> p.yaml:2:17
          |
        2 | optimizer: {lr: 0, kind: adam, betas: [1]}
          |                 ^

        error[out-of-range]: `optimizer.betas` must be a list of 2 numbers, found 1 item
         --> p.yaml:2:39
          |
        2 | optimizer: {lr: 0, kind: adam, betas: [1]}
          |                                       ^^^

        error[wrong-type]: `epochs` must be an integer of at least 1, found the string "5"
         --> p.yaml:1:9
          |
        1 | epochs: '5'
          |         ^^^
          |
          = help: without quotes it is a number: 5

        error[unknown-key]: unknown key `epoch` in stage `model`
         --> p.yaml:2:1
          |
        2 | epoch: 5
          | ^^^^^
          |
          = help: `epochs` is given already; remove this one

        error[wrong-type]: `overlap` must be one of `last`, `mean`, found a list
         --> p.yaml:3:10
          |
        3 | overlap: [mean]
          |          ^^^^^^

        error[wrong-type]: stage `model` must be a map, found `5`
         --> p.yaml:1:1
          |
        1 | 5
          | ^
        "#);
    }
}
