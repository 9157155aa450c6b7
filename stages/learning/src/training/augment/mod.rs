//! Images altered at random while a model trains on them, one file a way of altering, and the table that names them.
//! Every image has a generator of its own, seeded in the order of the batch, so threads change nothing.

mod pixels;

contract::entries! {
    /// All augmentations.
    const ENTRIES: Entry<dyn Augmentation>;
    mod resize: Resize;
    mod flip: Flip;
    mod rotation: Rotation;
    mod brightness: Brightness;
    mod noise: Noise;
}

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use contract::{Choice, Fault, Random, Table, Trouble};
use pixels::Pixels;

/// The table of augmentations.
static AUGMENTATIONS: Table<dyn Augmentation> = Table::new("augmentation", &[ENTRIES]).or_bare();

contract::tabled!(dyn Augmentation in AUGMENTATIONS);

/// An augmentation with its parameters, as a pipeline names it.
pub type AugmentationChoice = Choice<dyn Augmentation>;

/// One way of altering an image.
pub trait Augmentation: Send + Sync {
    /// What the schema of the parameters cannot say.
    ///
    /// # Errors
    /// The parameter at fault.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Alters an image; values stay between 0 and 1.
    fn apply(&self, image: &mut Pixels<'_>, random: &mut Random);
}

/// Alters every image of `[batch, colours, height, width]` in the given ways, one after another. Without any, nothing
/// is drawn.
///
/// # Errors
/// If a tensor operation fails or the tensor does not hold images.
pub fn augment(
    ways: &[AugmentationChoice],
    images: &Tensor,
    random: &mut Random,
) -> Result<Tensor, Trouble> {
    if ways.is_empty() {
        return Ok(images.clone());
    }
    let (batch, colours, height, width) = images.dims4()?;
    let mut values: Vec<f32> = images.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    // Seeds are drawn here, one after another: which thread alters an image must not matter.
    let seeds: Vec<u64> = (0..batch).map(|_| random.next_u64()).collect();
    let images_of = values.par_chunks_exact_mut(colours * height * width);
    images_of.zip(seeds).for_each(|(values, seed)| {
        let mut random = Random::new(seed, "augment");
        let mut image = Pixels {
            height,
            width,
            values,
        };
        for way in ways {
            way.apply(&mut image, &mut random);
        }
    });
    let shape = (batch, colours, height, width);
    Ok(Tensor::from_vec(values, shape, images.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn choice(kind: &str, parameters: serde_json::Value) -> AugmentationChoice {
        Choice::new(kind, parameters).unwrap()
    }

    fn images(batch: usize) -> Tensor {
        let mut random = Random::new(1, "images");
        let values: Vec<f32> = (0..batch * 3 * 6 * 9)
            .map(|_| random.uniform() as f32)
            .collect();
        Tensor::from_vec(values, (batch, 3, 6, 9), &Device::Cpu).unwrap()
    }

    fn altered(ways: &[AugmentationChoice], images: &Tensor) -> Vec<f32> {
        augment(ways, images, &mut Random::new(2, "noise"))
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    #[test]
    fn every_way_alters_within_bounds_and_repeats_itself() {
        let images = images(5);
        let original: Vec<f32> = images.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(altered(&[], &images), original);
        for way in AUGMENTATIONS.examples() {
            assert_eq!(way.check(), Ok(()));
            let way = [way];
            let found = altered(&way, &images);
            assert!(found != original, "{way:?}");
            assert!(
                found.iter().all(|value| (0.0..=1.0).contains(value)),
                "{way:?}"
            );
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(3)
                .build()
                .unwrap();
            assert_eq!(pool.install(|| altered(&way, &images)), found);
        }
    }

    #[test]
    fn nothing_is_drawn_where_nothing_is_altered() {
        let mut random = Random::new(2, "noise");
        augment(&[], &images(2), &mut random).unwrap();
        assert_eq!(random, Random::new(2, "noise"));
    }

    #[test]
    fn neutral_parameters_change_nothing_and_certain_flips_turn_round() {
        let images = images(2);
        let original: Vec<f32> = images.flatten_all().unwrap().to_vec1().unwrap();
        let neutral = [
            choice("resize", json!({"from": 1.0, "to": 1.0})),
            choice("flip", json!({"horizontal": 0.0, "vertical": 0.0})),
            choice("rotation", json!({"degrees": 0.0})),
            choice("brightness", json!({"by": 0.0})),
            choice("noise", json!({"deviation": 0.0})),
        ];
        let found = altered(&neutral, &images);
        assert!(
            found
                .iter()
                .zip(&original)
                .all(|(found, original)| (found - original).abs() < 1e-6)
        );
        let flipped = altered(
            &[choice("flip", json!({"horizontal": 1.0, "vertical": 1.0}))],
            &images,
        );
        for (plane, original) in flipped.chunks_exact(54).zip(original.chunks_exact(54)) {
            assert!(plane.iter().rev().eq(original));
        }
        let mut half_turn = original.clone();
        for values in half_turn.chunks_exact_mut(3 * 54) {
            Pixels {
                height: 6,
                width: 9,
                values,
            }
            .warp(|row, column| (-row, -column));
        }
        assert!(
            half_turn
                .iter()
                .zip(&flipped)
                .all(|(one, other)| (one - other).abs() < 1e-4)
        );
    }

    #[test]
    fn unusable_parameters_are_named() {
        for (kind, parameters, parameter) in [
            ("resize", json!({"from": 0.0}), "from"),
            ("flip", json!({"vertical": 1.5}), "vertical"),
            ("rotation", json!({"degrees": -1.0}), "degrees"),
            ("brightness", json!({"by": 1.5}), "by"),
            ("noise", json!({"deviation": -0.1}), "deviation"),
        ] {
            let fault = AugmentationChoice::new(kind, parameters).unwrap_err();
            assert_eq!(fault.parameter, parameter);
        }
        let crossed = choice("resize", json!({"from": 2.0, "to": 1.0}));
        assert_eq!(crossed.check().unwrap_err().parameter, "to");
    }

    #[test]
    fn every_file_has_its_line_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/training/augment");
        contract::testing::assert_listed(&AUGMENTATIONS, folder);
    }
}
