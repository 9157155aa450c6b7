//! Convolutions against sums written out in 64 bits, and their gradients against finite differences.

use candle_core::{DType, Device};

use super::correlation::Correlation;
use super::patches::Grid;
use super::*;
use crate::simd::Level;
use contract::Random;

fn draws(count: usize, random: &mut Random) -> Vec<f32> {
    (0..count).map(|_| random.range(-1.0, 1.0) as f32).collect()
}

/// Window, plane, channels on both sides, batch.
type Case = (Window2d, [usize; 2], [usize; 2], usize);

fn cases() -> Vec<Case> {
    let square = Window2d::square;
    vec![
        (square(1), [1, 1], [1, 1], 1),
        (square(1), [5, 3], [7, 34], 2),
        (square(1).stride(2), [5, 4], [3, 9], 3),
        (square(1), [2, 3], [1024, 5], 2),
        (square(3).padding(1), [5, 7], [4, 33], 3),
        (square(3).padding(1).stride(2), [8, 7], [17, 6], 2),
        (square(3).padding(1).stride(2), [1, 2], [256, 3], 2),
        (square(7).stride(2).padding(3), [23, 20], [3, 10], 2),
        (square(3).dilation(2).padding(2), [6, 9], [5, 4], 2),
        (square(2).stride(3), [9, 7], [2, 3], 2),
        (square(4).stride(2).padding(1), [10, 6], [3, 19], 2),
        (
            Window2d {
                kernel: [2, 5],
                stride: [1, 3],
                padding: [0, 2],
                dilation: [2, 1],
            },
            [7, 11],
            [3, 5],
            2,
        ),
        (square(3).padding(1), [4, 4], [256, 70], 1),
        (square(3).padding(1), [7, 7], [40, 512], 5),
    ]
}

/// Calls `visit` with the places of map value, image value and weight of every product.
fn products(case: &Case, map: [usize; 2], mut visit: impl FnMut(usize, usize, usize)) {
    let (window, size, [input, output], batch) = *case;
    let [kernel, stride, padding, dilation] = [
        window.kernel,
        window.stride,
        window.padding,
        window.dilation,
    ];
    for sample in 0..batch {
        for place in 0..map[0] * map[1] {
            for tap in 0..window.taps() {
                let row = place / map[1] * stride[0] + tap / kernel[1] * dilation[0];
                let column = place % map[1] * stride[1] + tap % kernel[1] * dilation[1];
                let (Some(row), Some(column)) =
                    (row.checked_sub(padding[0]), column.checked_sub(padding[1]))
                else {
                    continue;
                };
                if row >= size[0] || column >= size[1] {
                    continue;
                }
                for to in 0..output {
                    for from in 0..input {
                        visit(
                            (sample * map[0] * map[1] + place) * output + to,
                            ((sample * size[0] + row) * size[1] + column) * input + from,
                            (to * input + from) * window.taps() + tap,
                        );
                    }
                }
            }
        }
    }
}

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(1.0_f64, |most, value| most.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*found) - expected).abs() < 1e-5 * largest,
            "{what} {index}: {found} {expected}"
        );
    }
}

#[test]
fn every_product_agrees_with_plain_sums_at_every_level() {
    let mut random = Random::new(1, "conv2d");
    for case in cases() {
        let (window, size, [input, output], batch) = case;
        let map = window.places(size).unwrap();
        let (image, map) = (
            Grid {
                size,
                channels: input,
            },
            Grid {
                size: map,
                channels: output,
            },
        );
        let (images, maps) = (
            draws(batch * image.positions() * image.channels, &mut random),
            draws(batch * map.positions() * map.channels, &mut random),
        );
        let weight = draws(output * input * window.taps(), &mut random);
        let (bias, image_bias) = (draws(output, &mut random), draws(input, &mut random));
        let repeated = |bias: &[f32], count: usize| -> Vec<f64> {
            (0..count * bias.len())
                .map(|index| f64::from(bias[index % bias.len()]))
                .collect()
        };
        let mut forward = repeated(&bias, batch * map.positions());
        let mut adjoint = repeated(&image_bias, batch * image.positions());
        let mut gradient = vec![0.0; weight.len()];
        products(&case, map.size, |to, from, tap| {
            let [m, i, w] = [maps[to], images[from], weight[tap]].map(f64::from);
            forward[to] += i * w;
            adjoint[from] += m * w;
            gradient[tap] += m * i;
        });
        for level in Level::available() {
            let correlation = Correlation {
                level,
                window,
                batch,
                image,
                map,
            };
            assert_close(
                &correlation.forward(&images, &weight, Some(&bias)),
                &forward,
                &format!("{case:?} forward"),
            );
            let found = correlation.adjoint(&maps, &weight, Some(&image_bias));
            assert_close(&found, &adjoint, &format!("{case:?} adjoint"));
            let mut twice = found;
            correlation.add_adjoint(&maps, &weight, &mut twice);
            for (index, sum) in twice.iter().enumerate() {
                let expected = 2.0 * adjoint[index] - f64::from(image_bias[index % input]);
                assert!(
                    (f64::from(*sum) - expected).abs() < 1e-3,
                    "{case:?} {index}: {sum} {expected}"
                );
            }
            assert_close(
                &correlation.weight_gradient(&images, &maps),
                &gradient,
                &format!("{case:?} weight"),
            );
        }
    }
}

#[test]
fn misfits_are_refused() {
    let mut init = Random::new(3, "init");
    let mut builder = StateBuilder::new(&Device::Cpu, &mut init);
    let conv = Conv2d::new(&mut builder, "conv", (2, 3), Window2d::square(3)).unwrap();
    let small = Tensor::zeros((1, 2, 4, 2), DType::F32, &Device::Cpu).unwrap();
    assert!(
        conv.forward(&small)
            .unwrap_err()
            .to_string()
            .contains("does not fit")
    );
    let wrong = Tensor::zeros((1, 4, 4, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(
        conv.forward(&wrong)
            .unwrap_err()
            .to_string()
            .contains("2 channels")
    );
}
