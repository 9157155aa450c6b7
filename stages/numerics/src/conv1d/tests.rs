//! The operation against its composition and against slopes.

use super::*;
use candle_core::Device;
use contract::Random;

const CASES: [(usize, usize, Sizes); 5] = [
    (
        3,
        7,
        Sizes {
            input: 4,
            output: 5,
            kernel: 3,
            stride: 1,
        },
    ),
    (
        2,
        11,
        Sizes {
            input: 1,
            output: 8,
            kernel: 8,
            stride: 3,
        },
    ),
    (
        19,
        9,
        Sizes {
            input: 2,
            output: 33,
            kernel: 4,
            stride: 4,
        },
    ),
    (
        1,
        5,
        Sizes {
            input: 3,
            output: 2,
            kernel: 1,
            stride: 2,
        },
    ),
    (
        4,
        6,
        Sizes {
            input: 3,
            output: 3,
            kernel: 6,
            stride: 1,
        },
    ),
];

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(name: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    for (found, expected) in flat(found).iter().zip(flat(expected)) {
        assert!(
            (found - expected).abs() < 2e-5,
            "{name}: {found} {expected}"
        );
    }
}

#[test]
fn the_operation_agrees_with_its_composition_forward_and_backward() {
    let mut random = Random::new(5, "conv1d");
    for (batch, length, sizes) in CASES {
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let conv = Conv1d::new(&mut builder, "conv", sizes).unwrap();
        let mut draw = |count: usize| {
            (0..count)
                .map(|_| random.range(-1.0, 1.0) as f32)
                .collect::<Vec<_>>()
        };
        let x = Var::from_vec(
            draw(batch * length * sizes.input),
            (batch, length, sizes.input),
            &Device::Cpu,
        )
        .unwrap();
        let shape = (batch, sizes.positions(length), sizes.output);
        let upstream =
            Tensor::from_vec(draw(shape.0 * shape.1 * shape.2), shape, &Device::Cpu).unwrap();
        let differentiate = |y: &Tensor| {
            (y * &upstream)
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap()
        };
        let (by_op, composed) = (conv.forward(&x).unwrap(), conv.compose(&x).unwrap());
        close("output", &by_op, &composed);
        let (found, expected) = (differentiate(&by_op), differentiate(&composed));
        for (name, parameter) in [
            ("x", &x),
            ("weight", &conv.weight),
            ("bias", conv.bias.as_ref().unwrap()),
        ] {
            close(
                name,
                found.get(parameter).unwrap(),
                expected.get(parameter).unwrap(),
            );
        }
    }
}

#[test]
fn gradients_are_slopes() {
    let mut random = Random::new(6, "conv1d");
    for (batch, length, sizes) in CASES {
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let conv = Conv1d::new(&mut builder, "conv", sizes).unwrap();
        let mut draw = |shape: (usize, usize, usize)| {
            let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
                .map(|_| random.range(-1.0, 1.0) as f32)
                .collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let x = Var::from_tensor(&draw((batch, length, sizes.input))).unwrap();
        let upstream = draw((batch, sizes.positions(length), sizes.output));
        let value = || {
            (conv.forward(&x).unwrap() * &upstream)
                .unwrap()
                .sum_all()
                .unwrap()
        };
        let gradients = value().backward().unwrap();
        for parameter in [&x, &conv.weight, conv.bias.as_ref().unwrap()] {
            let gradient = gradients.get(parameter).unwrap();
            let square: f32 = gradient
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar()
                .unwrap();
            let original = parameter.copy().unwrap();
            let shifted = |by: f64| {
                parameter
                    .set(&(&original + (gradient * by).unwrap()).unwrap())
                    .unwrap();
                let value: f32 = value().to_scalar().unwrap();
                parameter.set(&original).unwrap();
                f64::from(value)
            };
            // The convolution is linear in each of them, so that the step may be long.
            let step = 0.1 / f64::from(square).sqrt();
            let slope = (shifted(step) - shifted(-step)) / (2.0 * step);
            assert!(
                (slope / f64::from(square) - 1.0).abs() < 1e-3,
                "{slope} {square}"
            );
        }
    }
}

#[test]
fn borders_and_impossible_sizes() {
    let x = Tensor::from_vec(vec![1_f32, 2.0, 3.0], (1, 3, 1), &Device::Cpu).unwrap();
    let values = |border: Border| flat(&border.apply(&x).unwrap());
    assert_eq!(values(Border::Zeros(1)), [0.0, 1.0, 2.0, 3.0, 0.0]);
    assert_eq!(
        values(Border::Circular(2)),
        [2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0]
    );
    assert_eq!(values(Border::RepeatLast(2)), [1.0, 2.0, 3.0, 3.0, 3.0]);
    assert_eq!(values(Border::RepeatLast(0)), [1.0, 2.0, 3.0]);
    assert!(Border::Circular(4).apply(&x).is_err());
    let mut random = Random::new(7, "conv1d");
    let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
    let conv = Conv1d::new(&mut builder, "conv", Sizes::new(1, 2, 4)).unwrap();
    assert!(conv.forward(&x).unwrap_err().to_string().contains("4 rows"));
    assert_eq!(
        Sizes {
            stride: 4,
            ..Sizes::new(1, 1, 8)
        }
        .positions(52),
        12
    );
    assert_eq!(Sizes::new(1, 1, 4).positions(3), 0);
}
