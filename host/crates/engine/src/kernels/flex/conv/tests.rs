use burn::tensor::ops::{ConvOptions, ModuleOps};
use burn::tensor::{Shape, TensorData};
use burn_flex::{Flex, FlexTensor};

use super::*;
use crate::kernels::{Activation, ConvTail, Kernels};

/// Numbers between -1 and 1 that follow no pattern.
pub(in super::super) fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(in super::super) fn tensor(dims: &[usize], seed: u32) -> FlexTensor {
    let count = dims.iter().product();
    FlexTensor::from_data(TensorData::new(noise(count, seed), Shape::from(dims.to_vec())))
}

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    groups: usize,
    /// Channels and maps of one group.
    depth: usize,
    maps: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
}

impl Case {
    fn axes(&self) -> Vec<ConvAxis> {
        let axis = |i: usize| {
            let reach = (self.kernel[i] - 1) * self.dilation[i] + 1;
            let out = (self.size[i] + 2 * self.padding[i] - reach) / self.stride[i] + 1;
            ConvAxis {
                size: self.size[i],
                kernel: self.kernel[i],
                stride: self.stride[i],
                dilation: self.dilation[i],
                begin: self.padding[i],
                out,
            }
        };
        vec![axis(0), axis(1)]
    }

    fn check(&self) {
        let (maps, channels) = (self.groups * self.maps, self.groups * self.depth);
        let x = tensor(&[self.batch, channels, self.size[0], self.size[1]], 1);
        let weight = tensor(&[maps, self.depth, self.kernel[0], self.kernel[1]], 2);
        let bias = tensor(&[maps], 3);
        let options = ConvOptions::new(self.stride, self.padding, self.dilation, self.groups);
        let wanted = Flex::conv2d(x.clone(), weight.clone(), Some(bias.clone()), options);
        let residual = tensor(wanted.layout().shape().as_slice(), 4);
        let axes = self.axes();
        let (weights, _) = Flex::pack_conv(&weight, self.groups).unwrap();
        let tail = ConvTail {
            bias: Some(bias),
            residual: Some(residual.clone()),
            activation: Some(Activation::LeakyRelu { alpha: 0.5 }),
        };
        let given = Flex::conv_packed(x, &weights, &axes, tail).unwrap();
        let sums = wanted.storage::<f32>().iter().zip(residual.storage::<f32>());
        let wanted: Vec<f32> =
            sums.map(|(a, b)| a + b).map(|x| if x < 0.0 { 0.5 * x } else { x }).collect();
        let allowed = 1e-6 * (1.0 + (self.depth * self.kernel[0] * self.kernel[1]) as f32);
        for (i, (a, b)) in given.storage::<f32>().iter().zip(&wanted).enumerate() {
            assert!((a - b).abs() <= allowed, "{self:?} [{i}]: {a} instead of {b}");
        }
        assert_eq!(given.layout().num_elements(), wanted.len(), "{self:?}");
    }
}

const PLAIN: Case = Case {
    batch: 1,
    groups: 1,
    depth: 3,
    maps: 5,
    size: [9, 11],
    kernel: [3, 3],
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
};

#[test]
fn windows_of_all_kinds_are_burns() {
    for (kernel, stride, padding, dilation) in [
        ([1, 1], [1, 1], [0, 0], [1, 1]),
        ([1, 1], [2, 2], [0, 0], [1, 1]),
        ([3, 3], [1, 1], [0, 0], [1, 1]),
        ([3, 3], [1, 1], [1, 1], [1, 1]),
        ([3, 3], [2, 2], [1, 1], [1, 1]),
        ([5, 3], [2, 1], [2, 0], [1, 2]),
        ([3, 5], [3, 3], [2, 4], [1, 1]),
        ([2, 4], [1, 2], [1, 3], [2, 3]),
        ([9, 11], [1, 1], [0, 0], [1, 1]),
        ([9, 11], [1, 1], [8, 10], [1, 1]),
        ([7, 7], [2, 2], [3, 3], [1, 1]),
        ([1, 7], [1, 1], [0, 3], [1, 1]),
    ] {
        for (depth, maps, groups) in [(3, 5, 1), (1, 1, 4), (1, 2, 3), (2, 3, 2), (16, 25, 1)] {
            for batch in [1, 3] {
                Case { batch, groups, depth, maps, kernel, stride, padding, dilation, ..PLAIN }
                    .check();
            }
        }
    }
}

#[test]
fn sizes_that_fill_no_tile_are_burns() {
    for size in [[1, 1], [1, 40], [7, 7], [13, 33], [32, 32]] {
        for maps in [1, 6, 12, 13, 31] {
            Case { size, maps, ..PLAIN }.check();
            Case { size, maps, batch: 5, kernel: [1, 1], padding: [0, 0], ..PLAIN }.check();
        }
    }
}

/// Deeper than a block, wider than one, and shared among threads.
#[test]
fn large_products_are_burns() {
    Case { depth: 150, maps: 40, ..PLAIN }.check();
    Case { depth: 64, maps: 64, size: [56, 56], ..PLAIN }.check();
    Case { depth: 700, maps: 96, size: [7, 7], batch: 4, kernel: [1, 1], padding: [0, 0], ..PLAIN }
        .check();
    Case { depth: 32, maps: 32, groups: 4, size: [28, 28], batch: 2, ..PLAIN }.check();
}

#[test]
fn what_is_not_a_number_spreads_to_its_windows_only() {
    let mut x = noise(25, 1);
    x[0] = f32::NAN;
    x[24] = f32::INFINITY;
    let x = FlexTensor::from_data(TensorData::new(x, [1, 1, 5, 5]));
    let (weights, _) = Flex::pack_conv(&tensor(&[1, 1, 3, 3], 2), 1).unwrap();
    let axes = Case { size: [5, 5], ..PLAIN }.axes();
    let tail = ConvTail { bias: None, residual: None, activation: Some(Activation::Relu) };
    let y = Flex::conv_packed(x, &weights, &axes, tail).unwrap();
    for (i, value) in y.storage::<f32>().iter().enumerate() {
        let (row, column) = (i / 5, i % 5);
        assert_eq!(value.is_nan(), row < 2 && column < 2, "{i}: {value}");
    }
}
