//! Products of matrices as operators ask for them.

use burn::tensor::{DType, TensorData};
use burn_flex::{FlexTensor, Layout};

use super::floats;
use super::gemm::Finish;
use super::matrix::{Matrix, View};
use super::panels::Panels;
use super::product::{Answer, product};
use crate::dims::broadcast_places;

/// The matrices of a tensor `[batch..., rows, columns]` of f32.
struct Matrices {
    tensor: FlexTensor,
    /// Where each begins, for each entry of the batch that it is broadcast to.
    starts: Vec<usize>,
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl Matrices {
    fn of(tensor: FlexTensor, batch: &[usize]) -> Option<Self> {
        let tensor = if is_readable(tensor.layout()) { tensor } else { tensor.to_contiguous() };
        let layout = tensor.layout();
        let dims = layout.shape().to_vec();
        let &[ref own @ .., rows, columns] = dims.as_slice() else { return None };
        let strides = layout.strides().iter().map(|&s| usize::try_from(s).ok());
        let strides = strides.collect::<Option<Vec<usize>>>()?;
        let &[ref outer @ .., row, column] = strides.as_slice() else { return None };
        let place = |mut index: usize| {
            let mut start = layout.start_offset();
            for (&size, &stride) in own.iter().zip(outer).rev() {
                start += index % size * stride;
                index /= size;
            }
            start
        };
        let starts = broadcast_places(own, batch).map(place).collect();
        // Of an axis with one entry, the stride may be anything.
        let (row, column) = (row.max(1), column.max(1));
        Some(Self { starts, rows, columns, row, column, tensor })
    }

    fn view(&self, index: usize) -> View<'_> {
        let Self { rows, columns, row, column, .. } = *self;
        let start = self.starts.get(index).copied().unwrap_or_default();
        let data = self.tensor.storage::<f32>().get(start..).unwrap_or_default();
        View { data, rows, columns, row, column }
    }
}

/// Whether matrices are read where they lie: not backwards, and each entry for
/// itself.
fn is_readable(layout: &Layout) -> bool {
    let axes = layout.shape().iter().zip(layout.strides()).rev().take(2);
    layout.has_positive_strides() && axes.into_iter().all(|(&size, &s)| size == 1 || s > 0)
}

/// The product of two tensors of f32 and of one rank, whose leading dimensions
/// broadcast to `batch`. No dimension is zero. `None` for other tensors.
pub(super) fn multiply(left: &FlexTensor, right: &FlexTensor) -> Option<FlexTensor> {
    if left.dtype() != DType::F32 || right.dtype() != DType::F32 {
        return None;
    }
    let outer = |t: &FlexTensor| {
        let dims = t.layout().shape().to_vec();
        dims.get(..dims.len().checked_sub(2)?).map(<[usize]>::to_vec)
    };
    let batch = crate::dims::broadcast(&outer(left)?, &outer(right)?).ok()?;
    let left = Matrices::of(left.clone(), &batch)?;
    let right = Matrices::of(right.clone(), &batch)?;
    let groups: Vec<Panels> = (0..left.starts.len()).map(|i| Panels::of(&left.view(i))).collect();
    let answer = Answer { images: 1, rows: left.rows, columns: right.columns };
    let values = product(&groups, answer, |i| right.view(i), Finish::default());
    let dims = [batch.as_slice(), &[left.rows, right.columns]].concat();
    Some(FlexTensor::from_data(TensorData::new(values, dims)))
}

/// `x`, `[rows, depth]`, times a packed matrix.
pub(super) fn multiply_packed(x: &FlexTensor, right: &Matrix, finish: Finish<'_>) -> FlexTensor {
    let x = x.to_contiguous();
    let rows = x.layout().num_elements() / right.depth;
    let (columns, depth) = (right.columns, right.depth);
    let left = View { data: floats(&x), rows, columns: depth, row: depth, column: 1 };
    let answer = Answer { images: 1, rows, columns };
    let values = product(&[Panels::of(&left)], answer, |_| right, finish);
    FlexTensor::from_data(TensorData::new(values, [rows, columns]))
}

/// A matrix `[depth, columns]` of f32 as an operator gives it, or the other way
/// round where it is turned.
pub(super) struct Raw {
    weight: FlexTensor,
    rows: usize,
    columns: usize,
    turned: bool,
}

impl Raw {
    /// `None` for other tensors.
    pub(super) fn of(weight: &FlexTensor, turned: bool) -> Option<Self> {
        let weight = weight.to_contiguous();
        let &[rows, columns] = weight.layout().shape().as_slice() else { return None };
        (weight.dtype() == DType::F32).then_some(Self { weight, rows, columns, turned })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(floats(&self.weight))
    }

    /// What else the packed matrix depends on.
    pub(super) fn form(&self) -> [usize; 3] {
        [usize::from(self.turned), self.rows, self.columns]
    }

    pub(super) fn pack(&self) -> Matrix {
        let Self { rows, columns, .. } = *self;
        let mut view = View { data: floats(&self.weight), rows, columns, row: columns, column: 1 };
        if self.turned {
            (view.rows, view.columns) = (view.columns, view.rows);
            (view.row, view.column) = (view.column, view.row);
        }
        Matrix::of(&view, view.rows, view.columns)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::FloatTensorOps;
    use burn_flex::Flex;

    use super::*;
    use crate::kernels::Activation;
    use crate::kernels::flex::conv::tests::tensor;

    fn check(given: &FlexTensor, wanted: &FlexTensor, depth: usize, context: &str) {
        let (given, wanted) = (given.to_contiguous(), wanted.to_contiguous());
        assert_eq!(given.layout().shape(), wanted.layout().shape(), "{context}");
        for (a, b) in floats(&given).iter().zip(floats(&wanted)) {
            assert!((a - b).abs() <= 1e-6 * (1 + depth) as f32, "{context}: {a} instead of {b}");
        }
    }

    #[test]
    fn products_of_all_sizes_are_burns() {
        for (rows, depth, columns) in
            [(1, 1, 1), (1, 7, 40), (2, 600, 17), (13, 5, 33), (25, 64, 48), (70, 130, 160)]
        {
            let context = format!("{rows} {depth} {columns}");
            let (l, r) = (tensor(&[3, rows, depth], 1), tensor(&[3, depth, columns], 2));
            let wanted = Flex::float_matmul(l.clone(), r.clone());
            check(&multiply(&l, &r).unwrap(), &wanted, depth, &context);
            let one = tensor(&[1, depth, columns], 3);
            let wanted = Flex::float_matmul(l.clone(), one.clone());
            check(&multiply(&l, &one).unwrap(), &wanted, depth, &context);
            // Turned operands are read where they lie.
            let turned = Flex::float_swap_dims(tensor(&[3, columns, depth], 4), 1, 2);
            let wanted = Flex::float_matmul(l.clone(), turned.clone());
            check(&multiply(&l, &turned).unwrap(), &wanted, depth, &context);
            // So are repeated ones, one way or the other.
            for (one, all) in
                [([1, depth, 1], [1, depth, columns]), ([1, 1, columns], [1, depth, columns])]
            {
                let repeated = Flex::float_expand(tensor(&one, 5), all.into());
                let wanted = Flex::float_matmul(l.clone(), repeated.clone());
                check(&multiply(&l, &repeated).unwrap(), &wanted, depth, &context);
            }
        }
    }

    #[test]
    fn packed_products_are_burns() {
        for (rows, depth, columns) in [(1, 700, 90), (3, 5, 16), (40, 33, 129), (128, 96, 200)] {
            let context = format!("{rows} {depth} {columns}");
            let (x, weight) = (tensor(&[rows, depth], 1), tensor(&[depth, columns], 2));
            let bias = tensor(&[columns], 3);
            let wanted = Flex::float_matmul(x.clone(), weight.clone());
            let row = Flex::float_reshape(bias.clone(), [1, columns].into());
            let wanted = Activation::Relu.apply::<Flex>(Flex::float_add(wanted, row));
            let finish = || Finish {
                column_bias: Some(floats(&bias)),
                activation: Some(Activation::Relu),
                ..Finish::default()
            };
            let packed = Raw::of(&weight, false).unwrap().pack();
            check(&multiply_packed(&x, &packed, finish()), &wanted, depth, &context);
            let turned = Flex::float_swap_dims(weight, 0, 1).to_contiguous();
            let packed = Raw::of(&turned, true).unwrap().pack();
            check(&multiply_packed(&x, &packed, finish()), &wanted, depth, &context);
        }
    }
}
