//! Gaussian noise on a tensor, from a seeded stream per row, so that rows can be drawn in parallel.

use candle_core::{Result, Tensor};

use super::chunks::{chunks, fill_rows};
use super::elementary::ln;
use contract::Random;

/// `x`, `[…, width]`, plus independent draws from N(0, `deviation`²). Nothing is drawn where the deviation is 0.
///
/// # Errors
/// If a tensor operation fails.
pub fn add_noise(x: &Tensor, deviation: f64, random: &mut Random) -> Result<Tensor> {
    if deviation == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let seed = random.next_u64();
    let width = x.dims().last().copied().unwrap_or(1);
    let parts = chunks(x.elem_count() / width);
    let ([values], _) = fill_rows(&parts, [width], |rows, [target]| {
        for (row, target) in rows.zip(target.chunks_exact_mut(width)) {
            let mut random = Random::new(seed.wrapping_add(row as u64), "noise");
            for pair in target.chunks_mut(2) {
                let draws = normal_pair(random.next_u64());
                for (value, draw) in pair.iter_mut().zip(draws) {
                    *value = deviation as f32 * draw;
                }
            }
        }
    });
    x + crate::upload(values, x.shape(), x.device())?.to_dtype(x.dtype())?
}

/// Two independent standard normal values from 64 random bits (Box and Muller, 1958).
fn normal_pair(bits: u64) -> [f32; 2] {
    // 32 bits each; the first in (0, 1], whose logarithm is finite.
    let (radius, angle) = ((bits >> 32) as f64 + 1.0, (bits & 0xffff_ffff) as f64);
    let radius = (-2.0 * ln((radius / 4_294_967_296.0) as f32)).sqrt();
    let (sine, cosine) = libm::sincosf((angle * (std::f64::consts::TAU / 4_294_967_296.0)) as f32);
    [radius * cosine, radius * sine]
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn moments_are_those_asked_for_and_rows_differ() {
        let mut random = Random::new(3, "test");
        let zeros = Tensor::zeros((100, 2001), DType::F32, &Device::Cpu).unwrap();
        let noise = add_noise(&zeros, 0.5, &mut random).unwrap();
        let values: Vec<f64> = noise
            .flatten_all()
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap()
            .to_vec1()
            .unwrap();
        let moment =
            |power| values.iter().map(|value| value.powi(power)).sum::<f64>() / values.len() as f64;
        assert!(
            moment(1).abs() < 0.004 && (moment(2) - 0.25).abs() < 0.004,
            "{} {}",
            moment(1),
            moment(2)
        );
        assert!(
            (moment(4) - 3.0 / 16.0).abs() < 0.006 && moment(3).abs() < 0.006,
            "{} {}",
            moment(3),
            moment(4)
        );
        let neighbours: f64 =
            values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / values.len() as f64;
        assert!(neighbours.abs() < 0.002, "{neighbours}");
        assert_ne!(values[..2001], values[2001..4002]);
        let before = random.clone();
        assert_eq!(
            add_noise(&zeros, 0.0, &mut random)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap()[0][0],
            0.0
        );
        assert_eq!(random, before);
    }
}
