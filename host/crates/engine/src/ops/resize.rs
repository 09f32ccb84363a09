//! Resize, one axis after the other: each place of the answer is a weighted sum
//! of a few places of the operand.

use ingle_types::DType;

use super::elementwise::{add, apply, mul};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axes_at, axis_at, to_sizes};
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Resize", 10..=10, 2..=2, |a| resize(a, Form::Scales));
    r.add("Resize", 11.., 1..=4, |a| resize(a, Form::Full));
    r.add("Upsample", 7..=8, 1..=1, |a| {
        let scales = a.floats("scales")?.ok_or(BuildError::Missing { name: "scales" })?;
        resize(a, Form::Fixed(scales.iter().map(|&s| s.into()).collect()))
    });
    r.add("Upsample", 9.., 2..=2, |a| resize(a, Form::Scales));
}

/// Where the sizes come from.
enum Form {
    /// The second input.
    Scales,
    /// The third and fourth input; the second is the region of interest.
    Full,
    Fixed(Vec<f64>),
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, PartialEq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixel,
    TfCropAndResize,
}

#[derive(Clone, Copy, PartialEq)]
enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

struct Resize {
    form: Form,
    mode: Mode,
    coordinates: Coordinates,
    nearest: Nearest,
    cubic: f64,
    exclude_outside: bool,
    extrapolation: f64,
    antialias: bool,
    axes: Option<Vec<i64>>,
    policy: Policy,
}

fn resize<B: Kernels>(args: &Args<'_, B>, form: Form) -> Built<B> {
    let mode = match &*args.string("mode", "nearest")? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" => Mode::Cubic,
        _ => return Err(BuildError::Value { name: "mode", reason: "not a known mode" }),
    };
    // Before opset 11 there was one kind of coordinates.
    let old = args.opset() < 11;
    let default = if old { "asymmetric" } else { "half_pixel" };
    let coordinates = match &*args.string("coordinate_transformation_mode", default)? {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_half_pixel_for_nn" => Coordinates::TfHalfPixel,
        "tf_crop_and_resize" => Coordinates::TfCropAndResize,
        _ => {
            let name = "coordinate_transformation_mode";
            return Err(BuildError::Value { name, reason: "not a known mode" });
        }
    };
    let default = if old { "floor" } else { "round_prefer_floor" };
    let nearest = match &*args.string("nearest_mode", default)? {
        "round_prefer_floor" => Nearest::RoundPreferFloor,
        "round_prefer_ceil" => Nearest::RoundPreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        _ => return Err(BuildError::Value { name: "nearest_mode", reason: "not a known mode" }),
    };
    let policy = match &*args.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => Policy::Stretch,
        "not_larger" => Policy::NotLarger,
        "not_smaller" => Policy::NotSmaller,
        _ => {
            let name = "keep_aspect_ratio_policy";
            return Err(BuildError::Value { name, reason: "not a known policy" });
        }
    };
    let resize = Resize {
        form,
        mode,
        coordinates,
        nearest,
        cubic: args.float("cubic_coeff_a", -0.75)?,
        exclude_outside: args.flag("exclude_outside", false)?,
        extrapolation: args.float("extrapolation_value", 0.0)?,
        antialias: args.flag("antialias", false)?,
        axes: args.ints("axes")?.map(<[i64]>::to_vec),
        policy,
    };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let (roi, scales, sizes) = match &resize.form {
            Form::Scales => (None, inputs.take_opt(1), None),
            Form::Full => (inputs.take_opt(1), inputs.take_opt(2), inputs.take_opt(3)),
            Form::Fixed(_) => (None, None, None),
        };
        let plan = resize.plan(ctx, &x.dims(), roi, scales, sizes)?;
        Ok(vec![resize.run(ctx, x, &plan)?])
    })
}

/// One axis to resize.
struct Axis {
    axis: usize,
    out: usize,
    scale: f64,
    roi: (f64, f64),
}

impl Resize {
    fn plan<B: Kernels>(
        &self,
        ctx: &Context<B>,
        dims: &[usize],
        roi: Option<Value<B>>,
        scales: Option<Value<B>>,
        sizes: Option<Value<B>>,
    ) -> Result<Vec<Axis>, OpError> {
        let axes: Vec<usize> = match &self.axes {
            Some(axes) => {
                axes_at(axes, dims.len())?;
                axes.iter().map(|&a| axis_at(a, dims.len())).collect::<Result<_, _>>()?
            }
            None => (0..dims.len()).collect(),
        };
        let given = |v: Option<Value<B>>| v.filter(|v| v.elements() > 0);
        let scales = match (&self.form, given(scales)) {
            (Form::Fixed(scales), _) => Some(scales.clone()),
            (_, Some(scales)) => Some(scales.to_host(ctx)?.to_f64()),
            _ => None,
        };
        let roi = match given(roi) {
            Some(roi) if self.coordinates == Coordinates::TfCropAndResize => {
                roi.to_host(ctx)?.to_f64()
            }
            _ => [vec![0.0; axes.len()], vec![1.0; axes.len()]].concat(),
        };
        let size = |i: usize| axes.get(i).and_then(|&a| dims.get(a)).copied().unwrap_or(1);
        let (scales, outs) = match (scales, given(sizes)) {
            (Some(scales), _) => {
                let outs = scales.iter().enumerate();
                // Floats of 32 bits, as the scales are: 0.7 of 10 is 7, not a little less.
                let outs = outs.map(|(i, &s)| (size(i) as f32 * s as f32).max(0.0) as usize);
                (scales.clone(), outs.collect())
            }
            (None, Some(sizes)) => {
                let sizes = to_sizes(&sizes.ints(ctx, "the sizes")?, "a size")?;
                let ratio =
                    |(i, &out): (usize, &usize)| f64::from(out as f32 / size(i).max(1) as f32);
                let scales: Vec<f64> = sizes.iter().enumerate().map(ratio).collect();
                self.keep_aspect(scales, sizes, size)
            }
            (None, None) => return Err(OpError::Missing { index: 2 }),
        };
        if scales.len() != axes.len() || roi.len() != 2 * axes.len() {
            let what = "one scale or size is needed for each axis";
            return Err(OpError::Mismatch { what, left: dims.to_vec(), right: outs });
        }
        let parts = axes.iter().zip(scales).zip(outs).enumerate();
        Ok(parts
            .map(|(i, ((&axis, scale), out))| {
                let end = roi.get(axes.len() + i).copied().unwrap_or(1.0);
                Axis { axis, out, scale, roi: (roi.get(i).copied().unwrap_or_default(), end) }
            })
            .collect())
    }

    fn keep_aspect(
        &self,
        scales: Vec<f64>,
        sizes: Vec<usize>,
        size: impl Fn(usize) -> usize,
    ) -> (Vec<f64>, Vec<usize>) {
        let pick = match self.policy {
            Policy::Stretch => return (scales, sizes),
            Policy::NotLarger => f64::min,
            Policy::NotSmaller => f64::max,
        };
        let scale = scales.into_iter().reduce(pick).unwrap_or(1.0);
        let outs = (0..sizes.len()).map(|i| (size(i) as f64 * scale).round() as usize).collect();
        (vec![scale; sizes.len()], outs)
    }

    fn run<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: Value<B>,
        plan: &[Axis],
    ) -> Result<Value<B>, OpError> {
        let dtype = x.dtype();
        let mut dims = x.dims();
        for axis in plan {
            if let Some(slot) = dims.get_mut(axis.axis) {
                *slot = axis.out;
            }
        }
        ctx.admit(dtype, &dims)?;
        if dims.contains(&0) {
            return Ok(Value::empty(dtype, dims));
        }
        if x.elements() == 0 {
            return Err(OpError::Dims { what: "the operand", dims: x.dims() });
        }
        let mut x = if is_float(dtype) || self.mode == Mode::Nearest {
            x
        } else {
            x.cast(ctx, DType::F32)?
        };
        // Shrinking first keeps what lies between small.
        let mut order: Vec<&Axis> = plan.iter().collect();
        order.sort_by(|a, b| a.scale.total_cmp(&b.scale));
        for axis in order {
            x = self.run_axis(ctx, x, axis)?;
        }
        x.cast(ctx, dtype)
    }

    fn run_axis<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: Value<B>,
        axis: &Axis,
    ) -> Result<Value<B>, OpError> {
        let size = x.dims().get(axis.axis).copied().unwrap_or(1);
        let crops = self.coordinates == Coordinates::TfCropAndResize;
        if axis.scale == 1.0 && axis.out == size && !crops {
            return Ok(x);
        }
        ctx.admit(DType::F64, &[axis.out])?;
        let taps = |place| self.taps(axis, size, place);
        let width = (0..axis.out).map(|place| taps(place).weights.len()).max().unwrap_or(1);
        let mut sum: Option<Value<B>> = None;
        let x = x.into_device(ctx)?;
        for tap in 0..width {
            let place = |out| taps(out).places.get(tap).copied().unwrap_or(0);
            let places = (0..axis.out).map(place).collect();
            let places: Value<B> = Host::ints(DType::I64, vec![axis.out], places).into();
            let picked = x.clone().select(axis.axis, places.into_int(ctx, "the places")?);
            let picked = Value::from(picked);
            if self.mode == Mode::Nearest && !crops {
                return Ok(picked);
            }
            let weight = |out| taps(out).weights.get(tap).copied().unwrap_or(0.0);
            let weights = (0..axis.out).map(weight).collect();
            let term = self.scaled(ctx, picked, axis, weights, mul())?;
            sum = Some(match sum {
                Some(sum) => apply(ctx, &add(), sum, term)?,
                None => term,
            });
        }
        let sum = sum.ok_or(OpError::Missing { index: 0 })?;
        let fill = |out| if taps(out).outside { self.extrapolation } else { 0.0 };
        if !crops || self.extrapolation == 0.0 {
            return Ok(sum);
        }
        self.scaled(ctx, sum, axis, (0..axis.out).map(fill).collect(), add())
    }

    /// Combines `x` with one number for each place along an axis.
    fn scaled<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: Value<B>,
        axis: &Axis,
        numbers: Vec<f64>,
        binary: super::elementwise::Binary<B>,
    ) -> Result<Value<B>, OpError> {
        let mut dims = vec![1; x.rank() - axis.axis];
        if let Some(first) = dims.first_mut() {
            *first = numbers.len();
        }
        let numbers: DeviceTensor<B> =
            DeviceTensor::upload_host(ctx, &Host::floats(x.dtype(), dims, numbers))?;
        apply(ctx, &binary, x, numbers.into())
    }

    /// Which places of the operand make place `out` of the answer.
    fn taps(&self, axis: &Axis, size: usize, out: usize) -> Taps {
        let at = f64::from(self.coordinate(axis, size, out as f32));
        let last = size as i64 - 1;
        if self.coordinates == Coordinates::TfCropAndResize && !(0.0..=last as f64).contains(&at) {
            return Taps { places: vec![0], weights: vec![0.0], outside: true };
        }
        if self.mode == Mode::Nearest {
            let place = match self.nearest {
                Nearest::RoundPreferFloor => (at - 0.5).ceil(),
                Nearest::RoundPreferCeil => (at + 0.5).floor(),
                Nearest::Floor => at.floor(),
                Nearest::Ceil => at.ceil(),
            };
            let place = (place as i64).clamp(0, last);
            return Taps { places: vec![place], weights: vec![1.0], outside: false };
        }
        // Antialiasing widens the window where it shrinks.
        let stretch = if self.antialias { axis.scale.min(1.0) } else { 1.0 };
        let reach = if self.mode == Mode::Linear { 1.0 } else { 2.0 } / stretch;
        let first = (at - reach).floor() as i64 + 1;
        let places = first..=(at + reach).ceil() as i64 - 1;
        let weight = |place: i64| {
            let distance = (place as f64 - at).abs() * stretch;
            match self.mode {
                _ if self.exclude_outside && !(0..=last).contains(&place) => 0.0,
                Mode::Cubic => cubic(distance, self.cubic),
                _ => (1.0 - distance).max(0.0),
            }
        };
        let mut weights: Vec<f64> = places.clone().map(weight).collect();
        let total: f64 = weights.iter().sum();
        if (self.exclude_outside || self.antialias) && total != 0.0 {
            weights.iter_mut().for_each(|w| *w /= total);
        }
        let places = places.map(|place| place.clamp(0, last)).collect();
        Taps { places, weights, outside: false }
    }

    /// The place of the operand that place `out` of the answer lies on. Others
    /// round to 32 bits too, which decides between two places that are as near.
    fn coordinate(&self, axis: &Axis, size: usize, out: f32) -> f32 {
        let (length, scale) = (size as f32, axis.scale as f32);
        let resized = length * scale;
        match self.coordinates {
            Coordinates::HalfPixel => (out + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = axis.out as f32 / resized;
                let center = length / 2.0;
                center * (1.0 - adjustment) + (out + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel if axis.out <= 1 => 0.0,
            Coordinates::PytorchHalfPixel => (out + 0.5) / scale - 0.5,
            Coordinates::AlignCorners if resized == 1.0 => 0.0,
            Coordinates::AlignCorners => out * (length - 1.0) / (resized - 1.0),
            Coordinates::Asymmetric => out / scale,
            Coordinates::TfHalfPixel => (out + 0.5) / scale,
            Coordinates::TfCropAndResize => {
                let (start, end) = (axis.roi.0 as f32, axis.roi.1 as f32);
                if resized > 1.0 {
                    let step = (end - start) * (length - 1.0) / (resized - 1.0);
                    start * (length - 1.0) + out * step
                } else {
                    0.5 * (start + end) * (length - 1.0)
                }
            }
        }
    }
}

/// Places of the operand and their weights.
struct Taps {
    places: Vec<i64>,
    weights: Vec<f64>,
    /// Beyond the operand, where a fixed value stands.
    outside: bool,
}

/// The weight of a place at distance `x`; `a` shapes the curve.
pub(super) fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    fn scaled(x: ingle_types::Tensor, scales: &[f32]) -> Case {
        Case::of("Resize", [x, f32s(&[scales.len()], scales)]).without(1)
    }

    #[test]
    fn nearest_repeats_and_skips() {
        let x = counting(&[1, 1, 1, 2]);
        scaled(x, &[1., 1., 2., 2.])
            .gives([f32s(&[1, 1, 2, 4], &[1., 1., 2., 2., 1., 1., 2., 2.])]);
        scaled(counting(&[4]), &[0.5]).gives([f32s(&[2], &[1., 3.])]);
        Case::of("Upsample", [counting(&[2]), f32s(&[1], &[2.])])
            .opset(9)
            .gives([f32s(&[4], &[1., 1., 2., 2.])]);
    }

    #[test]
    fn linear_and_cubic_interpolate() {
        let x = f32s(&[2], &[0., 4.]);
        scaled(x.clone(), &[2.]).string("mode", "linear").gives([f32s(&[4], &[0., 1., 3., 4.])]);
        scaled(x.clone(), &[2.])
            .string("mode", "linear")
            .string("coordinate_transformation_mode", "align_corners")
            .gives([f32s(&[4], &[0., 4. / 3., 8. / 3., 4.])]);
        scaled(x, &[2.])
            .string("mode", "cubic")
            .gives([f32s(&[4], &[-0.421_875, 0.906_25, 3.093_75, 4.421_875])]);
    }

    #[test]
    fn coordinates_are_floats_of_32_bits() {
        scaled(counting(&[10]), &[0.7]).gives([f32s(&[7], &[1., 3., 4., 5., 7., 8., 10.])]);
        // (1 + 0.5) / 0.6 - 0.5 is 2 exactly.
        scaled(counting(&[5]), &[0.6])
            .string("nearest_mode", "floor")
            .gives([f32s(&[3], &[1., 3., 4.])]);
    }

    #[test]
    fn one_place_is_the_first_for_pytorch() {
        scaled(f32s(&[3], &[4., 8., 0.]), &[0.4])
            .string("mode", "cubic")
            .string("coordinate_transformation_mode", "pytorch_half_pixel")
            .gives([f32s(&[1], &[4.])]);
    }

    #[test]
    fn sizes_and_axes_may_be_given() {
        let x = counting(&[2, 2]);
        Case::of("Resize", [x.clone(), i64s(&[1], &[4])])
            .opset(18)
            .without(1)
            .without(2)
            .ints("axes", &[1])
            .gives([f32s(&[2, 4], &[1., 1., 2., 2., 3., 3., 4., 4.])]);
        Case::of("Resize", [x.clone(), i64s(&[1], &[4])])
            .without(1)
            .without(2)
            .fails("one scale or size is needed for each axis");
        Case::of("Resize", [x]).fails("input 2 is missing");
    }
}
