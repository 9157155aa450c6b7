//! Pictures are mirrored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Augmentation, Picture};
use contract::{Named, Random};

/// A picture is mirrored with some probability, about each of its axes independently.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Flip {
    /// The probability that left and right are exchanged.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub horizontal: f64,
    /// The probability that top and bottom are exchanged.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub vertical: f64,
}

impl Default for Flip {
    fn default() -> Self {
        Self {
            horizontal: 0.5,
            vertical: 0.0,
        }
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
