//! What stands in the file of each kind of artifact, column by column, for people and their programs. `docs/artifacts.md`
//! has these tables; a test holds them against files that are written.

use super::ArtifactKind;

/// A column of a file, or several of one form.
#[derive(Clone, Copy, Debug)]
pub struct ColumnLayout {
    /// A word in capitals stands for a name of the user's, such as that of a channel.
    pub name: &'static str,
    /// As pyarrow calls the Arrow type.
    pub kind: &'static str,
    /// When a value is null; empty if never.
    pub null: &'static str,
    pub meaning: &'static str,
}

/// An entry of a file's metadata, in JSON.
#[derive(Clone, Copy, Debug)]
pub struct EntryLayout {
    pub name: &'static str,
    pub meaning: &'static str,
}

/// The file of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub kind: ArtifactKind,
    /// What a row is.
    pub row: &'static str,
    pub columns: &'static [ColumnLayout],
    pub metadata: &'static [EntryLayout],
}

const fn column(name: &'static str, kind: &'static str, meaning: &'static str) -> ColumnLayout {
    ColumnLayout {
        name,
        kind,
        null: "",
        meaning,
    }
}

const fn null_if(null: &'static str, column: ColumnLayout) -> ColumnLayout {
    ColumnLayout { null, ..column }
}

const fn entry(name: &'static str, meaning: &'static str) -> EntryLayout {
    EntryLayout { name, meaning }
}

const TIME: &str = "timestamp[ms, tz=UTC]";
const NO_TIMES: &str = "everywhere, if the series has no times";
const SPLIT: &str = "`train`, `validation`, `calibration` or `test`";
const SEGMENTS: &str = "A list with `split`, `entity`, `rows` (`start` and `end`, half-open), `labelled`, and `class` if it has one. A segment is an unbroken stretch of rows.";
const ENTITY: &str = "The machine, channel or file that the row comes from.";

/// The kinds in the order of their declaration. Models are not Parquet, and stand in `docs/artifacts.md` alone.
pub static LAYOUTS: &[Layout] = &[
    Layout {
        kind: ArtifactKind::Series,
        row: "a time point",
        columns: &[
            column("runner.time", TIME, "There only if the source has times."),
            column(
                "runner.label",
                "uint8",
                "1 where a row is anomalous, 0 elsewhere. There only if a segment is labelled.",
            ),
            column(
                "CHANNEL",
                "float",
                "A column for each channel, in their order.",
            ),
            column(
                "WIDE CHANNEL",
                "double",
                "The same, of a channel whose steps 32 bits do not tell apart.",
            ),
        ],
        metadata: &[entry("runner.segments", SEGMENTS)],
    },
    Layout {
        kind: ArtifactKind::Windows,
        row: "a run of windows, at equal distances",
        columns: &[
            column("split", "string", SPLIT),
            column("first", "uint64", "The first row of the first window."),
            column("stride", "uint64", "Rows from one window to the next."),
            column("count", "uint64", "The number of windows."),
            column(
                "rows_start",
                "uint64",
                "The first row that they were cut from.",
            ),
            column("rows_end", "uint64", "The row after the last of those."),
        ],
        metadata: &[
            entry(
                "runner.spec",
                "`length` and `horizon` of a window, in rows.",
            ),
            entry("runner.series", "The logical digest of the series below."),
        ],
    },
    Layout {
        kind: ArtifactKind::Scores,
        row: "a scored time point or image",
        columns: &[
            column("entity", "string", ENTITY),
            column("split", "string", SPLIT),
            null_if(NO_TIMES, column("time", TIME, "")),
            column("score", "float", "Higher means more anomalous; finite."),
            null_if(
                "where rows are not labelled",
                column(
                    "label",
                    "uint8",
                    "1 where the row is anomalous, 0 where it is not.",
                ),
            ),
            column(
                "contribution.CHANNEL",
                "float",
                "The channel's part of the score. There only if `contributions` was on.",
            ),
        ],
        metadata: &[
            entry("runner.segments", SEGMENTS),
            entry(
                "runner.channels",
                "Names of the channels with contributions.",
            ),
        ],
    },
    Layout {
        kind: ArtifactKind::Forecasts,
        row: "a step of a window",
        columns: &[
            column("entity", "string", ENTITY),
            column("split", "string", SPLIT),
            null_if(NO_TIMES, column("time", TIME, "The time of this step.")),
            column(
                "row",
                "uint64",
                "The row of the series that step 0 stands for.",
            ),
            column("step", "uint32", "From 0; step `s` stands for `row + s`."),
            column(
                "judged.CHANNEL",
                "uint8",
                "1 where the value counts in metrics. There only if not all do, as in imputation.",
            ),
            column(
                "actual.CHANNEL",
                "float",
                "What was measured, scaled as the model saw it.",
            ),
            column(
                "predicted.CHANNEL",
                "float",
                "What was forecast or filled in.",
            ),
        ],
        metadata: &[
            entry("runner.channels", "Names of the channels."),
            entry("runner.horizon", "Steps in a window."),
            entry(
                "runner.naive_error",
                "Per channel, the error of the seasonal naive forecast over the training rows: the unit of MASE. Empty if not known.",
            ),
        ],
    },
    Layout {
        kind: ArtifactKind::Predictions,
        row: "a sample",
        columns: &[
            null_if("everywhere, for images", column("entity", "string", ENTITY)),
            column("split", "string", SPLIT),
            null_if(
                NO_TIMES,
                column("time", TIME, "The time of the sample's first row."),
            ),
            column("sample", "string", "The sample's name."),
            null_if(
                "everywhere, if classes are not known",
                column("class", "string", "The true class."),
            ),
            column(
                "predicted",
                "string",
                "The most probable class; of several, the first.",
            ),
            column(
                "probability.CLASS",
                "float",
                "A column for each class; a row sums to 1.",
            ),
        ],
        metadata: &[entry(
            "runner.classes",
            "Names of the classes, in their order.",
        )],
    },
    Layout {
        kind: ArtifactKind::Metrics,
        row: "a metric",
        columns: &[
            column("name", "string", ""),
            null_if(
                "where the metric is undefined",
                column("value", "double", ""),
            ),
            column(
                "direction",
                "string",
                "Which way is better: `higher`, `lower` or `neither`.",
            ),
            column(
                "oracle",
                "bool",
                "Computed with knowledge of the test labels.",
            ),
            column("inflating", "bool", "Known to flatter."),
            column("caveat", "string", "How to read it; may be empty."),
        ],
        metadata: &[],
    },
    Layout {
        kind: ArtifactKind::Images,
        row: "an image",
        columns: &[
            null_if(
                "never, in what runner writes",
                column(
                    "image",
                    "struct<bytes: binary, path: string>",
                    "A PNG file and its name.",
                ),
            ),
            null_if(
                "where the class is not known",
                column("label", "int64", "The number of the class."),
            ),
            null_if(
                "where the class is not known",
                column("class", "string", "Its name."),
            ),
            column("split", "string", SPLIT),
        ],
        metadata: &[
            entry("runner.size", "Height and width in pixels."),
            entry(
                "runner.classes",
                "Names of the classes, in the order of their numbers.",
            ),
            entry("huggingface", "The same for the library `datasets`."),
        ],
    },
    Layout {
        kind: ArtifactKind::Table,
        row: "as the stage says",
        columns: &[
            null_if(
                "where there is no value",
                column("REAL", "double", "A column of numbers."),
            ),
            null_if(
                "where there is no value",
                column("INTEGER", "int64", "A column of whole numbers."),
            ),
            null_if(
                "where there is no value",
                column("TEXT", "string", "A column of texts."),
            ),
            null_if(
                "never, in what runner writes",
                column("FLAG", "bool", "A column of yes and no."),
            ),
        ],
        metadata: &[],
    },
    Layout {
        kind: ArtifactKind::Files,
        row: "a file, or a folder that is empty",
        columns: &[
            column(
                "path",
                "string",
                "Relative, with `/`; that of a folder ends in `/`.",
            ),
            column("executable", "bool", ""),
            column("size", "uint64", "Bytes."),
            column(
                "digest",
                "string",
                "The blake3 of its bytes, which is its name in the store.",
            ),
        ],
        metadata: &[],
    },
];

/// All tables as Markdown, a section for each kind.
pub fn markdown() -> String {
    let mut text = String::new();
    for layout in LAYOUTS {
        text += &format!(
            "\n### {}\n\nA row is {}.\n\n| column | type | null | |\n|---|---|---|---|\n",
            layout.kind, layout.row
        );
        for column in layout.columns {
            let null = if column.null.is_empty() {
                "never"
            } else {
                column.null
            };
            text += &format!(
                "| `{}` | {} | {null} | {} |\n",
                column.name, column.kind, column.meaning
            );
        }
        if layout.metadata.is_empty() {
            continue;
        }
        text += "\n| metadata | |\n|---|---|\n";
        for entry in layout.metadata {
            text += &format!("| `{}` | {} |\n", entry.name, entry.meaning);
        }
    }
    text
}
