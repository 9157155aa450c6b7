//! The declaration of a stage kind: the one table from which checker, dispatch, schema and documentation read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Fault, Inputs, Outputs, Port, StageContext, Trouble, limits};
use crate::artifact::{Scores, Split};

/// Whether the bits of the outputs depend on the machine's floating-point code paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numerics {
    /// The same bits everywhere: integer work, or floating point in a fixed order without fused operations.
    Exact,
    /// Matrix kernels are chosen by CPU features or GPU: the numeric class enters the key.
    Device,
}

/// How many threads a stage makes use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    One,
    /// All that the run may use.
    All,
}

/// A file from outside that a stage reads. The engine finds it, hashes it into the key and passes its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// The name under which the stage asks for it.
    pub name: String,
    /// Relative to a data folder, or as the user wrote it.
    pub path: PathBuf,
    /// The data set in `data/sources.yaml` that lists it, if any: checksum, origin, download.
    pub dataset: Option<String>,
    /// Absence is no error: the stage does without.
    pub optional: bool,
    /// Not one file but all files below this folder whose names have one of these endings, in small letters; all, if there is
    /// none. Each enters the key by itself, as `name/its path below the folder`.
    pub below: Option<Vec<String>>,
    /// The path may also be a folder, or a pattern with `*`, `?` or `[`: then each file that it means enters the key by
    /// itself, as `name/its path below the folder`. Hidden files and what Python compiled (`__pycache__`) are not meant.
    /// Endings in `below` are those of the files of a folder, and compared without case in a pattern.
    pub many: bool,
}

impl FileRequest {
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            dataset: None,
            optional: false,
            below: None,
            many: false,
        }
    }

    /// A file that `data/sources.yaml` lists under this data set.
    #[must_use]
    pub fn of_dataset(mut self, dataset: &str) -> Self {
        self.dataset = Some(dataset.to_owned());
        self
    }

    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// All files below the folder whose names have one of these endings.
    #[must_use]
    pub fn below(mut self, endings: &[&str]) -> Self {
        self.below = Some(endings.iter().map(|ending| (*ending).to_owned()).collect());
        self
    }

    /// The path may be a folder or a pattern, too.
    #[must_use]
    pub fn or_many(mut self) -> Self {
        self.many = true;
        self
    }

    /// Whether the path is a folder, whatever it looks like.
    pub fn is_folder(&self) -> bool {
        self.below.is_some() && !self.many
    }

    /// Whether a file of this name in a key was asked for as one of many.
    pub fn holds(&self, name: &str) -> bool {
        let is_below = || {
            name.strip_prefix(&self.name)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        (self.below.is_some() || self.many) && is_below()
    }

    /// The folder that the paths of many files start at: all of the path, or of a pattern the part before it.
    pub fn folder(&self) -> PathBuf {
        let is_plain = |part: &Component<'_>| {
            !self.many || !part.as_os_str().to_string_lossy().contains(PATTERN)
        };
        self.path.components().take_while(is_plain).collect()
    }

    /// The rest of the path: the part that is a pattern, or nothing.
    pub fn pattern(&self) -> PathBuf {
        self.path
            .strip_prefix(self.folder())
            .map(Path::to_owned)
            .unwrap_or_default()
    }
}

/// What makes a path a pattern.
const PATTERN: [char; 3] = ['*', '?', '['];

/// Something about parameters that are possible, and yet not what was meant. It is reported when a pipeline is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// A stable name of this sort of remark, such as `undeclared-file`.
    pub code: &'static str,
    /// The path of the parameter below `with`.
    pub parameter: String,
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// It cannot work: an error, and not a warning.
    pub fatal: bool,
}

impl Remark {
    /// A remark about what cannot work.
    pub fn error(parameter: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: "bad-value",
            parameter: parameter.into(),
            message: message.into(),
            hint: None,
            fatal: true,
        }
    }

    /// A remark about what works, and is probably a mistake.
    pub fn warning(
        code: &'static str,
        parameter: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code,
            parameter: parameter.into(),
            message: message.into(),
            hint: None,
            fatal: false,
        }
    }

    /// What to write instead.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Finds what a path of the user leads to, from the pipeline file's folder or the current one.
pub type LookUp<'a> = &'a dyn Fn(&Path) -> Option<PathBuf>;

/// What remarks are made in the light of.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The names of the inputs that are connected, as [`Stage::check_inputs`] gets them; nothing if they are not known,
    /// since something is wrong with them.
    pub connected: Option<&'a [&'a str]>,
    pub look_up: LookUp<'a>,
}

/// What learned things are for; it decides from which rows they may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Weights and statistics: from training rows.
    Fit,
    /// The choice of an epoch or a hyperparameter: from training and validation rows.
    Select,
    /// A threshold: from any rows but those of the test part and those that are judged by it.
    Threshold { judged: Split },
    /// A state that is carried forward over the rows and used for those that come later: sound for all of them.
    Adapt,
    /// Rows of several splits in one sample: never sound.
    Mix,
}

impl Purpose {
    /// Whether rows of this split may serve the purpose.
    pub fn allows(self, split: Split) -> bool {
        match self {
            Self::Fit => split == Split::Train,
            Self::Select => matches!(split, Split::Train | Split::Validation),
            Self::Threshold { judged } => split != Split::Test && split != judged,
            Self::Adapt => true,
            Self::Mix => false,
        }
    }
}

/// Something that a stage learns from data. The leakage check judges these statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learning {
    /// What is learned: `normalisation statistics`, `threshold`, `weights`.
    pub what: &'static str,
    pub purpose: Purpose,
    /// The rows it is learned from.
    pub from: Vec<Split>,
    /// Whether labels of these rows are used.
    pub labels: bool,
    /// The use of test labels is declared and marked in the outputs, as with a best-F1 threshold.
    pub oracle: bool,
    /// The parameter to blame, as a path below `with`.
    pub parameter: &'static str,
}

/// A stage kind: its parameters, ports and work. `NAME` is also the name of its file.
pub trait Stage: 'static {
    /// A struct with `#[serde(deny_unknown_fields)]`, defaults for what may be left out, and documented fields.
    type Params: DeserializeOwned + Serialize + JsonSchema + Send + Sync + 'static;

    /// The name in YAML.
    const NAME: &'static str;
    /// Raised whenever the outputs for given inputs and parameters change.
    const VERSION: u32;
    /// One sentence for the catalogue.
    const DOC: &'static str;
    const NUMERICS: Numerics;
    const THREADS: Threads;
    /// Whether the pipeline's seed can change the outputs.
    const SEEDED: bool;
    /// Whether it gathers the instances of an expanded stage instead of being expanded with them.
    const GATHERS: bool = false;
    /// Whether it has [`Stage::remarks`].
    const REMARKS: bool = false;
    /// Whether the ports depend on the parameters. Where they do not, connections are checked even if parameters are
    /// wrong.
    const PORTS_VARY: bool = false;
    /// Parameters, as JSON, that are enough to make it work: an example for the catalogue.
    const EXAMPLE: &'static str = "{}";

    fn inputs(params: &Self::Params) -> Vec<Port>;
    fn outputs(params: &Self::Params) -> Vec<Port>;

    /// What the schema cannot say. Paths of parameters begin below `with`.
    ///
    /// # Errors
    /// The parameter at fault and a sentence about it.
    fn check(_params: &Self::Params) -> Result<(), Fault> {
        Ok(())
    }

    /// What the ports do not say about connections: which inputs go together, and with which parameters. `connected` are
    /// the names of the inputs that are connected; on a port that takes many, each as `port.name` besides.
    ///
    /// # Errors
    /// The parameter at fault, or nothing if it is the connections, and a sentence about it.
    fn check_inputs(_params: &Self::Params, _connected: &[&str]) -> Result<(), Fault> {
        Ok(())
    }

    /// Files from outside that these parameters ask for.
    fn files(_params: &Self::Params) -> Vec<FileRequest> {
        Vec::new()
    }

    /// What is possible and yet probably a mistake, in the light of the files that there are, and all that is wrong
    /// with parameters that name inputs.
    fn remarks(_params: &Self::Params, _around: Surroundings<'_>) -> Vec<Remark> {
        Vec::new()
    }

    /// What would help after a failure, by what was said about it and the files that there are.
    fn advice(_params: &Self::Params, _said: &str, _look_up: LookUp<'_>) -> Option<String> {
        None
    }

    /// Names of environment variables that the stage sees; their values enter the key.
    fn environment(_params: &Self::Params) -> Vec<String> {
        Vec::new()
    }

    /// Versions of what does the work besides this program, such as the packages of an interpreter, by name; they enter
    /// the key. Asked for whenever a pipeline is planned.
    ///
    /// # Errors
    /// If it is not there.
    fn packages(
        _params: &Self::Params,
        _look_up: LookUp<'_>,
    ) -> Result<BTreeMap<String, String>, Trouble> {
        Ok(BTreeMap::new())
    }

    /// Takes out of the written parameters what says where things lie on this machine, and not what they are: it stays
    /// out of the key.
    fn leave_out_of_key(_parameters: &mut Value) {}

    /// [`Stage::NUMERICS`], where the parameters decide it.
    fn numerics(_params: &Self::Params) -> Numerics {
        Self::NUMERICS
    }

    /// [`Stage::SEEDED`], where the parameters decide it.
    fn seeded(_params: &Self::Params) -> bool {
        Self::SEEDED
    }

    /// [`Stage::THREADS`], where the parameters decide it.
    fn threads(_params: &Self::Params) -> Threads {
        Self::THREADS
    }

    /// What is learned from which rows.
    fn learns(_params: &Self::Params) -> Vec<Learning> {
        Vec::new()
    }

    /// The split whose labels or values its figures are held against, if it makes figures of that sort.
    fn judges(_params: &Self::Params) -> Option<Split> {
        None
    }

    /// For a stage that judges scores at a threshold that moves: the threshold of each row that it judged, by the row's place in
    /// the scores. Nothing for a threshold that all rows are held against.
    fn moving_threshold(_params: &Self::Params, _scores: &Scores) -> Option<Vec<(usize, f64)>> {
        None
    }

    /// What was published of what it does: a name and a sentence `Authors: Title. Where Year.`
    fn cites(_params: &Self::Params) -> Vec<(String, &'static str)> {
        Vec::new()
    }

    /// Does the work.
    ///
    /// # Errors
    /// Anything that keeps the stage from its outputs; then nothing of it is stored.
    fn run(
        params: &Self::Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble>;
}

/// A stage kind with its types erased, as the engine holds it.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts about a kind that do not depend on each other"
)]
pub struct StageKind {
    pub name: &'static str,
    pub version: u32,
    pub doc: &'static str,
    pub numerics: Numerics,
    pub threads: Threads,
    pub seeded: bool,
    pub gathers: bool,
    pub ports_vary: bool,
    /// Whether [`Configured::remarks`] may have any.
    pub has_remarks: bool,
    example: &'static str,
    schema: fn() -> Schema,
    parse: fn(Value) -> Result<Configured, String>,
}

/// A stage kind with parameters that were parsed: what the graph keeps of a stage, and the engine runs.
#[derive(Clone)]
pub struct Configured {
    parameters: Value,
    stage: Arc<dyn AnyStage>,
}

impl Configured {
    /// The parameters with their defaults, in the order of their type: what enters the key.
    pub fn parameters(&self) -> &Value {
        &self.parameters
    }

    /// Checks the limits of the schema, and then what [`Stage::check`] adds.
    ///
    /// # Errors
    /// The parameter at fault and a sentence about it.
    pub fn check(&self) -> Result<(), Fault> {
        limits::check(&self.parameters, self.stage.schema())?;
        self.stage.check()
    }

    /// See [`Stage::check_inputs`].
    ///
    /// # Errors
    /// The parameter at fault, or nothing if it is the connections, and a sentence about it.
    pub fn check_inputs(&self, connected: &[&str]) -> Result<(), Fault> {
        self.stage.check_inputs(connected)
    }

    pub fn inputs(&self) -> Vec<Port> {
        self.stage.inputs()
    }

    pub fn outputs(&self) -> Vec<Port> {
        self.stage.outputs()
    }

    pub fn files(&self) -> Vec<FileRequest> {
        self.stage.files()
    }

    /// See [`Stage::remarks`].
    pub fn remarks(&self, around: Surroundings<'_>) -> Vec<Remark> {
        self.stage.remarks(around)
    }

    /// See [`Stage::advice`].
    pub fn advice(&self, said: &str, look_up: LookUp<'_>) -> Option<String> {
        self.stage.advice(said, look_up)
    }

    pub fn environment(&self) -> Vec<String> {
        self.stage.environment()
    }

    /// See [`Stage::packages`].
    ///
    /// # Errors
    /// If what does the work is not there.
    pub fn packages(&self, look_up: LookUp<'_>) -> Result<BTreeMap<String, String>, Trouble> {
        self.stage.packages(look_up)
    }

    pub fn numerics(&self) -> Numerics {
        self.stage.numerics()
    }

    pub fn seeded(&self) -> bool {
        self.stage.seeded()
    }

    pub fn threads(&self) -> Threads {
        self.stage.threads()
    }

    pub fn learns(&self) -> Vec<Learning> {
        self.stage.learns()
    }

    pub fn judges(&self) -> Option<Split> {
        self.stage.judges()
    }

    /// See [`Stage::moving_threshold`].
    pub fn moving_threshold(&self, scores: &Scores) -> Option<Vec<(usize, f64)>> {
        self.stage.moving_threshold(scores)
    }

    /// See [`Stage::cites`].
    pub fn cites(&self) -> Vec<(String, &'static str)> {
        self.stage.cites()
    }

    /// Does the work; see [`Stage::run`].
    ///
    /// # Errors
    /// Whatever kept the stage from its outputs.
    pub fn run(&self, inputs: &Inputs, context: &StageContext<'_>) -> Result<Outputs, Trouble> {
        self.stage.run(inputs, context)
    }
}

impl fmt::Debug for Configured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parameters.fmt(formatter)
    }
}

/// [`Stage`] with its parameters, and without its type.
trait AnyStage: Send + Sync {
    fn schema(&self) -> &'static Value;
    fn check(&self) -> Result<(), Fault>;
    fn check_inputs(&self, connected: &[&str]) -> Result<(), Fault>;
    fn inputs(&self) -> Vec<Port>;
    fn outputs(&self) -> Vec<Port>;
    fn files(&self) -> Vec<FileRequest>;
    fn remarks(&self, around: Surroundings<'_>) -> Vec<Remark>;
    fn advice(&self, said: &str, look_up: LookUp<'_>) -> Option<String>;
    fn environment(&self) -> Vec<String>;
    fn packages(&self, look_up: LookUp<'_>) -> Result<BTreeMap<String, String>, Trouble>;
    fn numerics(&self) -> Numerics;
    fn seeded(&self) -> bool;
    fn threads(&self) -> Threads;
    fn learns(&self) -> Vec<Learning>;
    fn judges(&self) -> Option<Split>;
    fn moving_threshold(&self, scores: &Scores) -> Option<Vec<(usize, f64)>>;
    fn cites(&self) -> Vec<(String, &'static str)>;
    fn run(&self, inputs: &Inputs, context: &StageContext<'_>) -> Result<Outputs, Trouble>;
}

/// The parameters of one stage kind.
struct Parsed<S: Stage>(S::Params);

impl<S: Stage> AnyStage for Parsed<S> {
    fn schema(&self) -> &'static Value {
        limits::schema_of::<S::Params>()
    }

    fn check(&self) -> Result<(), Fault> {
        S::check(&self.0)
    }

    fn check_inputs(&self, connected: &[&str]) -> Result<(), Fault> {
        S::check_inputs(&self.0, connected)
    }

    fn inputs(&self) -> Vec<Port> {
        S::inputs(&self.0)
    }

    fn outputs(&self) -> Vec<Port> {
        S::outputs(&self.0)
    }

    fn files(&self) -> Vec<FileRequest> {
        S::files(&self.0)
    }

    fn remarks(&self, around: Surroundings<'_>) -> Vec<Remark> {
        S::remarks(&self.0, around)
    }

    fn advice(&self, said: &str, look_up: LookUp<'_>) -> Option<String> {
        S::advice(&self.0, said, look_up)
    }

    fn environment(&self) -> Vec<String> {
        S::environment(&self.0)
    }

    fn packages(&self, look_up: LookUp<'_>) -> Result<BTreeMap<String, String>, Trouble> {
        S::packages(&self.0, look_up)
    }

    fn numerics(&self) -> Numerics {
        S::numerics(&self.0)
    }

    fn seeded(&self) -> bool {
        S::seeded(&self.0)
    }

    fn threads(&self) -> Threads {
        S::threads(&self.0)
    }

    fn learns(&self) -> Vec<Learning> {
        S::learns(&self.0)
    }

    fn judges(&self) -> Option<Split> {
        S::judges(&self.0)
    }

    fn moving_threshold(&self, scores: &Scores) -> Option<Vec<(usize, f64)>> {
        S::moving_threshold(&self.0, scores)
    }

    fn cites(&self) -> Vec<(String, &'static str)> {
        S::cites(&self.0)
    }

    fn run(&self, inputs: &Inputs, context: &StageContext<'_>) -> Result<Outputs, Trouble> {
        S::run(&self.0, inputs, context)
    }
}

impl StageKind {
    pub const fn of<S: Stage>() -> Self {
        Self {
            name: S::NAME,
            version: S::VERSION,
            doc: S::DOC,
            numerics: S::NUMERICS,
            threads: S::THREADS,
            seeded: S::SEEDED,
            gathers: S::GATHERS,
            ports_vary: S::PORTS_VARY,
            has_remarks: S::REMARKS,
            example: S::EXAMPLE,
            schema: || limits::generator().into_root_schema_for::<S::Params>(),
            parse: |given| {
                let params = S::Params::deserialize(given).map_err(|error| error.to_string())?;
                let mut parameters =
                    serde_json::to_value(params).map_err(|error| error.to_string())?;
                // A number beyond what its type holds becomes `null` on the way, which JSON has instead of infinity.
                let params = S::Params::deserialize(&parameters).map_err(|error| {
                    format!("a value cannot be kept as it is ({error}); is a number too large?")
                })?;
                S::leave_out_of_key(&mut parameters);
                Ok(Configured {
                    parameters,
                    stage: Arc::new(Parsed::<S>(params)),
                })
            },
        }
    }

    /// The kind's example; `None` if it does not fit, which a test excludes.
    pub fn example(&self) -> Option<Configured> {
        self.parse(serde_json::from_str(self.example).ok()?).ok()
    }

    /// JSON Schema of the parameters, without references.
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// Reads parameters: fills in defaults and brings them into the order of their type.
    ///
    /// # Errors
    /// A sentence about the first parameter that does not fit.
    pub fn parse(&self, parameters: Value) -> Result<Configured, String> {
        (self.parse)(parameters)
    }
}
/// Declares the modules of a crate's stages and `kinds`, which lists them, a line each.
///
/// ```ignore
/// contract::stage_kinds! {
///     pub mod ingest: Ingest;
///     pub mod normalize: Normalize;
/// }
/// ```
#[macro_export]
macro_rules! stage_kinds {
    ($($open:vis mod $module:ident: $type:ident;)+) => {
        $($open mod $module;)+

        /// The stage kinds of this crate.
        pub fn kinds() -> Vec<$crate::StageKind> {
            vec![$($crate::StageKind::of::<$module::$type>()),+]
        }
    };
}
