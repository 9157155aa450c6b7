//! Pictures are mirrored.

use super::{Augmentation, Picture};
use contract::{Named, Random};

contract::parameters! {
    /// A picture is mirrored with some probability, about each of its axes independently.
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
    const DOC: &'static str = "Mirrors pictures";
}

impl Augmentation for Flip {
    fn apply(&self, picture: &mut Picture<'_>, random: &mut Random) {
        let (width, plane) = (picture.width, picture.height * picture.width);
        if random.uniform() < self.horizontal {
            picture
                .values
                .chunks_exact_mut(width)
                .for_each(<[f32]>::reverse);
        }
        if random.uniform() < self.vertical {
            for plane in picture.values.chunks_exact_mut(plane) {
                // Turning the whole round exchanges the rows and turns each round.
                plane.reverse();
                plane.chunks_exact_mut(width).for_each(<[f32]>::reverse);
            }
        }
    }
}
