//! The parts of an artifact that lie elsewhere, for tests.

use std::path::PathBuf;

use contract::artifact::{Artifact, ArtifactError, Digest, Part, Parts};

/// The parts of one artifact; any blob is found.
pub struct Here(Vec<Artifact>);

impl Here {
    pub fn of(artifact: &Artifact) -> Self {
        let series = |part: Part| match part {
            Part::Artifact(artifact) => Some(artifact),
            Part::Blob(..) => None,
        };
        Self(artifact.parts().into_iter().filter_map(series).collect())
    }
}

impl Parts for Here {
    fn artifact(&self, digest: &Digest) -> Result<Artifact, ArtifactError> {
        let found = self.0.iter().find(|part| part.digest() == *digest);
        found
            .cloned()
            .ok_or_else(|| ArtifactError::MissingPart(digest.to_string()))
    }

    fn blob(&self, digest: &Digest) -> Result<PathBuf, ArtifactError> {
        Ok(PathBuf::from(digest.to_string()))
    }
}
