//! Named, typed inputs and outputs of a stage, and the artifacts on them.

use std::sync::Arc;

use indexmap::IndexMap;

use super::Trouble;
use crate::artifact::{Artifact, ArtifactKind, Typed};

/// What a port takes or gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortType {
    Only(ArtifactKind),
    Any,
}

impl PortType {
    pub fn accepts(self, kind: ArtifactKind) -> bool {
        match self {
            Self::Only(only) => only == kind,
            Self::Any => true,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Only(kind) => kind.name(),
            Self::Any => "any artifact",
        }
    }
}

/// One input or output of a stage kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub accepts: PortType,
    pub optional: bool,
    /// Takes any number of artifacts, each under a name of its own (`collect`, `command`).
    pub many: bool,
    /// Of an output: there is none unless the input of this name is connected.
    pub only_with: Option<&'static str>,
    pub doc: &'static str,
}

impl Port {
    pub fn new(name: impl Into<String>, kind: ArtifactKind, doc: &'static str) -> Self {
        Self {
            name: name.into(),
            accepts: PortType::Only(kind),
            optional: false,
            many: false,
            only_with: None,
            doc,
        }
    }

    pub fn any(name: impl Into<String>, doc: &'static str) -> Self {
        Self {
            name: name.into(),
            accepts: PortType::Any,
            optional: false,
            many: false,
            only_with: None,
            doc,
        }
    }

    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Makes an output depend on an input's being connected.
    #[must_use]
    pub fn only_with(mut self, input: &'static str) -> Self {
        self.only_with = Some(input);
        self
    }

    #[must_use]
    pub fn many(mut self) -> Self {
        self.many = true;
        self
    }
}

/// The artifacts that reached a stage, by port name; those of a `many` port in a defined order.
#[derive(Clone, Debug, Default)]
pub struct Inputs(IndexMap<String, Vec<(String, Artifact)>>);

impl Inputs {
    /// Adds an artifact to a port; `name` says which one it is on a `many` port.
    pub fn add(&mut self, port: &str, name: &str, artifact: Artifact) {
        self.0
            .entry(port.to_owned())
            .or_default()
            .push((name.to_owned(), artifact));
    }

    /// The artifact on a required port.
    pub fn get<T: Typed>(&self, port: &str) -> Result<Arc<T>, Trouble> {
        self.optional(port)?
            .ok_or_else(|| Trouble::new(format!("nothing is connected to input `{port}`")))
    }

    /// The artifact on an optional port.
    pub fn optional<T: Typed>(&self, port: &str) -> Result<Option<Arc<T>>, Trouble> {
        let Some((_, artifact)) = self.0.get(port).and_then(|artifacts| artifacts.first()) else {
            return Ok(None);
        };
        let wrong = || {
            Trouble::new(format!(
                "input `{port}` holds {}, not {}",
                artifact.kind(),
                T::KIND
            ))
        };
        Ok(Some(Arc::clone(
            T::from_artifact(artifact).ok_or_else(wrong)?,
        )))
    }

    /// Names of the connected ports, in the order in which they were connected.
    pub fn connected(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// All artifacts on a `many` port, with their names.
    pub fn all(&self, port: &str) -> &[(String, Artifact)] {
        self.0.get(port).map_or(&[], Vec::as_slice)
    }
}

/// The artifacts that a stage made, by port name.
#[derive(Clone, Debug, Default)]
pub struct Outputs(IndexMap<String, Artifact>);

impl Outputs {
    /// The outputs of a stage with a single output port.
    pub fn one(port: &str, artifact: impl Into<Artifact>) -> Self {
        Self::default().with(port, artifact)
    }

    #[must_use]
    pub fn with(mut self, port: &str, artifact: impl Into<Artifact>) -> Self {
        self.0.insert(port.to_owned(), artifact.into());
        self
    }

    pub fn into_map(self) -> IndexMap<String, Artifact> {
        self.0
    }
}
