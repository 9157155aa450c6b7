//! Points of good axes, and the reports on bad ones.

use indexmap::IndexMap;

use super::*;
use crate::diagnostic::SourceMap;
use crate::pipeline::{Param, yaml};

/// The labels of the points of a stage with this text, or the problems.
fn run(text: &str) -> Result<Vec<String>, String> {
    let mut sources = SourceMap::default();
    let file = sources.add("p.yaml", text);
    let (node, mut diagnostics) = yaml::parse(text, file, 0);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render(&sources, false)
    );
    let node = node.unwrap();
    let params: IndexMap<String, Param> = node
        .get("params")
        .and_then(Node::entries)
        .unwrap_or(&[])
        .iter()
        .map(|(key, value)| (key.text.to_string(), Param::new(value.clone(), key.span)))
        .collect();
    let axes = Axes::new(
        node.entry("foreach"),
        node.entry("matrix"),
        &mut diagnostics,
    );
    let points = match diagnostics.is_empty() {
        true => axes.points(&Scope::new(&params)),
        false => Err(diagnostics),
    };
    match points {
        Ok(points) => Ok(points.iter().map(Point::label).collect()),
        Err(diagnostics) => Err(diagnostics.render(&sources, false)),
    }
}

#[test]
fn the_first_axis_is_the_slowest() {
    assert_eq!(run("{}").unwrap(), [""]);
    assert_eq!(
        run("matrix: {a: [1, 2], b: [x, 'y']}").unwrap(),
        ["a=1,b=x", "a=1,b=y", "a=2,b=x", "a=2,b=y"]
    );
    assert_eq!(run("foreach: {m: [b, a]}").unwrap(), ["m=b", "m=a"]);
    assert_eq!(
        run("foreach: [{a: 1, b: 2}, {a: 1, b: 3}]").unwrap(),
        ["a=1,b=2", "a=1,b=3"]
    );
}

#[test]
fn axes_depend_on_earlier_ones() {
    let text = "params: {base: 8, some: [1, 2]}\nmatrix:\n  model: [tvnet, moment]\n  lr: {by: model, tvnet: [0.1, 0.2], default: [0.5]}\n";
    assert_eq!(
        run(text).unwrap(),
        [
            "model=tvnet,lr=0.1",
            "model=tvnet,lr=0.2",
            "model=moment,lr=0.5"
        ]
    );
    let text =
        "params: {base: 8, some: [1, 2]}\nmatrix: {a: \"${some}\", b: [\"${a}0\", \"${base}\"]}";
    assert_eq!(
        run(text).unwrap(),
        ["a=1,b=10", "a=1,b=8", "a=2,b=20", "a=2,b=8"]
    );
    let text = "matrix: {n: [1, 2.0], m: {by: n, 1: [x], 2: [y]}}";
    assert_eq!(run(text).unwrap(), ["n=1,m=x", "n=2.0,m=y"]);
    let text = "matrix: {m: [{kind: a}, {kind: b}], n: {by: m.kind, a: [1], b: [2]}}";
    assert_eq!(
        run(text).unwrap(),
        ["m={\"kind\":\"a\"},n=1", "m={\"kind\":\"b\"},n=2"]
    );
    let text = "params: {rate: {by: m, a: [1], default: [2, 3]}, m: b}\nmatrix: {m: [a, \"${m}\"], n: \"${rate}\"}";
    assert_eq!(run(text).unwrap(), ["m=a,n=1", "m=b,n=2", "m=b,n=3"]);
    assert_eq!(
        run("params: {a: 7}\nmatrix: {a: \"${a}\"}").unwrap(),
        ["a=7"]
    );
    assert_eq!(
        run("params: {p: [{a: 1}]}\nforeach: \"${p}\"").unwrap(),
        ["a=1"]
    );
}

#[test]
fn bad_axes_are_explained() {
    let cases = [
        "matrix: {a: []}",
        "matrix: {}",
        "matrix: {a: 5, b c: [1]}",
        "matrix: [1, 2]",
        "matrix: {a: [1, 2, 1]}",
        "foreach: [{a: 1}, {b: 2}, 3]",
        "foreach: machine",
        "foreach: {a: [1], b: [2]}",
        "foreach: {a: [1]}\nmatrix: {b: [2]}",
        "matrix: {model: [tvnet, moment], lr: {by: modle, tvnet: [1]}}",
        "matrix: {model: [tvnet, moment], lr: {by: model, tvnt: [1], default: [2]}}",
        "matrix: {model: [tvnet, moment], lr: {by: model, tvnet: [1]}}",
        "matrix: {lr: {tvnet: [1]}}",
        "matrix: {lr: [\"${rate}\"]}",
    ];
    let report: String = cases.iter().map(|text| run(text).unwrap_err()).collect();
    insta::assert_snapshot!(report, @r#"
    error[bad-axes]: axis `a` has no values
     --> p.yaml:1:13
      |
    1 | matrix: {a: []}
      |             ^^
      |
      = help: write `a: [value, value]`

    error[bad-axes]: there is no axis
     --> p.yaml:1:9
      |
    1 | matrix: {}
      |         ^^
      |
      = help: write `axis: [value]`

    error[bad-axes]: axis `a` must be a list of values, found `5`
     --> p.yaml:1:13
      |
    1 | matrix: {a: 5, b c: [1]}
      |             ^
      |
      = help: write `a: [value, value]`

    error[bad-name]: `b c` cannot be the name of an axis
     --> p.yaml:1:16
      |
    1 | matrix: {a: 5, b c: [1]}
      |                ^^^
      |
      = help: a name begins with a letter or `_`, followed by letters, digits, `_` and `-`

    error[bad-axes]: `matrix` must be a map of axes, found a list
     --> p.yaml:1:9
      |
    1 | matrix: [1, 2]
      |         ^^^^^^
      |
      = help: write `matrix: {axis: [value, value]}`

    error[repeated-point]: the point a=1 comes twice
     --> p.yaml:1:20
      |
    1 | matrix: {a: [1, 2, 1]}
      |              -     ^
      |              |
      |              first here
      |
      = help: remove one of them

    error[bad-axes]: every point must have the axes of the first one, in its order: `a`
     --> p.yaml:1:19
      |
    1 | foreach: [{a: 1}, {b: 2}, 3]
      |                   ^^^^^^
      |
      = help: write `foreach: {axis: [value, value]}` or `foreach: [{a: 1, b: 2}, {a: 3, b: 4}]`

    error[bad-axes]: a point must be a map of axes, found `3`
     --> p.yaml:1:27
      |
    1 | foreach: [{a: 1}, {b: 2}, 3]
      |                           ^
      |
      = help: write `foreach: {axis: [value, value]}` or `foreach: [{a: 1, b: 2}, {a: 3, b: 4}]`

    error[bad-axes]: `foreach` must be a list of points, found `machine`
     --> p.yaml:1:10
      |
    1 | foreach: machine
      |          ^^^^^^^
      |
      = help: write `foreach: {axis: [value, value]}` or `foreach: [{a: 1, b: 2}, {a: 3, b: 4}]`

    error[bad-axes]: a map below `foreach` has one axis
     --> p.yaml:1:19
      |
    1 | foreach: {a: [1], b: [2]}
      |                   ^
      |
      = help: use `matrix` for every combination, or list points: `foreach: [{a: 1, b: 2}, …]`

    error[bad-axes]: a stage has `foreach` or `matrix`, not both
     --> p.yaml:2:1
      |
    1 | foreach: {a: [1]}
      | ------- the other one
    2 | matrix: {b: [2]}
      | ^^^^^^
      |
      = help: `matrix` makes every combination, `foreach` takes points one by one

    error[bad-axes]: `by` of axis `lr` must name an earlier axis, found `modle`
     --> p.yaml:1:43
      |
    1 | matrix: {model: [tvnet, moment], lr: {by: modle, tvnet: [1]}}
      |                                           ^^^^^
      |
      = help: did you mean `model`?

    error[bad-axes]: axis `lr` has a case `tvnt`, but `model` never has this value
     --> p.yaml:1:50
      |
    1 | matrix: {model: [tvnet, moment], lr: {by: model, tvnt: [1], default: [2]}}
      |                                                  ^^^^
      |
      = help: did you mean `tvnet`?

    error[bad-axes]: axis `lr` says nothing about `moment` of `model`
     --> p.yaml:1:34
      |
    1 | matrix: {model: [tvnet, moment], lr: {by: model, tvnet: [1]}}
      |                         ------   ^^
      |                         |
      |                         this value
      |
      = help: add it or `default` to the cases `tvnet`

    error[bad-axes]: the map of axis `lr` does not say by which earlier axis it goes
     --> p.yaml:1:14
      |
    1 | matrix: {lr: {tvnet: [1]}}
      |              ^^^^^^^^^^^^
      |
      = help: write `{by: earlier_axis, its_value: [...], default: [...]}`, or a list of values

    error[undefined-name]: `rate` is not defined
     --> p.yaml:1:15
      |
    1 | matrix: {lr: ["${rate}"]}
      |               ^^^^^^^^^
      |
      = help: define it under `params`
    "#);
}

#[test]
fn points_are_compared_by_value() {
    let text = "matrix: {a: [x, 'x']}";
    assert!(run(text).unwrap_err().contains("the point a=x comes twice"));
    let mut sources = SourceMap::default();
    let point = |start| {
        let span = Span::new(sources.add("p.yaml", "      "), start, start + 1);
        Point::default().and("a".into(), Node::scalar("1", false, span))
    };
    let points: Vec<Point> = [0, 3].into_iter().map(point).collect();
    assert_eq!(points[0], points[1]);
    assert_ne!(points[0], Point::default());
    let twice: Point = points
        .iter()
        .flat_map(Point::iter)
        .map(|(name, value)| (name.into(), value.clone()))
        .collect();
    assert_eq!(twice.label(), "a=1,a=1");
}
