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

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn weighted_sum(y: &Tensor, upstream: &Tensor) -> f64 {
    flat(y)
        .iter()
        .zip(flat(upstream))
        .map(|(y, upstream)| f64::from(y * upstream))
        .sum()
}

/// The gradients of `Σ upstream * layer(x)` against differences of that sum along random directions.
fn check_gradients(
    x: &Var,
    parameters: &[&Var],
    layer: impl Fn(&Tensor) -> Tensor,
    random: &mut Random,
) {
    let y = layer(x);
    let upstream =
        Tensor::from_vec(draws(y.elem_count(), random), y.shape(), &Device::Cpu).unwrap();
    let gradients = (&y * &upstream)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    for parameter in std::iter::once(&x).chain(parameters) {
        let gradient = flat(gradients.get(parameter.as_tensor()).unwrap());
        let direction = draws(gradient.len(), random);
        let slope: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(g, d)| f64::from(g * d))
            .sum();
        let original = parameter.copy().unwrap();
        let shifted = |by: f64| {
            let step = Tensor::from_slice(&direction, parameter.shape(), &Device::Cpu).unwrap();
            parameter
                .set(&(&original + (step * by).unwrap()).unwrap())
                .unwrap();
            let sum = weighted_sum(&layer(x), &upstream);
            parameter.set(&original).unwrap();
            sum
        };
        let found = (shifted(0.5) - shifted(-0.5)) / 1.0;
        let scale = slope.abs().max(1.0);
        assert!(
            (found - slope).abs() < 1e-3 * scale,
            "{:?}: {found} {slope}",
            parameter.dims()
        );
    }
}

#[test]
fn layers_have_the_gradients_of_their_sums_and_agree_with_candle() {
    let mut random = Random::new(2, "conv2d");
    for (window, [height, width], [input, output], batch) in cases() {
        let mut init = Random::new(3, "init");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut init);
        let conv = Conv2d::new(&mut builder, "conv", (input, output), window).unwrap();
        let bare = Conv2d {
            bias: None,
            ..conv.clone()
        };
        let back =
            ConvTranspose2d::new(&mut builder, "back", (output, input), window, [0, 0]).unwrap();
        let x = draws(batch * height * width * input, &mut random);
        let x = Var::from_vec(x, (batch, height, width, input), &Device::Cpu).unwrap();
        let bias = conv.bias.as_ref().unwrap();
        check_gradients(
            &x,
            &[&conv.weight, bias],
            |x| conv.forward(x).unwrap(),
            &mut random,
        );
        check_gradients(
            &x,
            &[&conv.weight],
            |x| bare.forward(x).unwrap(),
            &mut random,
        );
        let y = Var::from_tensor(&conv.forward(&x).unwrap()).unwrap();
        check_gradients(
            &y,
            &[&back.weight, &back.bias],
            |y| back.forward(y).unwrap(),
            &mut random,
        );
        if window.stride[0] == window.stride[1] && window.dilation[0] == window.dilation[1] {
            let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
            assert_close(
                &flat(&y),
                &wide(flat(&conv.compose(&x).unwrap())),
                "composed",
            );
            assert_close(
                &flat(&back.forward(&y).unwrap()),
                &wide(flat(&back.compose(&y).unwrap())),
                "back composed",
            );
        }
    }
}

#[test]
fn added_rows_make_any_size_of_plane() {
    let mut init = Random::new(3, "init");
    let mut builder = StateBuilder::new(&Device::Cpu, &mut init);
    let window = Window2d::square(3).stride(2).padding(1);
    let up = ConvTranspose2d::new(&mut builder, "up", (2, 3), window, [1, 1]).unwrap();
    let x = Var::from_vec(
        draws(2 * 12 * 2, &mut Random::new(4, "x")),
        (2, 3, 4, 2),
        &Device::Cpu,
    )
    .unwrap();
    let y = up.forward(&x).unwrap();
    assert_eq!(y.dims(), [2, 6, 8, 3]);
    assert_close(
        &flat(&y),
        &flat(&up.compose(&x).unwrap())
            .into_iter()
            .map(f64::from)
            .collect::<Vec<_>>(),
        "up",
    );
    check_gradients(
        &x,
        &[&up.weight, &up.bias],
        |x| up.forward(x).unwrap(),
        &mut Random::new(5, "up"),
    );
}

#[test]
fn nothing_is_computed_that_nobody_asks_for_and_misfits_are_refused() {
    let mut init = Random::new(3, "init");
    let mut builder = StateBuilder::new(&Device::Cpu, &mut init);
    let conv = Conv2d::new(&mut builder, "conv", (2, 3), Window2d::square(3)).unwrap();
    let x = Tensor::zeros((1, 4, 4, 2), DType::F32, &Device::Cpu).unwrap();
    let gradients = conv
        .forward(&x)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    assert!(gradients.get(&x).is_none() && gradients.get(conv.weight.as_tensor()).is_some());
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

#[test]
fn thread_counts_do_not_change_a_bit() {
    let mut random = Random::new(6, "conv2d");
    for (window, size, [input, output], batch) in cases() {
        let map = Grid {
            size: window.places(size).unwrap(),
            channels: output,
        };
        let image = Grid {
            size,
            channels: input,
        };
        let correlation = Correlation {
            level: Level::detect(),
            window,
            batch,
            image,
            map,
        };
        let (images, maps) = (
            draws(batch * image.positions() * image.channels, &mut random),
            draws(batch * map.positions() * map.channels, &mut random),
        );
        let weight = draws(output * input * window.taps(), &mut random);
        let bits = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let forward = correlation.forward(&images, &weight, None);
                (
                    forward,
                    correlation.adjoint(&maps, &weight, None),
                    correlation.weight_gradient(&images, &maps),
                )
            })
        };
        let one = bits(1);
        assert!([2, 3].into_iter().all(|threads| bits(threads) == one));
    }
}
