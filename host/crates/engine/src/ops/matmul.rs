//! Matrix products.

use ingle_types::DType;

use super::elementwise::{add, apply};
use super::generate::zeros;
use super::{Args, Built, Inputs, Op, Prepared, Registry};
use crate::OpError;
use crate::context::Context;
use crate::dims::{broadcast, with_rank};
use crate::kernels::{Activation, Kernels};
use crate::value::{DeviceTensor, Host, Value, is_float};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("MatMul", 1.., 2..=2, |_| Ok(Box::new(MatMul)));
    r.add("Gemm", 1.., 2..=3, gemm);
}

struct MatMul;

impl<B: Kernels> Op<B> for MatMul {
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        Ok(vec![matmul(ctx, inputs.take(0)?, inputs.take(1)?)?])
    }

    fn bind(&self, ctx: &Context<B>, constants: &[Option<Value<B>>]) -> Option<Prepared<B>> {
        let (weights, bytes) = Weights::of(ctx, constants.get(1)?.clone()?, false)?;
        let run = move |ctx: &Context<B>, mut inputs: Inputs<B>| {
            Ok(vec![weights.product(ctx, inputs.take(0)?, None, None)?])
        };
        Some(Prepared { op: Box::new(run), holds: vec![1], bytes })
    }
}

/// A constant matrix on the right.
pub(super) struct Weights<B: Kernels> {
    packed: B::MatrixWeights,
    dims: [usize; 2],
    dtype: DType,
}

impl<B: Kernels> Weights<B> {
    /// Also says how many bytes they take. What is wrong with them is said when
    /// they are used.
    pub(super) fn of(ctx: &Context<B>, value: Value<B>, turned: bool) -> Option<(Self, usize)> {
        let (dtype, dims) = (value.dtype(), value.dims());
        let &[depth, columns] = dims.as_slice() else { return None };
        let dims = if turned { [columns, depth] } else { [depth, columns] };
        if !is_float(dtype) || dims.contains(&0) {
            return None;
        }
        let weight = value.into_float(ctx, "an operand").ok()?;
        let (packed, bytes) = B::keep_matrix(&weight, turned)?;
        Some((Self { packed, dims, dtype }, bytes))
    }

    pub(super) fn columns(&self) -> usize {
        self.dims[1]
    }

    /// The product of the last axis of `x`; `bias` has one number for each column.
    pub(super) fn product(
        &self,
        ctx: &Context<B>,
        x: Value<B>,
        bias: Option<Value<B>>,
        activation: Option<Activation>,
    ) -> Result<Value<B>, OpError> {
        let (dims, dtype) = (x.dims(), x.dtype());
        let fail = |what| OpError::Mismatch { what, left: dims.clone(), right: self.dims.to_vec() };
        let [depth, columns] = self.dims;
        let Some((&inner, rows)) = dims.split_last() else {
            return Err(fail("a matrix product has no scalar operands"));
        };
        for dtype in std::iter::once(dtype).chain(bias.as_ref().map(Value::dtype)) {
            if dtype != self.dtype {
                return Err(OpError::DTypes { left: dtype, right: self.dtype });
            }
        }
        if inner != depth {
            return Err(fail("the inner dimensions differ"));
        }
        let out = [rows, &[columns]].concat();
        ctx.admit(dtype, &out)?;
        if out.contains(&0) {
            return Ok(Value::empty(dtype, out));
        }
        let x = x.reshape(vec![rows.iter().product(), depth]).into_float(ctx, "an operand")?;
        let bias = bias.map(|bias| bias.into_float(ctx, "the bias")).transpose()?;
        let product = B::matmul_packed(x, &self.packed, bias, activation);
        Ok(DeviceTensor::<B>::Float(product).reshape(&out).into())
    }
}

/// As NumPy's matmul: vectors are promoted, leading dimensions broadcast.
pub(super) fn matmul<B: Kernels>(
    ctx: &Context<B>,
    left: Value<B>,
    right: Value<B>,
) -> Result<Value<B>, OpError> {
    let (l, r) = (left.dims(), right.dims());
    let fail = |what| OpError::Mismatch { what, left: l.clone(), right: r.clone() };
    if l.is_empty() || r.is_empty() {
        return Err(fail("a matrix product has no scalar operands"));
    }
    let dtype = left.dtype();
    if right.dtype() != dtype {
        return Err(OpError::DTypes { left: dtype, right: right.dtype() });
    }
    let (row, column) = (l.len() == 1, r.len() == 1);
    let l_dims = if row { vec![1, left.elements()] } else { l.clone() };
    let r_dims = if column { vec![right.elements(), 1] } else { r.clone() };
    let (&[ref l_batch @ .., m, k], &[ref r_batch @ .., inner, n]) =
        (l_dims.as_slice(), r_dims.as_slice())
    else {
        return Err(fail("a matrix product has no scalar operands"));
    };
    if k != inner {
        return Err(fail("the inner dimensions differ"));
    }
    let batch = broadcast(l_batch, r_batch)?;
    let mut out = batch.clone();
    if !row {
        out.push(m);
    }
    if !column {
        out.push(n);
    }
    ctx.admit(dtype, &out)?;
    if out.contains(&0) {
        return Ok(Value::empty(dtype, out));
    }
    if k == 0 {
        return zeros(ctx, dtype, out);
    }
    let (left, right) = (left.reshape(l_dims.clone()), right.reshape(r_dims.clone()));
    // A matrix that serves a whole batch: one larger product instead of many.
    if r_batch.iter().all(|&d| d == 1) && l_batch.len() >= r_batch.len() {
        let rows = l_batch.iter().product::<usize>() * m;
        let product = product(ctx, left.reshape(vec![rows, k]), right.reshape(vec![k, n]))?;
        return Ok(product.reshape(&out).into());
    }
    let rank = batch.len() + 2;
    let product = product(ctx, left.with_rank(rank), right.with_rank(rank))?;
    Ok(product.reshape(&out).into())
}

/// Both have the same rank, at least two, and no dimension of size zero.
fn product<B: Kernels>(
    ctx: &Context<B>,
    left: Value<B>,
    right: Value<B>,
) -> Result<DeviceTensor<B>, OpError> {
    let given = left.dtype();
    match (left.into_device(ctx)?, right.into_device(ctx)?) {
        (DeviceTensor::Float(l), DeviceTensor::Float(r)) => {
            Ok(DeviceTensor::Float(B::matmul(l, r)))
        }
        (l @ DeviceTensor::Int(_), r @ DeviceTensor::Int(_)) => integers(ctx, l, r),
        _ => Err(OpError::DType { what: "an operand", expected: "a numeric tensor", given }),
    }
}

/// In 32 or 64 bits, which is what Burn multiplies; the answer wraps to its own type.
fn integers<B: Kernels>(
    ctx: &Context<B>,
    left: DeviceTensor<B>,
    right: DeviceTensor<B>,
) -> Result<DeviceTensor<B>, OpError> {
    let dtype = left.dtype();
    let wide = if dtype == DType::I32 { DType::I32 } else { DType::I64 };
    match (left.cast(ctx, wide)?, right.cast(ctx, wide)?) {
        (DeviceTensor::Int(l), DeviceTensor::Int(r)) => {
            DeviceTensor::Int(B::int_matmul(l, r)).cast(ctx, dtype)
        }
        (l, r) => Err(OpError::DTypes { left: l.dtype(), right: r.dtype() }),
    }
}

/// `alpha * A * B + beta * C`.
#[derive(Clone, Copy)]
struct Gemm {
    alpha: f64,
    beta: f64,
    turn_a: bool,
    turn_b: bool,
}

pub(super) fn gemm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.ignore("broadcast");
    let (alpha, beta) = (args.float("alpha", 1.0)?, args.float("beta", 1.0)?);
    let (turn_a, turn_b) = (args.flag("transA", false)?, args.flag("transB", false)?);
    Ok(Box::new(Gemm { alpha, beta, turn_a, turn_b }))
}

impl Gemm {
    /// Scales the product of both matrices and adds `c`.
    fn finish<B: Kernels>(
        &self,
        ctx: &Context<B>,
        product: Value<B>,
        c: Option<Value<B>>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let product = scaled(ctx, product, self.alpha)?;
        let Some(c) = c else { return Ok(vec![product]) };
        check_bias(&product.dims(), &c)?;
        let c = scaled(ctx, c, self.beta)?;
        Ok(vec![apply(ctx, &add(), product, c)?])
    }

    fn packed<B: Kernels>(
        &self,
        ctx: &Context<B>,
        weights: &Weights<B>,
        mut inputs: Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let a = matrix(ctx, inputs.take(0)?, self.turn_a)?;
        let [_, columns] = weights.dims;
        let of_columns = |c: &Value<B>| {
            c.elements() == columns && c.dims().last() == Some(&columns) && c.rank() <= 2
        };
        match inputs.take_opt(2) {
            Some(c) if self.alpha == 1.0 && of_columns(&c) => {
                let c = scaled(ctx, c.reshape(vec![columns]), self.beta)?;
                Ok(vec![weights.product(ctx, a, Some(c), None)?])
            }
            c => self.finish(ctx, weights.product(ctx, a, None, None)?, c),
        }
    }
}

impl<B: Kernels> Op<B> for Gemm {
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        let (a, b) = (inputs.take(0)?, inputs.take(1)?);
        let (a, b) = (matrix(ctx, a, self.turn_a)?, matrix(ctx, b, self.turn_b)?);
        self.finish(ctx, matmul(ctx, a, b)?, inputs.take_opt(2))
    }

    fn bind(&self, ctx: &Context<B>, constants: &[Option<Value<B>>]) -> Option<Prepared<B>> {
        let (weights, bytes) = Weights::of(ctx, constants.get(1)?.clone()?, self.turn_b)?;
        let gemm = *self;
        let run = move |ctx: &Context<B>, inputs: Inputs<B>| gemm.packed(ctx, &weights, inputs);
        Some(Prepared { op: Box::new(run), holds: vec![1], bytes })
    }
}

fn check_bias<B: Kernels>(product: &[usize], c: &Value<B>) -> Result<(), OpError> {
    if with_rank(&broadcast(product, &c.dims())?, 2) != product {
        let what = "the bias does not broadcast to the product";
        return Err(OpError::Mismatch { what, left: product.to_vec(), right: c.dims() });
    }
    Ok(())
}

fn matrix<B: Kernels>(ctx: &Context<B>, value: Value<B>, turn: bool) -> Result<Value<B>, OpError> {
    let dims = value.dims();
    if dims.len() != 2 {
        return Err(OpError::Dims { what: "an operand of Gemm", dims });
    }
    if turn { super::tensor::permute(ctx, value, &[1, 0]) } else { Ok(value) }
}

pub(super) fn scaled<B: Kernels>(
    ctx: &Context<B>,
    value: Value<B>,
    factor: f64,
) -> Result<Value<B>, OpError> {
    if factor == 1.0 {
        return Ok(value);
    }
    let factor = Host::floats(DType::F64, vec![], vec![factor]).cast(value.dtype());
    apply(ctx, &super::elementwise::mul(), value, factor.into())
}

#[cfg(test)]
mod tests {
    use ingle_types::{DType, Tensor, TensorMap};

    use crate::proto::attribute_proto::AttributeType;
    use crate::proto::{AttributeProto, GraphProto};
    use crate::testing::{
        Case, counting, f32s, full_text, i64s, info, initializer, load, model, node, tensor,
    };

    #[test]
    fn products_broadcast_over_batches() {
        let a = counting(&[2, 2]);
        let b = f32s(&[2, 2], &[0., 1., 1., 0.]);
        Case::of("MatMul", [a, b.clone()]).gives([f32s(&[2, 2], &[2., 1., 4., 3.])]);
        let batch = counting(&[2, 1, 2]);
        Case::of("MatMul", [batch.clone(), b]).gives([f32s(&[2, 1, 2], &[2., 1., 4., 3.])]);
        let many = f32s(&[2, 1, 2, 1], &[1., 1., 1., -1.]);
        Case::of("MatMul", [batch, many]).gives([f32s(&[2, 2, 1, 1], &[3., 7., -1., -1.])]);
    }

    #[test]
    fn vectors_are_promoted_and_dropped_again() {
        let (m, v) = (counting(&[2, 2]), f32s(&[2], &[1., 10.]));
        Case::of("MatMul", [m.clone(), v.clone()]).gives([f32s(&[2], &[21., 43.])]);
        Case::of("MatMul", [v.clone(), m]).gives([f32s(&[2], &[31., 42.])]);
        Case::of("MatMul", [v.clone(), v]).gives([f32s(&[], &[101.])]);
    }

    #[test]
    fn integers_multiply_exactly() {
        let a = tensor(&[1, 2], &[3i32, -4]);
        Case::of("MatMul", [a, tensor(&[2, 1], &[5i32, 6])]).gives([tensor(&[1, 1], &[-9i32])]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let a = counting(&[2, 3]);
        Case::of("MatMul", [a.clone(), counting(&[2, 2])]).fails("inner dimensions differ");
        Case::of("MatMul", [counting(&[2, 1, 1]), counting(&[3, 1, 1])]).fails("broadcast");
        Case::of("MatMul", [a.clone(), f32s(&[], &[1.])]).fails("no scalar");
        Case::of("MatMul", [a, i64s(&[3, 1], &[1; 3])]).fails("float and int64");
    }

    #[test]
    fn an_empty_inner_dimension_gives_zeros() {
        let (a, b) = (f32s(&[2, 0], &[]), f32s(&[0, 3], &[]));
        Case::of("MatMul", [a.clone(), b.clone()]).gives([f32s(&[2, 3], &[0.; 6])]);
        Case::of("Gemm", [a, b, f32s(&[3], &[1., 2., 3.])])
            .gives([f32s(&[2, 3], &[1., 2., 3., 1., 2., 3.])]);
        Case::of("Gemm", [f32s(&[0, 2], &[]), counting(&[2, 3])]).gives([f32s(&[0, 3], &[])]);
    }

    /// The weights are constant, the other operand is not.
    #[test]
    fn constant_weights_are_packed() {
        let run = |nodes, x: Tensor, weights: &[(&str, Tensor)]| {
            let graph = GraphProto {
                node: nodes,
                initializer: weights.iter().map(|(name, t)| initializer(name, t)).collect(),
                input: vec![info("x", DType::F32, None)],
                output: vec![info("y", DType::F32, None)],
                ..GraphProto::default()
            };
            let program = load(&model(graph, 17)).unwrap();
            let answer = program.run(&TensorMap::from([("x".to_owned(), x)]), &[]);
            answer.map(|answer| answer["y"].clone())
        };
        let product = || vec![node("MatMul", &["x", "w"], &["y"])];
        let weights = [("w", counting(&[2, 3]))];
        let y = run(product(), counting(&[2, 1, 2]), &weights).unwrap();
        assert_eq!(y, f32s(&[2, 1, 3], &[9., 12., 15., 19., 26., 33.]));
        assert_eq!(run(product(), counting(&[2]), &weights).unwrap(), f32s(&[3], &[9., 12., 15.]));
        assert_eq!(run(product(), f32s(&[0, 2], &[]), &weights).unwrap(), f32s(&[0, 3], &[]));
        let wrong = run(product(), counting(&[3]), &weights).unwrap_err();
        assert!(full_text(&wrong).contains("inner dimensions differ"), "{wrong}");
        let gemm = |bias: &[usize], beta: f32| {
            let mut gemm = node("Gemm", &["x", "w", "c"], &["y"]);
            for (name, value) in [("transB", 1.0), ("beta", beta)] {
                let kind = if name == "beta" { AttributeType::Float } else { AttributeType::Int };
                let (f, i, name) = (value, value as i64, name.to_owned());
                let (r#type, rest) = (kind.into(), AttributeProto::default());
                gemm.attribute.push(AttributeProto { name, f, i, r#type, ..rest });
            }
            let weights = [("w", counting(&[3, 2])), ("c", counting(bias))];
            run(vec![gemm], counting(&[2, 2]), &weights)
        };
        let plain = [5., 11., 17., 11., 25., 39.];
        let plus = |by: [f32; 6]| {
            let values: Vec<f32> = plain.iter().zip(by).map(|(a, b)| a + b).collect();
            f32s(&[2, 3], &values)
        };
        assert_eq!(gemm(&[3], 1.0).unwrap(), plus([1., 2., 3., 1., 2., 3.]));
        assert_eq!(gemm(&[1, 3], 2.0).unwrap(), plus([2., 4., 6., 2., 4., 6.]));
        assert_eq!(gemm(&[2, 1], 1.0).unwrap(), plus([1., 1., 1., 2., 2., 2.]));
        assert_eq!(gemm(&[2, 3], 1.0).unwrap(), plus([1., 2., 3., 4., 5., 6.]));
        assert_eq!(gemm(&[1], 1.0).unwrap(), plus([1.; 6]));
        let wrong = gemm(&[4], 1.0).unwrap_err();
        assert!(full_text(&wrong).contains("broadcast"), "{wrong}");
    }

    #[test]
    fn gemm_turns_scales_and_adds() {
        let (a, b) = (counting(&[2, 1]), counting(&[2, 3]));
        let c = f32s(&[1, 3], &[10., 20., 30.]);
        Case::of("Gemm", [a.clone(), b.clone(), c])
            .int("transA", 1)
            .float("alpha", 2.)
            .float("beta", 0.5)
            .gives([f32s(&[1, 3], &[23., 34., 45.])]);
        Case::of("Gemm", [b.clone(), a.clone()]).fails("inner dimensions differ");
        let wide = f32s(&[4, 1], &[0.; 4]);
        Case::of("Gemm", [a, b, wide]).int("transA", 1).fails("does not broadcast");
    }
}
