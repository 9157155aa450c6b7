//! Parameters of a toy stage, good and bad, with the reports that people would see.

use contract::{Choice, Entry, Named, Table};
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::diagnostic::SourceMap;
use crate::pipeline::yaml;

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

impl Named for Adam {
    const NAME: &'static str = "adam";
    const DOC: &'static str = "Adam.";
}

impl Named for Sgd {
    const NAME: &'static str = "sgd";
    const DOC: &'static str = "Gradient descent.";
}

trait Optimizer: Send + Sync {}

impl Optimizer for Adam {}

impl Optimizer for Sgd {}

static OPTIMIZERS: Table<dyn Optimizer> =
    Table::new("optimizer", &[&[Entry::of::<Adam>(), Entry::of::<Sgd>()]]).or_bare();

contract::tabled!(dyn Optimizer in OPTIMIZERS);

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Tvnet(Sgd);

impl Named for Tvnet {
    const NAME: &'static str = "tvnet-recon";
    const DOC: &'static str = "TVNet.";
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Moment(Adam);

impl Named for Moment {
    const NAME: &'static str = "moment";
    const DOC: &'static str = "MOMENT.";
}

trait Model: Send + Sync {}

impl Model for Tvnet {}

impl Model for Moment {}

static MODELS: Table<dyn Model> =
    Table::new("model", &[&[Entry::of::<Tvnet>(), Entry::of::<Moment>()]]);

contract::tabled!(dyn Model in MODELS);

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
    optimizer: Option<Choice<dyn Optimizer>>,
    models: Option<Vec<Choice<dyn Model>>>,
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
    let schema = settings
        .into_generator()
        .into_root_schema_for::<Params>()
        .to_value();
    let mut sources = SourceMap::default();
    let file = sources.add("p.yaml", text);
    let (node, diagnostics) = yaml::parse(text, file, 0);
    assert!(diagnostics.is_empty());
    let node = node.unwrap();
    let diagnostics = validate(&node, &schema, "stage `model`");
    let parsed = serde_json::from_value::<Params>(node.to_json());
    // What passes is read; what serde refuses was reported, with better words.
    assert!(
        parsed.is_ok() || diagnostics.has_errors(),
        "{text}: {}",
        parsed.err().unwrap()
    );
    diagnostics.render(&sources, false)
}

#[test]
fn good_values_pass() {
    let text = "epochs: 3\nshuffle: true\nnote: ~\noptimizer: {kind: adam, lr: 1e-4, betas: [0.9, 1]}\nmodels: [{kind: \
                moment}]\nlayers: [1, 2]\noverlap: mean\nwidth: {fixed: 3}\nnames: {a: 1}\n";
    assert_eq!(problems(text), "");
    assert_eq!(
        problems("epochs: 3\noptimizer: adam\nwidth: full\nlayers:\n"),
        ""
    );
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
        "epochs: 5000000000\nnames: {a: 9223372036854775808, b: -1}\nlayers: [0, 4294967296]\n",
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

    error[out-of-range]: `epochs` must be between 0 and 4294967295, found `5000000000`
     --> p.yaml:1:9
      |
    1 | epochs: 5000000000
      |         ^^^^^^^^^^

    error[out-of-range]: `names.a` must be between -9223372036854775808 and 9223372036854775807, found `9223372036854775808`
     --> p.yaml:2:12
      |
    2 | names: {a: 9223372036854775808, b: -1}
      |            ^^^^^^^^^^^^^^^^^^^

    error[out-of-range]: `layers.1` must be between 0 and 4294967295, found `4294967296`
     --> p.yaml:3:13
      |
    3 | layers: [0, 4294967296]
      |             ^^^^^^^^^^

    error[wrong-type]: stage `model` must be a map, found `5`
     --> p.yaml:1:1
      |
    1 | 5
      | ^
    "#);
}

/// Values that fit some of the parameters, nearly fit, or fit none.
fn any_value() -> impl Strategy<Value = Value> {
    let pool = [
        "3",
        "-1",
        "0",
        "2.5",
        "1e30",
        "5000000000",
        "true",
        "null",
        "\"mean\"",
        "\"adam\"",
        "\"full\"",
        "\"3\"",
        "[]",
        "[1, 2]",
        "[0.9, 0.99]",
        "{}",
        r#"{"kind": "adam"}"#,
        r#"{"kind": "adam", "lr": 0.1, "betas": [1, 2]}"#,
        r#"{"kind": "sgd", "momentum": 0.5}"#,
        r#"{"kind": "sgd"}"#,
        r#"[{"kind": "moment", "lr": 1}]"#,
        r#"{"fixed": 3}"#,
        r#"{"fixed": 3, "full": null}"#,
        r#"{"a": 1, "b": -2}"#,
        r#"[[1], ["x"]]"#,
    ];
    proptest::sample::select(
        pool.map(|text| serde_json::from_str(text).unwrap())
            .to_vec(),
    )
}

proptest! {
    #[test]
    fn what_passes_is_read_by_the_type(
        entries in proptest::collection::btree_map(
            proptest::sample::select(vec![
                "epochs", "shuffle", "note", "optimizer", "models", "layers", "overlap", "width", "names", "other",
            ]),
            any_value(),
            0..5,
        ),
        epochs in 1..9,
    ) {
        let mut value = json!(entries);
        if value.get("epochs").is_none() {
            value["epochs"] = json!(epochs);
        }
        // `problems` asserts that serde reads what was not refused.
        problems(&yaml::to_yaml(&value).unwrap());
    }
}
