//! Borders and sizes; the operation is held to its composition with the others.

use candle_core::{Device, Tensor};

use super::{Border, Conv1d, Sizes};
use crate::StateBuilder;
use contract::Random;

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
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
