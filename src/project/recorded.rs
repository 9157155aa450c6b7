//! The graph of trials whose values are known: those of a task, or those that the record of a run names. The sweep file has
//! no say in it.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::{Choice, Error, Parts, Project, Session, select};
use crate::cache::{Ledger, Store, SweepMember, SweepPart};
use crate::diagnostic::SourceMap;
use crate::graph::{Graph, build, join};
use crate::pipeline::{LoadOptions, Spec, load};

/// A member whose pipeline was read with its values.
pub struct Read<'a> {
    pub member: &'a SweepMember,
    pub spec: Spec,
    pub graph: Graph,
}

impl Read<'_> {
    /// The member as a record holds it; `first` are the parameters of the record's first member.
    pub fn recorded(&self, first: &IndexMap<String, Value>) -> SweepMember {
        self.member
            .clone()
            .with_values(self.spec.values(), self.spec.seed, first)
    }
}

/// Reads the pipeline for a member, with what `sources` keeps of files. Problems are given as an error, all of them.
pub fn read_member<'a>(
    project: &Project,
    pipeline: &Path,
    profile: Option<&str>,
    member: &'a SweepMember,
    mut sources: SourceMap,
) -> Result<Read<'a>, Error> {
    let given_by = Some(format!("trial {}", member.label));
    let options = LoadOptions {
        profile: profile.map(str::to_owned),
        overrides: member.overrides.clone(),
        given_by,
    };
    let (spec, mut diagnostics) = load(pipeline, &options, &mut sources);
    if let Some(spec) = spec {
        let (graph, found) = build(&spec, &project.catalogue.kinds);
        diagnostics.extend(found);
        if !diagnostics.has_errors() {
            let graph = select(graph, &member.targets)?;
            return Ok(Read {
                member,
                spec,
                graph,
            });
        }
    }
    Err(Error::faulty(diagnostics, sources))
}

/// The graphs of members in one.
pub fn joined(read: &[Read<'_>]) -> Graph {
    join(
        read.iter()
            .map(|read| (read.member.label.as_str(), &read.graph)),
    )
    .graph
}

/// A session about what a run carried out of a sweep, with the pipeline that lies at `pipeline` now.
pub fn session_of(
    store: Store,
    project: &Project,
    part: &SweepPart,
    pipeline: &Path,
    choice: &Choice,
) -> Result<Session, Error> {
    let profile = choice.profile.as_deref();
    let mut members = Vec::with_capacity(part.members.len());
    for member in &part.members {
        let sources = SourceMap::default();
        members.push(read_member(project, pipeline, profile, member, sources)?);
    }
    let graph = joined(&members);
    let Some(first) = members.into_iter().next() else {
        return Err(Error::wrong("the run is of a sweep without trials"));
    };
    let parts = Parts {
        spec: first.spec,
        graph,
        store: Arc::new(store),
        ledger: Ledger::default(),
        file: pipeline.display().to_string(),
        sweep: Some(part.clone()),
    };
    let folder = pipeline.parent().unwrap_or(Path::new("."));
    Session::of(project, parts, choice, folder, choice.offline)
}
