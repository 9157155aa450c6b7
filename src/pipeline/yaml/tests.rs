//! Trees, places and syntax errors, on examples and on any text.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::diagnostic::SourceMap;

fn read(text: &str) -> (Option<Node>, Diagnostics, SourceMap) {
    let mut sources = SourceMap::default();
    let file = sources.add("p.yaml", text);
    let (node, diagnostics) = parse(text, file, 0);
    (node, diagnostics, sources)
}

fn value(text: &str) -> Value {
    let (node, diagnostics, sources) = read(text);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render(&sources, false)
    );
    node.map_or(Value::Null, |node| node.to_json())
}

fn problems(text: &str) -> String {
    let (_, diagnostics, sources) = read(text);
    diagnostics.render(&sources, false)
}

#[test]
fn values_keep_their_types() {
    let text = "a: 1\nb: '1'\nc: [1e-4, true, ~, x]\nd:\n  e: |\n    two\n    lines\n  f:\n";
    let expected = json!({"a": 1, "b": "1", "c": [1e-4, true, null, "x"], "d": {"e": "two\nlines\n", "f": null}});
    assert_eq!(value(text), expected);
    assert_eq!(value("# nothing\n"), Value::Null);
}

#[test]
fn spans_cover_what_was_written() {
    let text = "größe: 'ä ö'\nlist:\n  - one two \n  - {a: 1, b: [x, y]} # note\nblock:\n  k: v\n  empty:\nlast: |\n  text\n";
    let (node, _, sources) = read(text);
    let node = node.unwrap();
    let at = |path: &[&str]| sources.excerpt(node.at(path).unwrap().span());
    assert_eq!(at(&["größe"]), "'ä ö'");
    assert_eq!(at(&["list"]), "- one two \n  - {a: 1, b: [x, y]}");
    assert_eq!(at(&["list", "0"]), "one two");
    assert_eq!(at(&["list", "1"]), "{a: 1, b: [x, y]}");
    assert_eq!(at(&["list", "1", "b"]), "[x, y]");
    assert_eq!(at(&["block"]), "k: v\n  empty");
    assert_eq!(at(&["block", "empty"]), "empty");
    assert_eq!(
        sources.excerpt(node.entry("block").unwrap().0.span),
        "block"
    );
    assert_eq!(
        node.locate("list.1.b.7"),
        node.at(&["list", "1", "b"]).unwrap().span()
    );
}

#[test]
fn line_breaks_of_windows_and_byte_order_marks_do_no_harm() {
    let text = "\u{feff}a: 1\r\nb: [x,\r\n  y]\r\nc:\r\n  d: 'ü'\r\n";
    let (node, diagnostics, sources) = read(text);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render(&sources, false)
    );
    let node = node.unwrap();
    assert_eq!(
        node.to_json(),
        json!({"a": 1, "b": ["x", "y"], "c": {"d": "ü"}})
    );
    let at = |path: &[&str]| sources.excerpt(node.at(path).unwrap().span());
    assert_eq!(
        (at(&["a"]), at(&["b"]), at(&["c", "d"])),
        ("1", "[x,\r\n  y]", "'ü'")
    );
    assert_eq!(
        sources.location(node.at(&["c", "d"]).unwrap().span()).line,
        5
    );
}

#[test]
fn aliases_stand_for_what_they_name() {
    let text = "a: &x {k: 1}\nb: *x\nc: &y 5\nd: [*y, *y]\n";
    assert_eq!(
        value(text),
        json!({"a": {"k": 1}, "b": {"k": 1}, "c": 5, "d": [5, 5]})
    );
    let (node, _, sources) = read(text);
    let node = node.unwrap();
    let alias = node.get("b").unwrap();
    assert_eq!(sources.excerpt(alias.span()), "*x");
    assert_eq!(sources.excerpt(alias.origin().unwrap()), "{k: 1}");
}

#[test]
fn bombs_and_towers_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = level - 1;
        let aliases = vec![format!("*a{before}"); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(problems(&bomb).contains("with its aliases followed"));
    assert!(problems(&"[".repeat(5_000)).contains("nested more than 100 deep"));
    assert!(problems(&"- ".repeat(5_000)).contains("nested more than 100 deep"));
    assert!(problems("a: &a [*a]").contains("part of what it refers to"));
}

#[test]
fn bad_yaml_is_explained() {
    let cases = [
        "a: 1\nb: 2\na: 3\n",
        "a: b: c\n",
        "a: [1, 2\nb: 3\n",
        "a: {x: 1\n",
        "a: 'open\n",
        "a:\n\t- 1\n",
        "a: 1\n b: 2\n",
        "a: *nowhere\n",
        "a: !!str 5\n",
        "<<: {a: 1}\n",
        "a: 1\n---\nb: 2\n",
        "a: ${name}\n",
        "a: {${name}: 1}\n",
        "- 1\nb: 2\n",
        "word\nkey: 1\n",
    ];
    let report: String = cases.iter().map(|text| problems(text)).collect();
    insta::assert_snapshot!(report, @r#"
    error[duplicate-key]: `a` is given twice
     --> p.yaml:3:1
      |
    1 | a: 1
      | - first here
    2 | b: 2
    3 | a: 3
      | ^ again here
      |
      = help: keep one of them

    error[bad-yaml]: a `:` is not possible here
     --> p.yaml:1:5
      |
    1 | a: b: c
      |     ^
      |
      = help: quote a text that holds `: `, and check the indentation of this line

    error[bad-yaml]: a `:` is not possible here
     --> p.yaml:2:2
      |
    1 | a: [1, 2
      |    - opened here
    2 | b: 3
      |  ^
      |
      = help: close the bracket before it, or write `{key: value}` for a map in a list

    error[bad-yaml]: a `,` or `}` should stand here
     --> p.yaml:1:10
      |
    1 | a: {x: 1
      |    -    ^
      |    |
      |    opened here
      |
      = help: write `{key: value, key: value}`, and quote a text that holds braces: "${name}"

    error[bad-yaml]: a quoted text is not closed
     --> p.yaml:1:4
      |
    1 | a: 'open
      |    ^
      |
      = help: add the closing quote

    error[bad-yaml]: a tab stands where YAML wants blanks
     --> p.yaml:2:2
      |
    2 |     - 1
      |     ^
      |
      = help: indent with blanks

    error[bad-yaml]: a `:` is not possible here
     --> p.yaml:2:3
      |
    2 |  b: 2
      |   ^
      |
      = help: quote a text that holds `: `, and check the indentation of this line

    error[bad-yaml]: there is no anchor of this name
     --> p.yaml:1:4
      |
    1 | a: *nowhere
      |    ^
      |
      = help: quote the text if the `*` belongs to it

    error[yaml-tag]: YAML tags such as `!name` have no meaning here
     --> p.yaml:1:4
      |
    1 | a: !!str 5
      |    ^^^^^^^
      |
      = help: remove the tag; quote a value to make it a string

    error[bad-key]: merge keys (`<<`) are not supported
     --> p.yaml:1:1
      |
    1 | <<: {a: 1}
      | ^^
      |
      = help: repeat the keys, or share them through `params` or `include`

    error[bad-yaml]: a second document starts here; a file holds one
     --> p.yaml:2:1
      |
    2 | ---
      | ^^^
      |
      = help: put it into a separate file

    error[bad-yaml]: a `,` or `}` should stand here
     --> p.yaml:1:6
      |
    1 | a: {${name}: 1}
      |    - ^
      |    |
      |    opened here
      |
      = help: write `{key: value, key: value}`, and quote a text that holds braces: "${name}"

    error[bad-yaml]: a list item should stand here
     --> p.yaml:2:1
      |
    2 | b: 2
      | ^
      |
      = help: start it with `- `, indented like the items above

    error[bad-yaml]: a `:` is not possible here
     --> p.yaml:2:4
      |
    2 | key: 1
      |    ^
      |
      = help: quote a text that holds `: `, and check the indentation of this line
    "#);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\\n\\t]{0,80}|.{0,60}|([-\\[\\]{}:,&*!|>'\"#%@` a1\\n~?]){0,60}") {
        let (node, diagnostics, sources) = read(&text);
        let _ = diagnostics.render(&sources, false);
        prop_assert!(node.is_none() || diagnostics.has_errors() || to_yaml(&node.unwrap().to_json()).is_ok());
    }

    #[test]
    fn what_is_written_is_read_again(
        texts in proptest::collection::btree_map("[a-z]{1,8}", ".{0,20}", 0..5),
        numbers in proptest::collection::vec(proptest::num::f64::NORMAL | proptest::num::f64::ZERO, 0..5),
        integers in proptest::collection::vec(proptest::num::i64::ANY, 0..5),
        switch: bool,
    ) {
        let before = json!({"texts": texts, "numbers": numbers, "integers": integers, "switch": switch});
        let text = to_yaml(&before).unwrap();
        let (node, diagnostics, sources) = read(&text);
        prop_assert!(diagnostics.is_empty(), "{}{}", text, diagnostics.render(&sources, false));
        prop_assert_eq!(node.unwrap().to_json(), before);
    }
}
