//! The key of an action.

use std::fmt;

use contract::artifact::Digest;
use serde::{Deserialize, Serialize};

/// blake3 of a manifest: equal keys promise equal outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub Digest);

impl Key {
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
