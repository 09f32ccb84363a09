//! Linear quantization: real numbers as small integers with a scale and a zero point.

use ingle_types::DType;

use super::elementwise::{add, apply, div, mul, sub};
use super::tensor::narrow;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::axis_at;
use crate::kernels::{Kernels, Quantizer};
use crate::literal::dtype_of;
use crate::value::{DeviceTensor, Host, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("QuantizeLinear", 10.., 2..=3, quantize_linear);
    r.add("DequantizeLinear", 10.., 2..=3, dequantize_linear);
    r.add("DynamicQuantizeLinear", 11.., 1..=1, |args| {
        args.makes_outputs(3);
        op(|ctx, mut inputs| dynamic(ctx, inputs.take(0)?))
    });
}

/// What has a scale of its own, where there are several: an entry of an axis, or
/// a block of so many entries.
#[derive(Clone, Copy)]
pub(super) struct Grain {
    axis: i64,
    /// 0 = no blocks.
    block: usize,
}

impl Grain {
    /// One scale for all elements.
    pub(super) const WHOLE: Self = Self { axis: 0, block: 0 };

    pub(super) fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        let block = usize::try_from(args.int("block_size", 0)?)
            .map_err(|_| BuildError::Value { name: "block_size", reason: "negative" })?;
        Ok(Self { axis: args.int("axis", 1)?, block })
    }

    /// Gives scales or zero points a shape that broadcasts to `dims`.
    fn spread<B: Kernels>(
        self,
        ctx: &Context<B>,
        scales: Value<B>,
        dims: &[usize],
    ) -> Result<Value<B>, OpError> {
        let given = scales.dims();
        let fail = || {
            let what = "the scales fit neither the whole, an axis nor blocks";
            OpError::Mismatch { what, left: dims.to_vec(), right: given.clone() }
        };
        if given.len() <= 1 && scales.elements() == 1 {
            return Ok(scales.reshape(vec![]));
        }
        // The only axis needs no name.
        let axis = if dims.len() == 1 { 0 } else { axis_at(self.axis, dims.len())? };
        let size = dims.get(axis).copied().unwrap_or_default();
        if self.block == 0 {
            if given != [size] {
                return Err(fail());
            }
            let mut shape = vec![1; dims.len() - axis];
            if let Some(first) = shape.first_mut() {
                *first = size;
            }
            return Ok(scales.reshape(shape));
        }
        let mut blocks = dims.to_vec();
        if let Some(slot) = blocks.get_mut(axis) {
            *slot = size.div_ceil(self.block);
        }
        if given != blocks {
            return Err(fail());
        }
        repeat_blocks(ctx, scales, (axis, self.block), size)
    }
}

/// Repeats each entry of an axis, up to `size` entries.
fn repeat_blocks<B: Kernels>(
    ctx: &Context<B>,
    scales: Value<B>,
    (axis, block): (usize, usize),
    size: usize,
) -> Result<Value<B>, OpError> {
    let dims = scales.dims();
    let block = block.min(size);
    let (front, back) = dims.split_at((axis + 1).min(dims.len()));
    let repeated = [front, &[block], back].concat();
    ctx.admit(DType::F32, &repeated)?;
    let spread = scales.reshape([front, &[1], back].concat()).expand(ctx, &repeated)?;
    let mut flat = dims.clone();
    if let Some(slot) = flat.get_mut(axis) {
        *slot *= block;
    }
    narrow(ctx, &spread.reshape(flat), axis, 0, size)
}

/// How numbers are quantized.
pub(super) struct Scheme<B: Kernels> {
    pub(super) scale: Value<B>,
    pub(super) zero: Option<Value<B>>,
}

impl<B: Kernels> Scheme<B> {
    /// A scale and, where it is not zero, a zero point of this dtype, which
    /// broadcast to `dims`.
    fn spread(
        self,
        ctx: &Context<B>,
        (dims, dtype): (&[usize], DType),
        grain: Grain,
    ) -> Result<(Value<B>, Option<Value<B>>), OpError> {
        let (scale, given) = (self.scale.dims(), self.scale.dtype());
        if !is_float(given) {
            return Err(OpError::DType { what: "the scale", expected: "a float tensor", given });
        }
        let zero = self.zero.map(|zero| {
            if zero.dtype() != dtype {
                return Err(OpError::DTypes { left: dtype, right: zero.dtype() });
            }
            if zero.elements() != self.scale.elements() {
                let what = "scale and zero point are not of one shape";
                return Err(OpError::Mismatch { what, left: scale, right: zero.dims() });
            }
            grain.spread(ctx, zero, dims)
        });
        let is_zero = |zero: &Value<B>| {
            let ints = zero.as_host().and_then(Host::as_ints);
            ints.is_some_and(|ints| ints.iter().all(|&v| v == 0))
        };
        let zero = zero.transpose()?.filter(|zero| !is_zero(zero));
        Ok((grain.spread(ctx, self.scale, dims)?, zero))
    }
}

fn element<B: Kernels>(
    args: &Args<'_, B>,
    name: &'static str,
) -> Result<Option<DType>, BuildError> {
    let element = args.int(name, 0)?;
    if element == 0 {
        return Ok(None);
    }
    let dtype = i32::try_from(element).ok().and_then(dtype_of);
    let reason = "this element type is not supported";
    dtype.map(Some).ok_or(BuildError::Value { name, reason })
}

pub(super) fn quantize_linear<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let grain = Grain::of(args)?;
    // It is about 8-bit floats alone.
    args.ignore("saturate");
    let (output, precision) = (element(args, "output_dtype")?, element(args, "precision")?);
    op(move |ctx, mut inputs| {
        let (x, scale, zero) = (inputs.take(0)?, inputs.take(1)?, inputs.take_opt(2));
        let dtype = match (zero.as_ref().map(Value::dtype), output) {
            (Some(left), Some(right)) if left != right => {
                return Err(OpError::DTypes { left, right });
            }
            (zero, output) => zero.or(output).unwrap_or(DType::U8),
        };
        let precision = precision.unwrap_or_else(|| scale.dtype());
        Ok(vec![quantize(ctx, x, Scheme { scale, zero }, grain, (dtype, precision))?])
    })
}

pub(super) fn dequantize_linear<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let grain = Grain::of(args)?;
    let output = element(args, "output_dtype")?;
    op(move |ctx, mut inputs| {
        let (x, scale, zero) = (inputs.take(0)?, inputs.take(1)?, inputs.take_opt(2));
        let dtype = output.unwrap_or_else(|| scale.dtype());
        Ok(vec![dequantize(ctx, x, Scheme { scale, zero }, grain, dtype)?])
    })
}

/// What an integer dtype that is quantized to can hold.
fn bounds(dtype: DType) -> Result<(f64, f64), OpError> {
    match dtype {
        DType::U8 => Ok((0.0, 255.0)),
        DType::I8 => Ok((-128.0, 127.0)),
        DType::U16 => Ok((0.0, 65_535.0)),
        DType::I16 => Ok((-32_768.0, 32_767.0)),
        given => {
            let expected = "an integer of 8 or 16 bits";
            Err(OpError::DType { what: "the quantized type", expected, given })
        }
    }
}

/// The integers nearest to `x / scale + zero`; `x` is divided in `precision`.
pub(super) fn quantize<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    scheme: Scheme<B>,
    grain: Grain,
    (dtype, precision): (DType, DType),
) -> Result<Value<B>, OpError> {
    bounds(dtype)?;
    let (dims, given) = (x.dims(), x.dtype());
    if !is_float(given) && given != DType::I32 {
        let expected = "a tensor of floats or int32";
        return Err(OpError::DType { what: "the operand", expected, given });
    }
    ctx.admit(DType::F32, &dims)?;
    let (scale, zero) = scheme.spread(ctx, (&dims, dtype), grain)?;
    if !is_float(precision) {
        let (what, expected) = ("the precision", "a float type");
        return Err(OpError::DType { what, expected, given: precision });
    }
    let (x, scale) = (x.cast(ctx, precision)?, scale.cast(ctx, precision)?);
    if precision == DType::F32
        && let Some(scale) = only(&scale)
        && scale != 0.0
    {
        return saturate(ctx, x, scale, zero, dtype);
    }
    let quotient = apply(ctx, &div(), x, scale)?;
    saturate(ctx, quotient.cast(ctx, DType::F32)?, 1.0, zero, dtype)
}

/// The number of a scalar that is on the host.
pub(super) fn only<B: Kernels>(value: &Value<B>) -> Option<f32> {
    match value.as_host().map(Host::to_f64).as_deref() {
        Some(&[value]) => Some(value as f32),
        _ => None,
    }
}

/// Divides float32s by a scale, rounds to even, adds the zero point, and cuts to
/// what `dtype` holds.
pub(super) fn saturate<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    scale: f32,
    zero: Option<Value<B>>,
    dtype: DType,
) -> Result<Value<B>, OpError> {
    let (low, high) = bounds(dtype)?;
    let dims = x.dims();
    if x.elements() == 0 {
        return Ok(Value::empty(dtype, dims));
    }
    let shift = zero.as_ref().map_or(Some(0.0), only);
    if let (Value::Device(_), Some(zero)) = (&x, shift) {
        let quantizer = Quantizer { scale, zero, low: low as f32, high: high as f32 };
        let stored = ctx.stored(dtype)?;
        let x = x.into_float(ctx, "it")?;
        return Ok(DeviceTensor::Int(B::to_quantized(x, quantizer, stored.into())).into());
    }
    let x = match scale {
        1.0 => x,
        scale => {
            let scale = Host::floats(DType::F32, vec![], vec![scale.into()]);
            apply(ctx, &div(), x, scale.into())?
        }
    };
    let rounded = match x.as_host() {
        Some(host) => {
            let values = host.to_f64().into_iter().map(f64::round_ties_even).collect();
            Host::floats(DType::F32, dims.clone(), values).into()
        }
        None => Value::from(DeviceTensor::Float(B::float_round(x.into_float(ctx, "it")?))),
    };
    let shifted = match zero {
        Some(zero) => apply(ctx, &add(), rounded, zero.cast(ctx, DType::F32)?)?,
        None => rounded,
    };
    if let Some(host) = shifted.as_host() {
        let values = host.to_f64().into_iter().map(|v| v.clamp(low, high) as i64).collect();
        return Ok(Host::ints(dtype, dims, values).into());
    }
    let stored = ctx.stored(dtype)?;
    let cut = B::float_clamp(shifted.into_float(ctx, "it")?, low.into(), high.into());
    Ok(DeviceTensor::Int(B::float_into_int(cut, stored.into())).into())
}

/// `(x - zero) * scale`, as `dtype`.
pub(super) fn dequantize<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    scheme: Scheme<B>,
    grain: Grain,
    dtype: DType,
) -> Result<Value<B>, OpError> {
    let (dims, given) = (x.dims(), x.dtype());
    if !matches!(given, DType::U8 | DType::I8 | DType::U16 | DType::I16 | DType::I32) {
        let expected = "an integer of 8, 16 or 32 bits";
        return Err(OpError::DType { what: "the operand", expected, given });
    }
    if !is_float(dtype) {
        let (what, expected) = ("the answer", "a float type");
        return Err(OpError::DType { what, expected, given: dtype });
    }
    ctx.admit(DType::F32, &dims)?;
    let (scale, zero) = scheme.spread(ctx, (&dims, given), grain)?;
    let shift = zero.as_ref().map_or(Some(0.0), only);
    if let (Value::Device(DeviceTensor::Int(x)), Some(scale), Some(zero)) =
        (&x, only(&scale), shift)
        && given != DType::I32
    {
        let real = B::from_quantized(x.clone(), zero, scale);
        return Value::from(DeviceTensor::Float(real)).cast(ctx, dtype);
    }
    let real = match zero {
        // A float has no room for every difference of 32 bits.
        Some(zero) if given == DType::I32 => apply(ctx, &sub(), x, zero)?.cast(ctx, DType::F32)?,
        Some(zero) => apply(ctx, &sub(), x.cast(ctx, DType::F32)?, zero.cast(ctx, DType::F32)?)?,
        None => x.cast(ctx, DType::F32)?,
    };
    apply(ctx, &mul(), real, scale.cast(ctx, DType::F32)?)?.cast(ctx, dtype)
}

/// Quantizes to 8 bits by the range of the tensor: integers, scale, zero point.
pub(super) fn dynamic<B: Kernels>(ctx: &Context<B>, x: Value<B>) -> Result<Vec<Value<B>>, OpError> {
    let given = x.dtype();
    if given != DType::F32 {
        return Err(OpError::DType { what: "the operand", expected: "float32", given });
    }
    let (low, high) = range(ctx, &x)?;
    let scale = if low == high { 1.0 } else { (high - low) / 255.0 };
    let zero = (-low / scale).clamp(0.0, 255.0).round_ties_even();
    let scale: Value<B> = Host::floats(DType::F32, vec![], vec![scale.into()]).into();
    let zero: Value<B> = Host::ints(DType::U8, vec![], vec![zero as i64]).into();
    let scheme = Scheme { scale: scale.clone(), zero: Some(zero.clone()) };
    let integers = quantize(ctx, x, scheme, Grain::WHOLE, (DType::U8, DType::F32))?;
    Ok(vec![integers, scale, zero])
}

/// The least and the greatest element, of which one is not above and one not
/// below zero.
fn range<B: Kernels>(ctx: &Context<B>, x: &Value<B>) -> Result<(f32, f32), OpError> {
    let (low, high) = match x.as_host() {
        Some(host) => {
            let values = host.to_f64();
            (values.iter().copied().fold(0.0, f64::min), values.into_iter().fold(0.0, f64::max))
        }
        None => {
            let x = x.clone().into_float(ctx, "the operand")?;
            let one = |t| Value::<B>::from(DeviceTensor::Float(t)).scalar(ctx, "a bound");
            (one(B::float_min(x.clone()))?, one(B::float_max(x))?)
        }
    };
    Ok(((low as f32).min(0.0), (high as f32).max(0.0)))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, tensor};

    #[test]
    fn quotients_are_rounded_to_even_and_cut() {
        let x = f32s(&[7], &[0., 1., 3., 5., -1., 1000., -1000.]);
        Case::of("QuantizeLinear", [x.clone(), f32s(&[], &[2.]), tensor(&[], &[128u8])])
            .gives([tensor(&[7], &[128u8, 128, 130, 130, 128, 255, 0])]);
        Case::of("QuantizeLinear", [x.clone(), f32s(&[], &[2.]), tensor(&[], &[0i8])])
            .gives([tensor(&[7], &[0i8, 0, 2, 2, 0, 127, -128])]);
        Case::of("QuantizeLinear", [x.clone(), f32s(&[1], &[0.01])])
            .gives([tensor(&[7], &[0u8, 100, 255, 255, 0, 255, 0])]);
        Case::of("QuantizeLinear", [x, f32s(&[], &[0.01])])
            .opset(21)
            .int("output_dtype", 5)
            .gives([tensor(&[7], &[0i16, 100, 300, 500, -100, 32_767, -32_768])]);
    }

    #[test]
    fn each_entry_of_an_axis_has_a_scale() {
        let x = f32s(&[2, 2], &[1., 2., 3., 4.]);
        let (scale, zero) = (f32s(&[2], &[1., 0.5]), tensor(&[2], &[0u8, 10]));
        let case = Case::of("QuantizeLinear", [x, scale.clone(), zero.clone()]).opset(13);
        case.gives([tensor(&[2, 2], &[1u8, 14, 3, 18])]);
        case.int("axis", -2).gives([tensor(&[2, 2], &[1u8, 2, 16, 18])]);
        Case::of("DequantizeLinear", [tensor(&[2, 2], &[1u8, 14, 3, 18]), scale, zero])
            .opset(13)
            .gives([f32s(&[2, 2], &[1., 2., 3., 4.])]);
    }

    #[test]
    fn each_block_has_a_scale() {
        let x = f32s(&[1, 5], &[1., 2., 3., 4., 5.]);
        let (scale, zero) = (f32s(&[1, 3], &[1., 0.5, 5.]), tensor(&[1, 3], &[0u8, 1, 2]));
        Case::of("QuantizeLinear", [x, scale.clone(), zero.clone()])
            .opset(21)
            .int("block_size", 2)
            .gives([tensor(&[1, 5], &[1u8, 2, 7, 9, 3])]);
        Case::of("DequantizeLinear", [tensor(&[1, 5], &[1u8, 2, 7, 9, 3]), scale, zero])
            .opset(21)
            .int("block_size", 2)
            .gives([f32s(&[1, 5], &[1., 2., 3., 4., 5.])]);
    }

    #[test]
    fn every_integer_is_dequantized() {
        let scale = f32s(&[], &[0.5]);
        Case::of("DequantizeLinear", [tensor(&[2], &[-128i8, 127]), scale.clone()])
            .gives([f32s(&[2], &[-64., 63.5])]);
        let (x, zero) = (tensor(&[2], &[0u16, 65_535]), tensor(&[], &[32_768u16]));
        Case::of("DequantizeLinear", [x, scale.clone(), zero])
            .opset(21)
            .gives([f32s(&[2], &[-16_384., 16_383.5])]);
        // 2^24 + 1 has no float, the difference has.
        let (x, zero) = (tensor(&[1], &[16_777_217i32]), tensor(&[], &[16_777_215i32]));
        Case::of("DequantizeLinear", [x, scale, zero]).gives([f32s(&[1], &[1.])]);
    }

    #[test]
    fn the_range_of_a_tensor_sets_its_scale() {
        Case::of("DynamicQuantizeLinear", [f32s(&[6], &[0., 2., -3., -2.5, 1.34, 0.5])]).gives([
            tensor(&[6], &[153u8, 255, 0, 26, 221, 179]),
            f32s(&[], &[5. / 255.]),
            tensor(&[], &[153u8]),
        ]);
        Case::of("DynamicQuantizeLinear", [f32s(&[2], &[0., 0.])]).gives([
            tensor(&[2], &[0u8, 0]),
            f32s(&[], &[1.]),
            tensor(&[], &[0u8]),
        ]);
    }

    #[test]
    fn more_elements_than_the_host_keeps() {
        let values: Vec<f32> = (0..2000).map(|v| v as f32 / 2.0).collect();
        let wanted: Vec<u8> =
            values.iter().map(|v| (v.round_ties_even() + 3.).min(255.) as u8).collect();
        let scale = f32s(&[], &[1.]);
        let x = f32s(&[2, 1000], &values);
        Case::of("QuantizeLinear", [x.clone(), scale.clone(), tensor(&[], &[3u8])])
            .gives([tensor(&[2, 1000], &wanted)]);
        let real: Vec<f32> = wanted.iter().map(|&v| f32::from(v) - 3.).collect();
        Case::of("DequantizeLinear", [tensor(&[2, 1000], &wanted), scale, tensor(&[], &[3u8])])
            .gives([f32s(&[2, 1000], &real)]);
        let wanted: Vec<u8> =
            values.iter().map(|v| (v / (999.5f32 / 255.)).round_ties_even() as u8).collect();
        Case::of("DynamicQuantizeLinear", [x]).gives([tensor(&[2, 1000], &wanted)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, zero) = (f32s(&[2, 2], &[1.; 4]), tensor(&[], &[0u8]));
        let quantize = |scale| Case::of("QuantizeLinear", [x.clone(), scale]);
        quantize(f32s(&[3], &[1.; 3])).fails("the scales fit neither");
        quantize(f32s(&[2, 2], &[1.; 4])).fails("the scales fit neither");
        quantize(tensor(&[], &[1i32])).opset(23).fails("the scale must be a float");
        quantize(f32s(&[2], &[1.; 2])).int("axis", 2).fails("axis 2 is outside");
        quantize(f32s(&[], &[1.])).int("output_dtype", 17).fails("element type");
        quantize(f32s(&[], &[1.])).int("output_dtype", 7).fails("8 or 16 bits");
        quantize(f32s(&[2, 1], &[1.; 2])).int("block_size", -1).fails("negative");
        quantize(f32s(&[2, 1], &[1.; 2])).int("block_size", 1).fails("the scales fit neither");
        let scale = f32s(&[2], &[1.; 2]);
        Case::of("QuantizeLinear", [x.clone(), scale.clone(), zero.clone()]).fails("one shape");
        Case::of("DequantizeLinear", [x, scale]).fails("the operand must be");
        Case::of("DequantizeLinear", [tensor(&[2], &[1i8; 2]), f32s(&[], &[1.]), zero])
            .fails("int8 and uint8");
    }
}
