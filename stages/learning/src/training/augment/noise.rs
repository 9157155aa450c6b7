//! Noise is laid over images.

use super::{Augmentation, Pixels};
use contract::{Named, Random};

contract::parameters! {
    /// Normal noise of this standard deviation is added to every value.
    pub struct Noise {
        #[schemars(range(min = 0.0, max = 1.0))]
        pub deviation: f64 = 0.02,
    }
}

impl Named for Noise {
    const NAME: &'static str = "noise";
    const DOC: &'static str = "Adds normal noise to every value";
}

impl Augmentation for Noise {
    fn apply(&self, image: &mut Pixels<'_>, random: &mut Random) {
        image.change(|value| value + (self.deviation * random.normal()) as f32);
    }
}
