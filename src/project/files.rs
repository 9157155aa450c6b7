//! Raw files for stages: where they are, what they hold, and those that came in a bundle.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use contract::{Catalogue, FileRequest, Trouble};

use super::{Listener, Project};
use crate::cache::{Layout, Store};
use crate::data::{self, Memo, Options, Sources, Transfer};
use crate::diagnostic::AsTrouble;
use crate::engine::{CancelToken, FileFinder, FoundFile};
use crate::pipeline::Spec;
use crate::report::{self, Brought, BroughtFiles};

/// What was asked for: a path, and the endings of the files that count there.
type Listed = (PathBuf, Option<Vec<String>>);

/// Finds raw files for stages; remembers what it found for the length of the command.
pub struct Files {
    options: Options,
    memo: Memo,
    /// Read when the first listed file is asked for.
    sources: OnceLock<Result<Sources, Trouble>>,
    found: Mutex<BTreeMap<(Option<String>, PathBuf), FoundFile>>,
    /// Files that came in a bundle.
    brought: BroughtWhen,
    /// The same for folders that may be files, which many stages tend to share.
    listed: Mutex<BTreeMap<Listed, Vec<(String, FoundFile)>>>,
    cancel: CancelToken,
    listener: Arc<dyn Listener>,
}

impl Files {
    /// `folder` is the pipeline file's; `offline` forbids downloads.
    pub fn new(project: &Project, folder: &Path, offline: bool, layout: &Layout) -> Self {
        let options = Options {
            base: Some(folder.to_owned()),
            offline,
            ..Options::from_environment()
        };
        Self {
            options,
            memo: Memo::open(&layout.file_memo()),
            sources: OnceLock::new(),
            found: Mutex::default(),
            brought: BroughtWhen::Never,
            listed: Mutex::default(),
            cancel: project.cancel.clone(),
            listener: Arc::clone(&project.listener),
        }
    }

    /// With what came along in bundles.
    #[must_use]
    pub fn with_brought(mut self, brought: BroughtWhen) -> Self {
        self.brought = brought;
        self
    }

    /// What came along for a request, if this is the moment to look.
    fn brought(&self, request: &FileRequest, moment: Moment) -> Option<&Brought> {
        let name = (request.dataset.clone(), request.path.clone());
        match (&self.brought, moment) {
            (BroughtWhen::First(files), Moment::Before) => files.get(&name),
            (BroughtWhen::Missing(files), Moment::After) => {
                // What is here is what the user works on.
                let brought = if self.is_here(request) {
                    None
                } else {
                    files.get(&name)
                };
                if brought.is_some() {
                    self.listener.warning(&format!(
                        "{} is not here; its copy from an imported run is read",
                        request.path.display()
                    ));
                }
                brought
            }
            _ => None,
        }
    }

    /// Whether anything is where a request leads.
    fn is_here(&self, request: &FileRequest) -> bool {
        if !request.pattern().as_os_str().is_empty() {
            return data::locate_folder(request, &self.options, &self.memo).is_ok();
        }
        let places = data::places_of(&request.path, request.dataset.is_some(), &self.options);
        places.iter().any(|place| place.exists())
    }

    /// A file that came along, with the sum that it has now.
    fn found_brought(&self, path: &Path) -> Result<FoundFile, Trouble> {
        let located = data::Located::at(path.to_owned(), &self.memo);
        let found = found_file(located.map_err(|error| error.to_trouble())?);
        // Such files lie in the store under their digest.
        if path.file_name() == Some(OsStr::new(&found.digest.to_string())) {
            return Ok(found);
        }
        let trouble = Trouble::new(format!(
            "{} is no longer the file that came in the bundle",
            path.display()
        ));
        Err(trouble.hint("remove it and import the bundle again"))
    }

    fn sources(&self) -> Result<&Sources, Trouble> {
        let loaded = self.sources.get_or_init(|| {
            Sources::load(&self.options.data_dir).map_err(|error| error.to_trouble())
        });
        loaded.as_ref().map_err(Clone::clone)
    }
}

/// When files that came in a bundle count.
pub enum BroughtWhen {
    Never,
    /// Before all others: in an audit of what came from elsewhere, where paths mean nothing here.
    First(BroughtFiles),
    /// Where nothing is at the place that a stage names. Found out when that happens.
    Missing(LazyLock<BroughtFiles, Box<dyn FnOnce() -> BroughtFiles + Send>>),
}

impl BroughtWhen {
    /// What came with runs of a pipeline that were imported, the newest first.
    pub fn of_pipeline(catalogue: &Arc<Catalogue>, store: &Arc<Store>, spec: &Spec) -> Self {
        let (catalogue, store) = (Arc::clone(catalogue), Arc::clone(store));
        let name = spec.name.value.clone();
        let text = spec.files.first().map(|(_, text)| Arc::clone(text));
        Self::Missing(LazyLock::new(Box::new(move || {
            brought_with(&name, text.as_ref(), &catalogue, &store)
        })))
    }
}

/// The files that came with imported runs of the pipeline with this name or text.
fn brought_with(
    name: &str,
    text: Option<&Arc<str>>,
    catalogue: &Catalogue,
    store: &Store,
) -> BroughtFiles {
    let mut all = BroughtFiles::new();
    for run in store.runs().unwrap_or_default().iter().rev() {
        if !store.is_imported(run) {
            continue;
        }
        let Ok(record) = store.load_run(run) else {
            continue;
        };
        // The run of a sweep has the sweep's name, and the pipeline's text.
        let its_text = record.pipeline_files.first().map(|file| &file.text);
        let is_same_text = its_text.is_some() && its_text == text;
        if record.pipeline == name || is_same_text {
            for (name, files) in report::brought(store, &record, &catalogue.kinds) {
                all.entry(name).or_insert(files);
            }
        }
    }
    all
}

/// Before files are looked for, or after nothing was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

impl FileFinder for Files {
    fn find(&self, request: &FileRequest) -> Result<Option<FoundFile>, Trouble> {
        let name = (request.dataset.clone(), request.path.clone());
        if let Ok(all) = self.found.lock()
            && let Some(found) = all.get(&name)
        {
            return Ok(Some(found.clone()));
        }
        for moment in [Moment::Before, Moment::After] {
            if let Some(brought) = self.brought(request, moment)
                && let Some(path) = &brought.file
            {
                return self.found_brought(path).map(Some);
            }
        }
        let watch = |transfer: &Transfer<'_>| {
            self.listener.download(transfer);
            if self.cancel.is_cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let none = Sources::default();
        let sources = if request.dataset.is_some() {
            self.sources()?
        } else {
            &none
        };
        let located = data::locate(request, sources, &self.options, &self.memo, &watch);
        let found = located.map_err(|error| error.to_trouble())?.map(found_file);
        if let (Some(found), Ok(mut all)) = (&found, self.found.lock()) {
            all.insert(name, found.clone());
        }
        Ok(found)
    }

    fn look_up(&self, path: &Path) -> Option<PathBuf> {
        data::places_of(path, false, &self.options)
            .into_iter()
            .find(|place| place.exists())
    }

    fn means_many(&self, request: &FileRequest) -> bool {
        if !request.many {
            return false;
        }
        for moment in [Moment::Before, Moment::After] {
            if let Some(brought) = self.brought(request, moment) {
                return brought.file.is_none() && !brought.many.is_empty();
            }
        }
        data::means_many(request, &self.options)
    }

    fn list(&self, request: &FileRequest) -> Result<Vec<(String, FoundFile)>, Trouble> {
        for moment in [Moment::Before, Moment::After] {
            let mut listed = Vec::new();
            for (below, path) in self
                .brought(request, moment)
                .iter()
                .flat_map(|brought| &brought.many)
            {
                listed.push((below.clone(), self.found_brought(path)?));
            }
            if !listed.is_empty() {
                return Ok(listed);
            }
        }
        let name = (request.path.clone(), request.below.clone());
        if let (true, Ok(all)) = (request.many, self.listed.lock())
            && let Some(listed) = all.get(&name)
        {
            return Ok(listed.clone());
        }
        let located = data::locate_folder(request, &self.options, &self.memo);
        let mut listed = Vec::new();
        for (below, located) in located.map_err(|error| error.to_trouble())? {
            listed.push((below, found_file(located)));
        }
        if let (true, Ok(mut all)) = (request.many, self.listed.lock()) {
            all.insert(name, listed.clone());
        }
        Ok(listed)
    }
}

fn found_file(located: data::Located) -> FoundFile {
    FoundFile {
        path: located.path,
        digest: located.digest.blake3,
        identity: located.identity,
    }
}
