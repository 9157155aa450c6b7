//! Numerical building blocks of models: layers, seeded initial values, CPU kernels with backward, optimisers, statistics.
//! Which layers make up a model, and how it is trained, is said in the crate `learning`.

mod activation;
pub mod attention;
pub mod batch_norm;
pub mod chunks;
mod circular_conv;
#[doc(hidden)]
pub mod conformance;
pub mod conv;
pub mod conv1d;
pub mod conv2d;
pub mod cross_entropy;
#[cfg(feature = "cuda")]
pub mod cuda;
mod device;
pub mod dropout;
pub mod elementary;
pub mod elementwise;
pub mod encoder;
pub mod feed_forward;
mod gelu;
mod gradients;
pub mod graph_attention;
pub mod group_mean;
pub mod gru;
pub mod host;
pub mod initialise;
pub mod layer_norm;
pub mod linear;
pub mod loss;
pub mod moments;
pub mod noise;
pub mod operation;
pub mod optimizer;
pub mod packed;
mod philox;
pub mod pool;
pub mod positions;
mod precision;
pub mod product;
pub mod relu;
pub mod simd;
mod state;
pub mod statistics;
#[doc(hidden)]
pub mod testing;
pub mod time_varying;
mod unfolded;

pub use batch_norm::Mode;
pub use device::{Constants, Element, Machine, device, numeric_class, upload};
pub use gradients::{Gradients, Slopes};
pub use precision::Precision;
pub use simd::Level;
pub use state::{State, StateBuilder, to_data};
