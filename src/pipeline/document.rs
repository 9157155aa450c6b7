//! Files and the fragments they include become one document: parameters and stages by name, still as YAML trees.
//! Meaning is read from it elsewhere.

use std::collections::HashSet;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::file::{FRAGMENT, OUTLINE};
use super::limits::{DEEPEST_INCLUDE, LARGEST_FILE, MOST_FILES, read_text};
use super::node::Node;
use super::{is_name, name_hint, validate, yaml};
use crate::diagnostic::{Diagnostic, Diagnostics, FileId, SourceMap, Span, did_you_mean};

/// Named trees with the places of their names.
pub(super) type Named = IndexMap<Arc<str>, (Span, Node)>;

/// A pipeline file and what it includes.
#[derive(Debug)]
pub(super) struct Document {
    /// The pipeline file itself.
    pub root: Node,
    pub params: Named,
    pub stages: Named,
    /// Where files are included, and which.
    pub includes: Vec<(Span, FileId)>,
    /// Parameters that a fragment defines and the file that includes it defines anew, with the fragment.
    pub overridden: Vec<(Arc<str>, FileId)>,
    /// Parameters that were set from outside, with the place where they were.
    pub set: IndexMap<Arc<str>, Span>,
}

pub(super) struct Reader<'a> {
    pub sources: &'a mut SourceMap,
    pub diagnostics: &'a mut Diagnostics,
    /// Files that were read, so that one that is included by two others comes once.
    read: HashSet<PathBuf>,
    /// The file at hand and those that led to it: identity and the name for messages.
    chain: Vec<(PathBuf, String)>,
    includes: Vec<(Span, FileId)>,
    overridden: Vec<(Arc<str>, FileId)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a mut SourceMap, diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            sources,
            diagnostics,
            read: HashSet::new(),
            chain: Vec::new(),
            includes: Vec::new(),
            overridden: Vec::new(),
        }
    }

    /// Reads a pipeline file. Nothing comes back if it cannot be read at all.
    pub(super) fn pipeline(&mut self, path: &Path) -> Option<Document> {
        match self.read_text(path) {
            Ok(text) => self.pipeline_text(path, text),
            Err(reason) => {
                let diagnostic = Diagnostic::error(
                    "unreadable-file",
                    format!("cannot read `{}`: {reason}", path.display()),
                );
                let hint = similar_file(path).unwrap_or_else(|| {
                    "`runner new NAME` writes a pipeline to start from".to_owned()
                });
                self.diagnostics.push(diagnostic.hint(hint));
                None
            }
        }
    }

    /// Reads a pipeline from a text that stands for a file at `path`.
    pub(super) fn pipeline_text(&mut self, path: &Path, text: String) -> Option<Document> {
        let root = self.mapping(path, text, &OUTLINE, "the pipeline")?;
        let (params, stages) = self.contents(path, &root);
        let (includes, overridden) = (take(&mut self.includes), take(&mut self.overridden));
        Some(Document {
            root,
            params,
            stages,
            includes,
            overridden,
            set: IndexMap::new(),
        })
    }

    /// Parses a file and checks its top level.
    fn mapping(
        &mut self,
        path: &Path,
        text: String,
        schema: &Value,
        subject: &str,
    ) -> Option<Node> {
        let text: Arc<str> = text.into();
        let file = self
            .sources
            .add(path.display().to_string(), Arc::clone(&text));
        let (node, diagnostics) = yaml::parse(&text, file, 0);
        let failed = diagnostics.has_errors();
        self.diagnostics.extend(diagnostics);
        let nowhere = Span::new(file, 0, 0);
        let Some(node) = node else {
            if !failed {
                let diagnostic =
                    Diagnostic::error("missing-key", format!("`{}` is empty", path.display()))
                        .at(nowhere);
                self.diagnostics
                    .push(diagnostic.hint("begin with `pipeline: NAME` and `stages:`"));
            }
            return None;
        };
        self.diagnostics.extend(validate(&node, schema, subject));
        node.entries().is_some().then_some(node)
    }

    /// Parameters and stages of a file and of what it includes, included ones first.
    fn contents(&mut self, path: &Path, root: &Node) -> (Named, Named) {
        let identity = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.read.insert(identity.clone());
        self.chain.push((identity, path.display().to_string()));
        let own_params = self.named(root.get("params"), "a parameter");
        let own_stages = self.named(root.get("stages"), "a stage");
        let (mut params, mut stages) = (Named::new(), Named::new());
        for include in root.get("include").and_then(Node::items).unwrap_or(&[]) {
            let Some((other_params, other_stages)) = self.include(path, include) else {
                continue;
            };
            for (name, (span, node)) in other_params {
                let twice = params
                    .get(&name)
                    .filter(|_| !own_params.contains_key(&name))
                    .map(|(span, _)| *span);
                if let Some(first) = twice {
                    let message = format!("two fragments define the parameter `{name}`");
                    let diagnostic = Diagnostic::error("duplicate-key", message)
                        .at(span)
                        .also(first, "the other one");
                    let hint = "define it in the including file, which then decides";
                    self.diagnostics.push(diagnostic.hint(hint));
                }
                params.insert(name, (span, node));
            }
            self.add_stages(&mut stages, other_stages);
        }
        let anew = params
            .iter()
            .filter(|(name, _)| own_params.contains_key(*name));
        self.overridden
            .extend(anew.map(|(name, (span, _))| (Arc::clone(name), span.file)));
        params.extend(own_params);
        self.add_stages(&mut stages, own_stages);
        self.chain.pop();
        (params, stages)
    }

    /// What keeps another file from being read.
    fn too_many(&self) -> Option<String> {
        let bytes: u64 = self.sources.iter().map(|(_, text)| text.len() as u64).sum();
        match () {
            () if self.chain.len() >= DEEPEST_INCLUDE => Some(format!(
                "files include each other more than {DEEPEST_INCLUDE} deep"
            )),
            () if self.read.len() >= MOST_FILES => {
                Some(format!("a pipeline has at most {MOST_FILES} files"))
            }
            () if bytes > LARGEST_FILE => Some(format!(
                "the files of a pipeline have at most {} MiB together",
                LARGEST_FILE >> 20
            )),
            () => None,
        }
    }

    fn read_text(&self, path: &Path) -> Result<String, String> {
        self.sources
            .kept(path)
            .map_or_else(|| read_text(path), |text| Ok(text.to_string()))
    }

    fn add_stages(&mut self, stages: &mut Named, more: Named) {
        stages.reserve(more.len());
        for (name, (span, node)) in more {
            match stages.get(&name) {
                None => {
                    stages.insert(name, (span, node));
                }
                Some((first, _)) => {
                    let message = format!("the stage `{name}` is defined twice");
                    let diagnostic =
                        Diagnostic::error("duplicate-stage", message).at_with(span, "again here");
                    self.diagnostics.push(
                        diagnostic
                            .also(*first, "first here")
                            .hint("rename one of them"),
                    );
                }
            }
        }
    }

    /// The entries of a mapping whose keys are names.
    fn named(&mut self, node: Option<&Node>, what: &str) -> Named {
        let entries = node.and_then(Node::entries).unwrap_or(&[]);
        let mut named = Named::with_capacity(entries.len());
        for (key, value) in entries {
            if is_name(&key.text) {
                named.insert(Arc::clone(&key.text), (key.span, value.clone()));
            } else {
                let message = format!("`{}` cannot be the name of {what}", key.text);
                self.diagnostics.push(
                    Diagnostic::error("bad-name", message)
                        .at(key.span)
                        .hint(name_hint()),
                );
            }
        }
        named
    }

    /// Reads a fragment, unless it was read before.
    fn include(&mut self, from: &Path, node: &Node) -> Option<(Named, Named)> {
        let written = node.as_str()?;
        let path = from.parent().unwrap_or(Path::new("")).join(written);
        let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(start) = self.chain.iter().position(|(other, _)| *other == identity) {
            let mut names: Vec<String> = self.chain[start..]
                .iter()
                .map(|(_, name)| format!("`{name}`"))
                .collect();
            names.push(names[0].clone());
            let message = format!("files include each other: {}", names.join(" -> "));
            self.diagnostics.push(
                Diagnostic::error("include-cycle", message)
                    .at(node.span())
                    .hint("remove this one"),
            );
            return None;
        }
        if self.read.contains(&identity) {
            return None;
        }
        if let Some(message) = self.too_many() {
            self.diagnostics
                .push(Diagnostic::error("too-many", message).at(node.span()));
            return None;
        }
        match self.read_text(&path) {
            Ok(text) => {
                let root = self.mapping(&path, text, &FRAGMENT, "the fragment")?;
                self.includes.push((node.span(), root.span().file));
                Some(self.contents(&path, &root))
            }
            Err(reason) => {
                let message = format!("cannot read `{}`: {reason}", path.display());
                let diagnostic = Diagnostic::error("unreadable-file", message).at(node.span());
                let hint = similar_file(&path)
                    .unwrap_or_else(|| "paths are relative to the including file".to_owned());
                self.diagnostics.push(diagnostic.hint(hint));
                None
            }
        }
    }
}

/// A file in the same folder whose name is nearly that of a missing one.
fn similar_file(path: &Path) -> Option<String> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
        .collect();
    names.sort();
    let meant = did_you_mean(
        path.file_name()?.to_str()?,
        names.iter().map(String::as_str),
    )?;
    Some(format!(
        "did you mean `{}`?",
        path.with_file_name(meant).display()
    ))
}
