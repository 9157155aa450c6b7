//! From YAML text to a typed description of a pipeline in which everything knows where it was written.
//! Stage kinds, ports and cycles are judged by the graph.

mod node;
mod scalar;
pub mod yaml;

pub use node::{Key, Kind, Node};
pub use scalar::{Resolved, Scalar};
