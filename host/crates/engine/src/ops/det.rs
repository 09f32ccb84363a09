//! Determinants. Matrices are small: the host computes.

use ingle_types::DType;

use super::{Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::dims::product;
use crate::kernels::Kernels;
use crate::value::{Host, Value, is_float};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Det", 11.., 1..=1, |_| op(|ctx, mut inputs| Ok(vec![det(ctx, &inputs.take(0)?)?])));
}

/// `x` is `[..., size, size]`.
fn det<B: Kernels>(ctx: &Context<B>, x: &Value<B>) -> Result<Value<B>, OpError> {
    let (dims, dtype) = (x.dims(), x.dtype());
    let (&[ref batch @ .., rows, columns], true) = (dims.as_slice(), is_float(dtype)) else {
        return Err(OpError::Dims { what: "matrices of floats", dims });
    };
    if rows != columns {
        return Err(OpError::Dims { what: "a square matrix", dims });
    }
    ctx.admit(DType::F64, &dims)?;
    ctx.admit(DType::F64, batch)?;
    let count = product(batch)?;
    let mut values = x.to_host(ctx)?.to_f64();
    let determinants = if rows == 0 {
        vec![1.0; count]
    } else {
        values.chunks_exact_mut(rows * rows).map(|matrix| eliminate(matrix, rows)).collect()
    };
    Ok(Host::floats(dtype, batch.to_vec(), determinants).into())
}

/// The determinant of a matrix, of which less and less is left.
fn eliminate(matrix: &mut [f64], size: usize) -> f64 {
    let mut determinant = 1.0;
    let mut rows: Vec<&mut [f64]> = matrix.chunks_exact_mut(size).collect();
    for column in 0..size {
        let at = |row: &[f64]| row.get(column).copied().unwrap_or_default();
        let steps = rows.iter().enumerate().skip(column);
        let pivot = steps.max_by(|a, b| at(a.1).abs().total_cmp(&at(b.1).abs()));
        let Some(pivot) = pivot.map(|(place, _)| place) else { return determinant };
        if pivot != column {
            rows.swap(pivot, column);
            determinant = -determinant;
        }
        let (done, below) = rows.split_at_mut(column + 1);
        let Some(first) = done.last() else { return determinant };
        let head = at(first);
        determinant *= head;
        if head == 0.0 {
            return determinant;
        }
        for row in below {
            let factor = at(row) / head;
            for (value, &above) in row.iter_mut().zip(first.iter()).skip(column) {
                *value -= factor * above;
            }
        }
    }
    determinant
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    #[test]
    fn rows_are_exchanged_where_it_must_be() {
        Case::of("Det", [counting(&[2, 2])]).gives([f32s(&[], &[-2.])]);
        let x = f32s(
            &[2, 3, 3],
            &[0., 2., 0., 1., 0., 0., 0., 0., 3., 1., 2., 3., 2., 4., 6., 0., 0., 1.],
        );
        Case::of("Det", [x]).gives([f32s(&[2], &[-6., 0.])]);
        Case::of("Det", [f32s(&[2, 0, 0], &[])]).gives([f32s(&[2], &[1., 1.])]);
        Case::of("Det", [f32s(&[0, 2, 2], &[])]).gives([f32s(&[0], &[])]);
        Case::of("Det", [counting(&[2, 3])]).fails("a square matrix");
        Case::of("Det", [counting(&[3])]).fails("matrices of floats");
        Case::of("Det", [i64s(&[1, 1], &[1])]).fails("matrices of floats");
    }
}
