//! Images become lighter or darker.

use super::{Augmentation, Pixels};
use contract::{Named, Random};

contract::parameters! {
    /// All values of an image are multiplied by a factor between `1 - by` and `1 + by`.
    pub struct Brightness {
        #[schemars(range(min = 0.0, max = 1.0))]
        pub by: f64 = 0.2,
    }
}

impl Named for Brightness {
    const NAME: &'static str = "brightness";
    const DOC: &'static str = "Makes images lighter or darker";
}

impl Augmentation for Brightness {
    fn apply(&self, image: &mut Pixels<'_>, random: &mut Random) {
        let factor = random.range(1.0 - self.by, 1.0 + self.by) as f32;
        image.change(|value| value * factor);
    }
}
