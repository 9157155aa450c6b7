//! Estimation in closed form, in 64 bits: matrices, least squares, eigenvectors, clusters, isolation trees, state-space
//! models. What they mean as detectors and forecasters is said in the models of the crate `learning`.
//!
//! The linear algebra is our own: half a dozen textbook routines with a fixed order of summation, so that bits depend
//! neither on the number of threads nor on a library's version. Large products go through `gemm`.

pub mod autoregression;
pub mod cholesky;
pub mod clusters;
pub mod eigen;
pub mod expectation;
pub mod gram;
pub mod isolation;
pub mod local_level;
pub mod matrix;
pub mod smoother;
pub mod state_space;

pub use cholesky::Cholesky;
pub use eigen::Eigen;
pub use matrix::Matrix;
