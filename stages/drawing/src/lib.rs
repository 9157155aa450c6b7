//! The stages that draw plots and images.

use std::sync::atomic::{AtomicU64, Ordering};

use contract::{Progress, StageContext, Trouble};
use rayon::prelude::*;

contract::stage_kinds! {
    pub mod render_plots: RenderPlots;
    pub mod render_images: RenderImages;
}

/// Draws items on the threads of the stage and reports progress; what was drawn is in the order of the items.
fn draw_all<T: Sync, D: Send>(
    items: &[T],
    context: &StageContext<'_>,
    draw: impl Fn(&T) -> Result<D, Trouble> + Sync,
) -> Result<Vec<D>, Trouble> {
    let done = AtomicU64::new(0);
    let draw_one = |item| {
        context.check_cancelled()?;
        let drawn = draw(item)?;
        context.host.progress(Progress {
            unit: "image".into(),
            done: done.fetch_add(1, Ordering::Relaxed) + 1,
            total: items.len() as u64,
            phase: String::new(),
            figures: vec![],
        });
        Ok(drawn)
    };
    items.par_iter().map(draw_one).collect()
}
