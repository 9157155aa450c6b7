//! Images grow or shrink about their centre.

use super::{Augmentation, Pixels};
use contract::{Fault, Named, Random};

contract::parameters! {
    /// An image is drawn larger or smaller by a factor between `from` and `to`, in a frame of the same size.
    pub struct Resize {
        #[schemars(range(min = 0.1, max = 10.0))]
        pub from: f64 = 0.9,
        #[schemars(range(min = 0.1, max = 10.0))]
        pub to: f64 = 1.1,
    }
}

impl Named for Resize {
    const NAME: &'static str = "resize";
    const DOC: &'static str = "Draws images larger or smaller about their centre";
}

impl Augmentation for Resize {
    fn check(&self) -> Result<(), Fault> {
        if self.from > self.to {
            return Err(Fault::new("to", "must not be smaller than `from`"));
        }
        Ok(())
    }

    fn apply(&self, image: &mut Pixels<'_>, random: &mut Random) {
        let factor = random.range(self.from, self.to);
        image.warp(|row, column| (row / factor, column / factor));
    }
}
