//! The record that a key produced these outputs.

use std::collections::BTreeMap;
use std::str::FromStr;

use contract::Doubt;
use contract::artifact::{ArtifactKind, Digest};
use serde::{Deserialize, Serialize};

use super::Key;

/// An object of the store, and the objects that it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Logical digest of the artifact, or of a blob's bytes.
    pub digest: Digest,
    /// blake3 of the file: the object's name in the store.
    pub object: Digest,
    /// `None` for a blob.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "kind_name")]
    pub kind: Option<ArtifactKind>,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ObjectRecord>,
}

impl ObjectRecord {
    /// This object and, below it, its parts.
    pub fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        all.extend(self.parts.iter().flat_map(Self::all));
        all
    }
}

/// The artifact on one output port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub port: String,
    #[serde(flatten)]
    pub record: ObjectRecord,
}

/// What a key produced, and at which cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    pub key: Key,
    /// Name of the stage kind.
    pub kind: String,
    pub outputs: Vec<Output>,
    /// Wall-clock seconds of the execution.
    pub seconds: f64,
    /// Milliseconds since 1970 at which it ended.
    pub finished: u64,
    /// The version of runner that executed it.
    pub runner: String,
    /// What the stage found doubtful in what it read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
    /// What the stage found out about its data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// The manifest in text form; left out of the ledger.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest: String,
}

impl Action {
    /// Every object that the outputs need, parts included.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRecord> {
        self.outputs.iter().flat_map(|output| output.record.all())
    }

    /// Logical digests of the outputs by port.
    pub fn digests(&self) -> BTreeMap<String, Digest> {
        let outputs = self.outputs.iter();
        outputs
            .map(|output| (output.port.clone(), output.record.digest))
            .collect()
    }

    pub fn output(&self, port: &str) -> Option<&ObjectRecord> {
        let output = self.outputs.iter().find(|output| output.port == port)?;
        Some(&output.record)
    }

    /// Bytes of all outputs, parts included.
    pub fn bytes(&self) -> u64 {
        let mut sum = 0_u64;
        for record in self.objects() {
            // A forged action may say anything.
            sum = sum.saturating_add(record.bytes);
        }
        sum
    }
}

mod kind_name {
    //! Artifact kinds by name.

    use super::{ArtifactKind, Deserialize, FromStr};
    use serde::de::Error;
    use serde::{Deserializer, Serializer};
    use std::borrow::Cow;

    #[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
    pub fn serialize<S: Serializer>(
        kind: &Option<ArtifactKind>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.map_or("", ArtifactKind::name))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ArtifactKind>, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        ArtifactKind::from_str(&name)
            .map(Some)
            .map_err(D::Error::custom)
    }
}
