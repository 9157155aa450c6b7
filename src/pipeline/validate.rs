//! Checks a tree against a JSON Schema as `schemars` writes it, and reports every problem at its place, in words for
//! people. It knows the keywords that Rust types lead to: types, `enum`, `const`, `oneOf`, `anyOf`, `allOf`, objects,
//! lists, bounds and references within the schema. Formats and patterns are left to the type that reads the value.

use serde_json::{Map, Value};

use super::node::{Key, Kind, Node};
use super::scalar::Resolved;
use super::schema_words::{
    accepts_null, choices, expected, find, flatten, resolve_reference, tag, type_names,
};
use super::units::{self, UNITS};
use crate::diagnostic::{Diagnostic, Diagnostics, counted, did_you_mean, list, suggestion};

/// Checks `node`; `subject` names it in messages, such as ``stage `model` ``.
pub fn validate(node: &Node, schema: &Value, subject: &str) -> Diagnostics {
    let mut validator = Validator::new(schema, subject);
    validator.value(node, schema);
    validator.diagnostics
}

/// [`validate`] for a tree in which some references could not be substituted, which was reported: scalars that still
/// hold one are taken to fit.
pub fn validate_rest(node: &Node, schema: &Value, subject: &str) -> Diagnostics {
    let mut validator = Validator {
        passes_references: true,
        ..Validator::new(schema, subject)
    };
    validator.value(node, schema);
    validator.diagnostics
}

struct Validator<'a> {
    root: &'a Value,
    subject: &'a str,
    /// Keys and item numbers from the root to the value at hand.
    path: Vec<String>,
    /// Scalars that hold a reference are not checked.
    passes_references: bool,
    diagnostics: Diagnostics,
}

impl<'a> Validator<'a> {
    fn new(root: &'a Value, subject: &'a str) -> Self {
        Self {
            root,
            subject,
            path: Vec::new(),
            passes_references: false,
            diagnostics: Diagnostics::default(),
        }
    }

    /// Whether nothing can be said about a scalar because the value that stands for it is not known.
    fn is_unknown(&self, node: &Node) -> bool {
        self.passes_references && node.is_templated() && matches!(node.kind(), Kind::Scalar(_))
    }

    fn value(&mut self, node: &Node, schema: &'a Value) {
        if self.is_unknown(node) {
            return;
        }
        let schema = resolve_reference(schema, self.root);
        let Some(schema) = schema.as_object() else {
            if schema == &Value::Bool(false) {
                self.report(
                    node,
                    "bad-value",
                    format!("{} is not possible here", self.name()),
                    None,
                );
            }
            return;
        };
        if node.is_null() && accepts_null(schema, self.root) {
            return;
        }
        // Any scalar but nothing is a text, and its value does not matter.
        if find(schema, "x-as-written").is_some() && node.resolve().is_some() && !node.is_null() {
            return;
        }
        if let Some(unit) = find(schema, units::KEYWORD).and_then(Value::as_str) {
            return self.unit(node, unit);
        }
        for keyword in ["oneOf", "anyOf"] {
            if let Some(options) = find(schema, keyword).and_then(Value::as_array) {
                self.options(node, schema, options);
            }
        }
        for part in find(schema, "allOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            self.value(node, part);
        }
        if self.of_type(node, schema) && self.of_choices(node, schema) {
            self.bounds(node, schema);
            self.items(node, schema);
            self.properties(node, schema);
        }
    }

    /// A text with a unit, such as a duration; a number without one is refused.
    fn unit(&mut self, node: &Node, name: &str) {
        let Some(unit) = UNITS.iter().find(|unit| unit.name == name) else {
            return;
        };
        if !node.as_str().is_some_and(unit.reads) {
            let message = format!(
                "{} must be a {name}, found {}",
                self.name(),
                node.describe()
            );
            self.report(node, "bad-unit", message, Some(unit.hint.to_owned()));
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
        let listed = match (
            find(schema, "const"),
            find(schema, "enum").and_then(Value::as_array),
        ) {
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
        let words: Vec<String> = listed
            .iter()
            .filter(|value| !value.is_null())
            .map(written)
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let message = match words[..] {
            [only] => format!(
                "{} must be `{only}`, found {}",
                self.name(),
                node.describe()
            ),
            _ => format!("{} cannot be {}", self.name(), node.describe()),
        };
        let hint = node
            .as_str()
            .map_or_else(|| suggestion("", &words), |word| suggestion(word, &words));
        self.report(node, "bad-value", message, hint);
    }

    fn wrong(&mut self, node: &Node, schema: &Map<String, Value>) {
        let expected = expected(schema, self.root);
        let message = format!(
            "{} must be {expected}, found {}",
            self.name(),
            node.describe()
        );
        let words = node
            .as_str()
            .filter(|_| find(schema, "x-command-line").is_some());
        let hint = words
            .map(command_line)
            .or_else(|| as_map(node, schema))
            .or_else(|| as_text(node, schema))
            .or_else(|| conversion(node, &type_names(schema)));
        self.report(node, "wrong-type", message, hint);
    }

    fn bounds(&mut self, node: &Node, schema: &Map<String, Value>) {
        let number = match node.resolve() {
            Some(Resolved::Integer(value)) => value as f64,
            Some(Resolved::Float(value)) => value,
            _ => return self.lengths(node, schema),
        };
        if !self.of_width(node, schema) {
            return;
        }
        let bound = |keyword: &str| find(schema, keyword).and_then(Value::as_f64);
        let inside = bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most)
            && bound("exclusiveMinimum").is_none_or(|least| number > least)
            && bound("exclusiveMaximum").is_none_or(|most| number < most);
        let stepped = bound("multipleOf").is_none_or(|step| step > 0.0 && number % step == 0.0);
        if !(inside && stepped) {
            let message = format!(
                "{} must be {}, found {}",
                self.name(),
                expected(schema, self.root),
                node.describe()
            );
            self.report(node, "out-of-range", message, self.optional(schema));
        }
    }

    /// What to do about a limit on a value that need not be given.
    fn optional(&self, schema: &Map<String, Value>) -> Option<String> {
        if !accepts_null(schema, self.root) {
            return None;
        }
        let doc = schema.get("description").and_then(Value::as_str)?;
        Some(format!("or leave it out ({})", first_sentence(doc)))
    }

    /// Whether a number fits the Rust type that the schema was made from.
    fn of_width(&mut self, node: &Node, schema: &Map<String, Value>) -> bool {
        if find(schema, "format").and_then(Value::as_str) == Some("float") {
            return self.of_single_precision(node);
        }
        let (Some(Resolved::Integer(value)), Some(format)) =
            (node.resolve(), find(schema, "format"))
        else {
            return true;
        };
        let (least, most) = match format.as_str() {
            Some("uint8") => (0, u8::MAX.into()),
            Some("uint16") => (0, u16::MAX.into()),
            Some("uint32") => (0, u32::MAX.into()),
            Some("int8") => (i8::MIN.into(), i8::MAX.into()),
            Some("int16") => (i16::MIN.into(), i16::MAX.into()),
            Some("int32") => (i32::MIN.into(), i32::MAX.into()),
            Some("uint64" | "uint") => (0, u64::MAX.into()),
            Some("int64" | "int") => (i64::MIN.into(), i64::MAX.into()),
            _ => return true,
        };
        // Below, the bounds of the schema have the better words.
        let fits = value <= most && (value >= least || find(schema, "minimum").is_some());
        if !fits {
            let message = format!(
                "{} must be between {least} and {most}, found {}",
                self.name(),
                node.describe()
            );
            self.report(node, "out-of-range", message, None);
        }
        fits
    }

    /// Whether a number is still itself with 32 bits, give or take its last digits.
    fn of_single_precision(&mut self, node: &Node) -> bool {
        let number = match node.resolve() {
            Some(Resolved::Integer(value)) => value as f64,
            Some(Resolved::Float(value)) => value,
            _ => return true,
        };
        let single = number as f32;
        let fits = single.is_finite() && (single != 0.0 || number == 0.0);
        if !fits {
            let message = format!(
                "{} must be a number that 32 bits can hold, found {}",
                self.name(),
                node.describe()
            );
            let hint =
                "such numbers lie between 1e-45 and 3.4e38, or are 0; the sign does not matter";
            self.report(node, "out-of-range", message, Some(hint.to_owned()));
        }
        fits
    }

    fn lengths(&mut self, node: &Node, schema: &Map<String, Value>) {
        let Some(text) = node.as_str() else { return };
        let length = text.chars().count() as u64;
        let bound = |keyword: &str| find(schema, keyword).and_then(Value::as_u64);
        if bound("minLength").is_some_and(|least| length < least)
            || bound("maxLength").is_some_and(|most| length > most)
        {
            let message = format!(
                "{} must be {}, found {}",
                self.name(),
                expected(schema, self.root),
                node.describe()
            );
            self.report(node, "out-of-range", message, None);
        }
    }

    fn items(&mut self, node: &Node, schema: &'a Map<String, Value>) {
        let Some(items) = node.items() else { return };
        let bound = |keyword: &str| find(schema, keyword).and_then(Value::as_u64);
        let length = items.len() as u64;
        if bound("minItems").is_some_and(|least| length < least)
            || bound("maxItems").is_some_and(|most| length > most)
        {
            let found = counted(length, "item");
            let message = format!(
                "{} must be {}, found {found}",
                self.name(),
                expected(schema, self.root)
            );
            self.report(node, "out-of-range", message, self.optional(schema));
        }
        if find(schema, "uniqueItems") == Some(&Value::Bool(true)) {
            self.unique(items);
        }
        let first = find(schema, "prefixItems")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(index).or_else(|| find(schema, "items")) {
                self.within(index.to_string(), |validator| validator.value(item, schema));
            }
        }
    }

    fn unique(&mut self, items: &[Node]) {
        for (index, item) in items
            .iter()
            .enumerate()
            .filter(|(_, item)| !(self.passes_references && item.is_templated()))
        {
            let value = item.to_json();
            if let Some(first) = items[..index].iter().find(|other| other.to_json() == value) {
                let message = format!("{} holds {} twice", self.name(), item.describe());
                let diagnostic = Diagnostic::error("bad-value", message)
                    .at(item.span())
                    .also(first.span(), "first here");
                self.diagnostics.push(diagnostic);
            }
        }
    }

    fn properties(&mut self, node: &Node, schema: &'a Map<String, Value>) {
        let Some(entries) = node.entries() else {
            return;
        };
        let known = find(schema, "properties").and_then(Value::as_object);
        let other = find(schema, "additionalProperties");
        for (key, value) in entries {
            match (known.and_then(|known| find(known, &key.text)), other) {
                (Some(schema), _) => self.within(key.text.to_string(), |validator| {
                    validator.value(value, schema)
                }),
                (None, Some(Value::Bool(false))) => self.unknown_key(key, entries, known),
                (None, Some(schema)) => self.within(key.text.to_string(), |validator| {
                    validator.value(value, schema)
                }),
                (None, None) => {}
            }
        }
        for name in find(schema, "required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if node.get(name).is_none() {
                self.missing_key(node, name, known.and_then(|known| known.get(name)));
            }
        }
    }

    fn unknown_key(
        &mut self,
        key: &Key,
        entries: &[(Key, Node)],
        known: Option<&Map<String, Value>>,
    ) {
        let known: Vec<&str> = known
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .collect();
        let present = |name: &str| entries.iter().any(|(key, _)| &*key.text == name);
        let free: Vec<&str> = known
            .iter()
            .copied()
            .filter(|name| !present(name))
            .collect();
        let hint = match did_you_mean(&key.text, known.iter().copied()) {
            Some(meant) if present(meant) => format!("`{meant}` is given already; remove this one"),
            Some(meant) => format!("did you mean `{meant}`?"),
            None if free.is_empty() => "remove it".to_owned(),
            None => format!("choose from {}", list(&free)),
        };
        let message = format!("unknown key `{}` in {}", key.text, self.name());
        self.diagnostics.push(
            Diagnostic::error("unknown-key", message)
                .at(key.span)
                .hint(hint),
        );
    }

    fn missing_key(&mut self, node: &Node, name: &str, schema: Option<&'a Value>) {
        let message = format!("{} lacks `{name}`", self.name());
        let schema = schema.map(|schema| resolve_reference(schema, self.root));
        let hint = schema.and_then(Value::as_object).map(|schema| {
            let doc = schema
                .get("description")
                .and_then(Value::as_str)
                .map(first_sentence);
            let doc = doc.map(|doc| format!(" ({doc})")).unwrap_or_default();
            format!("add `{name}`: {}{doc}", expected(schema, self.root))
        });
        self.report(node, "missing-key", message, hint);
    }

    /// One of several schemas. The one that was meant is found by its tag or by the form of the value.
    fn options(&mut self, node: &Node, schema: &'a Map<String, Value>, options: &'a [Value]) {
        let options = flatten(options, self.root);
        let is_free =
            |option: &Value| option.get("properties").is_none() && option.get("enum").is_none();
        if options
            .iter()
            .any(|option| is_free(option) && self.fits(node, option))
        {
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
        let names: Vec<&str> = options
            .iter()
            .filter_map(|option| tag_value(option, tag))
            .collect();
        let bare = options.iter().any(|option| option.get("enum").is_some());
        if node.entries().is_none() {
            let word = node.as_str().filter(|word| names.contains(word));
            return match (node.as_str(), bare) {
                (Some(word), true) if names.contains(&word) => self.bare(node, options, tag, word),
                (Some(word), true) => self.unknown_tag(node, word, &names),
                _ => {
                    let message = format!(
                        "{} must be a map with `{tag}`, found {}",
                        self.name(),
                        node.describe()
                    );
                    let example = word.map_or_else(
                        || suggestion("", &names),
                        |word| Some(format!("write `{{{tag}: {word}}}`")),
                    );
                    self.report(node, "wrong-type", message, example);
                }
            };
        }
        let Some(chosen) = node.get(tag) else {
            let message = format!("{} lacks `{tag}`", self.name());
            return self.report(node, "missing-key", message, suggestion("", &names));
        };
        if self.is_unknown(chosen) {
            return;
        }
        let meant = options
            .iter()
            .find(|option| chosen.as_str().is_some() && tag_value(option, tag) == chosen.as_str());
        match meant {
            Some(option) => self.value(node, option),
            None => {
                self.within(tag.to_owned(), |validator| match chosen.as_str() {
                    Some(word) => validator.unknown_tag(chosen, word, &names),
                    None => {
                        let message = format!(
                            "{} must be a name, found {}",
                            validator.name(),
                            chosen.describe()
                        );
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
            .find(|option| tag_value(option, tag) == Some(word));
        let required = option
            .and_then(|option| option.get("required"))
            .and_then(Value::as_array);
        for name in required
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| *name != tag)
        {
            let message = format!("`{word}` lacks `{name}`");
            let hint = format!("write `{{{tag}: {word}, {name}: …}}`");
            self.report(node, "missing-key", message, Some(hint));
        }
    }

    fn unknown_tag(&mut self, node: &Node, word: &str, names: &[&str]) {
        let diagnostic = Diagnostic::error(
            "unknown-choice",
            format!("{} cannot be `{word}`", self.name()),
        );
        let diagnostic = with_origin(diagnostic.at(node.span()), node);
        self.diagnostics
            .push(diagnostic.maybe_hint(suggestion(word, names)));
    }

    fn fits(&self, node: &Node, schema: &'a Value) -> bool {
        let mut trial = Validator {
            passes_references: self.passes_references,
            ..Validator::new(self.root, "")
        };
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
        if self.path.is_empty() {
            self.subject.to_owned()
        } else {
            format!("`{}`", self.path.join("."))
        }
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
    line.split_once(". ")
        .map_or(line, |(first, _)| first)
        .trim_end_matches('.')
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
    let near: Vec<&'a Value> = options
        .iter()
        .filter(of_type)
        .filter(shares_key)
        .copied()
        .collect();
    if near.is_empty() {
        options.iter().filter(of_type).copied().collect()
    } else {
        near
    }
}

/// The tag that a map must have to be this option.
fn tag_value<'a>(option: &'a Value, tag: &str) -> Option<&'a str> {
    option.get("properties")?.get(tag)?.get("const")?.as_str()
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
                _ if wants("array") && !wants("object") => Some(format!(
                    "a list of one is written `[{}]`",
                    flow_scalar(text)
                )),
                _ => None,
            }
        }
        Resolved::Float(value)
            if wants("integer") && value.fract() == 0.0 && value.abs() < 1e15 =>
        {
            Some(format!("write `{value:.0}`"))
        }
        Resolved::Float(value) if !value.is_finite() => {
            Some("infinities and `.nan` are not possible".to_owned())
        }
        Resolved::Null
            if wants("string")
                && matches!(node.kind(), Kind::Scalar(scalar) if !scalar.text.is_empty()) =>
        {
            Some("in quotes it is a string".to_owned())
        }
        Resolved::Null => None,
        _ if wants("string") => match node.kind() {
            Kind::Scalar(scalar) => Some(format!("quote it: \"{}\"", scalar.text)),
            _ => None,
        },
        _ if wants("array") => Some(format!("a list of one is written `[{}]`", node.to_json())),
        _ => None,
    }
}

/// How to write a value, or a list of them, as the map that is expected: the one key that it must have, or a name for each.
fn as_map(node: &Node, schema: &Map<String, Value>) -> Option<String> {
    if type_names(schema) != ["object"] {
        return None;
    }
    let word = node.as_str().or_else(|| node.items()?.first()?.as_str());
    let inner = |schema: &Value| {
        let required = schema
            .get("required")
            .and_then(Value::as_array)
            .map(Vec::as_slice);
        let text = word.map_or_else(|| "…".to_owned(), flow_scalar);
        match required {
            Some([Value::String(only)]) => format!("{{{only}: {text}}}"),
            _ => text,
        }
    };
    match find(schema, "additionalProperties") {
        Some(each) if each.is_object() => match word.and_then(|word| word.split_once('=')) {
            Some((name, value)) => Some(format!(
                "names and values are written `{{{name}: {}}}`",
                flow_scalar(value)
            )),
            None => Some(format!(
                "a map gives each a name: `{{NAME: {}}}`",
                inner(each)
            )),
        },
        _ => {
            let only = inner(&Value::Object(schema.clone()));
            (node.as_str().is_some() && only.starts_with('{')).then(|| format!("write `{only}`"))
        }
    }
}

/// How to write `{file.script}` as the text that it was meant as: to YAML it is a map with a key and no value.
fn as_text(node: &Node, schema: &Map<String, Value>) -> Option<String> {
    let [(key, value)] = node.entries()? else {
        return None;
    };
    let is_bare = matches!(value.kind(), Kind::Scalar(scalar) if scalar.text.is_empty());
    let wants_text = type_names(schema).contains(&"string");
    (is_bare && wants_text)
        .then(|| format!("quote it, or YAML takes it for a map: \"{{{}}}\"", key.text))
}

/// How to write a command line as a list.
fn command_line(line: &str) -> String {
    let is_for_a_shell = line.contains([
        '|', '&', ';', '<', '>', '(', ')', '`', '\\', '*', '?', '[', '#', '~', '\'', '"', '\n',
    ]) || line.replace("${", "").contains('$');
    let line = line.trim();
    if is_for_a_shell {
        return format!(
            "no shell is involved; where one is needed, write `[sh, -c, {}]`",
            Value::from(line)
        );
    }
    let words: Vec<String> = line.split_whitespace().map(flow_scalar).collect();
    format!(
        "the program and each argument are items of a list: `[{}]`",
        words.join(", ")
    )
}

/// A text as an item of a list, with quotes where YAML would read it another way.
fn flow_scalar(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./=+@%".contains(&byte);
    let starts_plainly =
        text.starts_with(|first: char| first.is_ascii_alphanumeric() || "./-_".contains(first));
    let is_text = matches!(super::scalar::resolve(text), Resolved::Text(_));
    if is_text && starts_plainly && text.bytes().all(is_plain) && text != "-" {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

fn written(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
