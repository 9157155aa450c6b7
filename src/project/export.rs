//! Exports: a run in the format of others or as a bundle for another store, and the metrics of several runs in a table.

use std::path::{Path, PathBuf};

use super::{Error, Project};
use crate::cache::RunId;
use crate::data::{Options, Sources};
use crate::report::{
    CrateOptions, History, MetricsTable, Selection, Sent, TableFormat, Target, Tracking, bundle,
    send_mlflow, write_mlflow, write_prov, write_ro_crate,
};

/// What a run is written as.
pub enum ExportForm {
    /// A folder that describes the run, with these objects of it.
    RoCrate {
        selection: Selection,
        /// An SPDX identifier, an address or a sentence.
        licence: Option<String>,
    },
    ProvJson,
    /// A folder for the tracking of MLflow.
    MlflowFolder(Selection),
    /// Sent to the tracking server of MLflow at this address.
    MlflowServer(Selection, String),
    /// One file for `import`.
    Bundle {
        selection: Selection,
        /// Raw files are included up to this many bytes in all, small ones first.
        files_up_to: u64,
    },
}

/// A run, and what to write it as.
pub struct ExportOrder {
    pub run: String,
    pub form: ExportForm,
    /// Where to write it; by default under a name that follows from the run, in the current folder.
    pub output: Option<PathBuf>,
    /// Whether what is there is replaced.
    pub replace: bool,
}

/// What was written, and of which run.
pub struct Exported {
    pub run: RunId,
    pub made: Made,
}

/// What an export made.
pub enum Made {
    /// A file or a folder.
    At(PathBuf),
    /// A text, since the output is `-`.
    Text(String),
    Sent(Sent),
    Bundle(bundle::Written),
}

/// Which runs a table is of.
pub enum Runs {
    /// All of the store, oldest first.
    All,
    Named(Vec<String>),
}

/// A table of metrics.
pub struct ExportedTable {
    pub bytes: Vec<u8>,
    /// Rows besides the header.
    pub rows: usize,
    /// The runs in it, in their order.
    pub runs: Vec<RunId>,
}

impl Project {
    /// Writes a run in the format of others. `progress` gets the bytes of a bundle that are written, and all.
    ///
    /// # Errors
    /// If there is no such run, something of it is gone from the store, or the place is taken.
    pub fn export(
        &self,
        order: &ExportOrder,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Exported, Error> {
        let store = self.local_store();
        let record = store.find_run(&order.run)?;
        let sources = Sources::load(&Options::from_environment().data_dir)?;
        let history = History::of(&store, &record, &self.catalogue.kinds, &sources);
        self.warn_of_lost_actions(&history);
        let path = match &order.output {
            Some(path) => path.clone(),
            None => order.form.default_path(&record.run),
        };
        let target = || Target::new(&path, order.replace);
        let made = match &order.form {
            ExportForm::RoCrate { selection, licence } => {
                selection.check(&history)?;
                let options = CrateOptions {
                    licence: licence.clone(),
                };
                Made::At(write_ro_crate(&history, selection, &options, target()?)?)
            }
            ExportForm::ProvJson => {
                let document = write_prov(&history)?;
                let text = serde_json::to_string_pretty(&document).unwrap_or_default() + "\n";
                if path.as_os_str() == "-" {
                    Made::Text(text)
                } else {
                    Made::At(target()?.file(text.as_bytes())?)
                }
            }
            ExportForm::MlflowFolder(selection) => {
                selection.check(&history)?;
                Made::At(write_mlflow(&history, &path, selection, order.replace)?)
            }
            ExportForm::MlflowServer(selection, address) => {
                selection.check(&history)?;
                Made::Sent(self.send(&history, selection, address, order.replace)?)
            }
            ExportForm::Bundle {
                selection,
                files_up_to,
            } => {
                let target = target()?;
                Made::Bundle(bundle::write(
                    &history,
                    selection,
                    *files_up_to,
                    target,
                    progress,
                )?)
            }
        };
        let run = record.run.clone();
        Ok(Exported { run, made })
    }

    /// The metrics of runs in one table.
    ///
    /// # Errors
    /// If there is no such run, or the table cannot be made.
    pub fn export_metrics(&self, runs: &Runs, format: TableFormat) -> Result<ExportedTable, Error> {
        let store = self.local_store();
        let mut records = Vec::new();
        match runs {
            Runs::All => {
                records.extend(store.newest_first()?);
                records.reverse();
            }
            Runs::Named(names) => {
                for name in names {
                    records.push(store.find_run(name)?);
                }
            }
        }
        let table = MetricsTable::of(&records);
        if table.is_empty() {
            let warning = "no stage of these runs has metrics: the table has no rows";
            self.listener.warning(warning);
        }
        Ok(ExportedTable {
            bytes: table.to_bytes(format)?,
            rows: table.len(),
            runs: records.iter().map(|record| record.run.clone()).collect(),
        })
    }

    fn warn_of_lost_actions(&self, history: &History<'_>) {
        let mut lost = Vec::new();
        for stage in &history.stages {
            if stage.action.is_none() && !stage.record.digests.is_empty() {
                lost.push(stage.record.name.as_str());
            }
        }
        if !lost.is_empty() {
            self.listener.warning(&format!(
                "the store no longer has the actions of {}: their inputs and parameters are missing",
                lost.join(", ")
            ));
        }
    }

    fn send(
        &self,
        history: &History<'_>,
        selection: &Selection,
        address: &str,
        replace: bool,
    ) -> Result<Sent, Error> {
        let tracking = Tracking::new(address, |name| std::env::var(name).ok())?;
        let sent = send_mlflow(history, &tracking, selection, replace)?;
        if let Some(elsewhere) = &sent.artifacts_elsewhere {
            self.listener.warning(&format!(
                "the server keeps artifacts at {elsewhere} and takes none itself: record, pipeline and objects were not sent"
            ));
        }
        Ok(sent)
    }
}

impl ExportForm {
    /// Where a run goes by default.
    fn default_path(&self, run: &RunId) -> PathBuf {
        match self {
            Self::RoCrate { .. } => format!("{run}.crate"),
            Self::ProvJson => format!("{run}.prov.json"),
            Self::MlflowFolder(_) | Self::MlflowServer(..) => "mlruns".to_owned(),
            Self::Bundle { .. } => format!("{run}.bundle"),
        }
        .into()
    }
}

impl ExportedTable {
    /// Writes the table to a file, by default one that is named after the last of its runs. Gives its path.
    ///
    /// # Errors
    /// If the place is taken, or cannot be written.
    pub fn write(
        &self,
        output: Option<&Path>,
        format: TableFormat,
        replace: bool,
    ) -> Result<PathBuf, Error> {
        let path = match output {
            Some(path) => path.to_owned(),
            None => {
                let name = self.runs.last().map_or("metrics", |run| &run.0);
                PathBuf::from(format!("{name}.{}", format.name()))
            }
        };
        Ok(Target::new(&path, replace)?.file(&self.bytes)?)
    }
}
