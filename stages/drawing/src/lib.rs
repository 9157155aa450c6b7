//! The stages that draw plots and images.

pub mod render_images;
pub mod render_plots;
