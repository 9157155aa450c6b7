//! The stages that draw plots and images.

contract::stage_kinds! {
    pub mod render_plots: RenderPlots;
    pub mod render_images: RenderImages;
}
