//! Images are turned about their centre.

use super::{Augmentation, Pixels};
use contract::{Named, Random};

contract::parameters! {
    /// An image is turned by an angle of at most so many degrees, to either side.
    pub struct Rotation {
        #[schemars(range(min = 0.0, max = 180.0))]
        pub degrees: f64 = 5.0,
    }
}

impl Named for Rotation {
    const NAME: &'static str = "rotation";
    const DOC: &'static str = "Turns images about their centre";
}

impl Augmentation for Rotation {
    fn apply(&self, image: &mut Pixels<'_>, random: &mut Random) {
        let angle = random.range(-self.degrees, self.degrees).to_radians();
        // The same bits on every system.
        let (sine, cosine) = (libm::sin(angle), libm::cos(angle));
        image.warp(|row, column| (cosine * row - sine * column, sine * row + cosine * column));
    }
}
