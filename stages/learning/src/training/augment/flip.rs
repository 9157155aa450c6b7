//! Images are mirrored.

use super::{Augmentation, Pixels};
use contract::{Named, Random};

contract::parameters! {
    /// An image is mirrored with some probability, about each of its axes independently.
    pub struct Flip {
        /// The probability that left and right are exchanged.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub horizontal: f64 = 0.5,
        /// The probability that top and bottom are exchanged.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub vertical: f64 = 0.0,
    }
}

impl Named for Flip {
    const NAME: &'static str = "flip";
    const DOC: &'static str = "Mirrors images";
}

impl Augmentation for Flip {
    fn apply(&self, image: &mut Pixels<'_>, random: &mut Random) {
        let (width, plane) = (image.width, image.height * image.width);
        if random.uniform() < self.horizontal {
            for row in image.values.chunks_exact_mut(width) {
                row.reverse();
            }
        }
        if random.uniform() < self.vertical {
            for plane in image.values.chunks_exact_mut(plane) {
                // The whole in reverse has the rows in reverse order and each of them reversed: that is undone.
                plane.reverse();
                for row in plane.chunks_exact_mut(width) {
                    row.reverse();
                }
            }
        }
    }
}
