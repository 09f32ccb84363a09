//! Deformable convolution: each tap of the window is moved by an offset of its own.

use ingle_types::DType;

use super::conv::{check_dtypes, groups};
use super::elementwise::{add, apply};
use super::matmul::matmul;
use super::sampling::{Line, Taps, inside};
use super::spatial::{Placed, Window};
use super::tensor::permute;
use super::{Args, Built, Inputs, Registry, op};
use crate::context::Context;
use crate::dims::product;
use crate::kernels::Kernels;
use crate::value::Value;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("DeformConv", 19.., 3..=5, deform_conv);
}

fn deform_conv<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let window = Window::of(args)?;
    let groups = groups(args)?;
    let name = "offset_group";
    let offset_groups = usize::try_from(args.int(name, 1)?)
        .ok()
        .filter(|&groups| groups > 0)
        .ok_or(BuildError::Value { name, reason: "not positive" })?;
    op(move |ctx, mut inputs| {
        let (x, weight) = (inputs.take(0)?, inputs.take(1)?);
        let plan = Plan::of(&window, (groups, offset_groups), &x.dims(), &weight.dims())?;
        Ok(vec![plan.run(ctx, x, weight, &mut inputs)?])
    })
}

/// The sizes of one run.
struct Plan {
    placed: Placed,
    batch: usize,
    channels: usize,
    maps: usize,
    groups: usize,
    offset_groups: usize,
    /// Places of the operand, of the window and of the answer.
    places: usize,
    taps: usize,
    points: usize,
}

impl Plan {
    fn of(
        window: &Window,
        (groups, offset_groups): (usize, usize),
        dims: &[usize],
        kernel: &[usize],
    ) -> Result<Self, OpError> {
        let (&[batch, channels, ref sizes @ ..], &[maps, depth, ref kernel_sizes @ ..]) =
            (dims, kernel)
        else {
            let what = "the operand of a convolution";
            return Err(OpError::Dims { what, dims: dims.to_vec() });
        };
        let fits = depth.checked_mul(groups) == Some(channels)
            && maps.is_multiple_of(groups)
            && channels.is_multiple_of(offset_groups);
        if !fits {
            let what = "the channels do not fit the weights and groups";
            return Err(OpError::Mismatch { what, left: dims.to_vec(), right: kernel.to_vec() });
        }
        if !(1..=3).contains(&sizes.len()) {
            let what = "a deformable convolution over more than three axes";
            return Err(OpError::Unsupported { what });
        }
        let placed = window.place(sizes, kernel_sizes)?;
        let (places, taps) = (product(sizes)?, product(kernel_sizes)?);
        let points = product(&placed.out())?;
        let sizes = (batch, channels, maps);
        let (batch, channels, maps) = sizes;
        Ok(Self { placed, batch, channels, maps, groups, offset_groups, places, taps, points })
    }

    /// `inputs` still holds offsets, bias and mask.
    fn run<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: Value<B>,
        weight: Value<B>,
        inputs: &mut Inputs<B>,
    ) -> Result<Value<B>, OpError> {
        let dtype = x.dtype();
        let offsets = inputs.take(2)?;
        let (bias, mask) = (inputs.take_opt(3), inputs.take_opt(4));
        let others = [Some(&x), Some(&offsets), bias.as_ref(), mask.as_ref()];
        check_dtypes(weight.dtype(), others.into_iter().flatten())?;
        if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [self.maps]) {
            return Err(OpError::Dims { what: "the bias", dims: bias.dims() });
        }
        let out = [&[self.batch, self.maps][..], &self.placed.out()].concat();
        ctx.admit(DType::F64, &out)?;
        if out.contains(&0) {
            return Ok(Value::empty(dtype, out));
        }
        if self.channels == 0 {
            return Err(OpError::Dims { what: "the operand of a convolution", dims: x.dims() });
        }
        let axes = self.placed.axes.len();
        let offsets = self.per_tap(ctx, &offsets, axes)?;
        let mask = mask.map(|mask| self.per_tap(ctx, &mask, 1)).transpose()?;
        let taps = self.sample(ctx, &offsets, mask.as_deref())?;
        let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let depth = self.channels / self.offset_groups;
        let rows = self.batch * self.offset_groups;
        let x = x.cast(ctx, wide)?.reshape(vec![rows, depth, self.places]);
        let columns = self.columns(ctx, taps.sum(ctx, x)?)?;
        let maps = self.maps / self.groups;
        let weight = weight.cast(ctx, wide)?;
        let inner = self.channels / self.groups * self.taps;
        let weight = weight.reshape(vec![self.groups, maps, inner]);
        let answer = matmul(ctx, weight, columns)?.reshape(out);
        let answer = match bias {
            Some(bias) => {
                let mut shape = vec![1; axes + 1];
                if let Some(first) = shape.first_mut() {
                    *first = self.maps;
                }
                apply(ctx, &add(), answer, bias.cast(ctx, wide)?.reshape(shape))?
            }
            None => answer,
        };
        answer.cast(ctx, dtype)
    }

    /// The numbers of a tensor that has `each` for every tap, offset group and place.
    fn per_tap<B: Kernels>(
        &self,
        ctx: &Context<B>,
        value: &Value<B>,
        each: usize,
    ) -> Result<Vec<f64>, OpError> {
        let count = product(&[self.offset_groups, self.taps, each])?;
        let wanted = [&[self.batch, count][..], &self.placed.out()].concat();
        if value.dims() != wanted {
            let what = "the offsets or the mask do not fit the window";
            return Err(OpError::Mismatch { what, left: value.dims(), right: wanted });
        }
        ctx.admit(DType::F64, &wanted)?;
        Ok(value.to_host(ctx)?.to_f64())
    }

    /// Where every tap of every place reads: `[batch, offset group, tap, place]`.
    fn sample<B: Kernels>(
        &self,
        ctx: &Context<B>,
        offsets: &[f64],
        mask: Option<&[f64]>,
    ) -> Result<Taps, OpError> {
        let axes = &self.placed.axes;
        let rows = product(&[self.batch, self.offset_groups])?;
        let count = product(&[rows, self.taps, self.points])?;
        let all = product(&[rows, self.places])?;
        let mut taps = Taps::new(ctx, count, 1 << axes.len(), all)?;
        let sizes: Vec<usize> = axes.iter().map(|axis| axis.size).collect();
        let mut lines = Vec::with_capacity(axes.len());
        for i in 0..count {
            let (point, tap) = (i % self.points, i / self.points % self.taps);
            let (mut point_rest, mut tap_rest) = (point, tap);
            let group = i / self.points;
            lines.clear();
            for (a, axis) in axes.iter().enumerate().rev() {
                let place =
                    point_rest % axis.out * axis.stride + tap_rest % axis.kernel * axis.dilation;
                point_rest /= axis.out;
                tap_rest /= axis.kernel;
                let offset = offsets.get((group * axes.len() + a) * self.points + point);
                let at = place as f64 - axis.begin as f64 + offset.copied().unwrap_or_default();
                lines.push(Line::linear(at, |i| inside(i, axis.size)));
            }
            lines.reverse();
            let scale = mask.map_or(1.0, |mask| mask.get(i).copied().unwrap_or_default());
            taps.push(group / self.taps * self.places, &sizes, &lines, scale);
        }
        Ok(taps)
    }

    /// From `[batch * offset group * tap * place, channels of a group]` to
    /// `[batch, group, channels of the group * taps, places]`.
    fn columns<B: Kernels>(&self, ctx: &Context<B>, sums: Value<B>) -> Result<Value<B>, OpError> {
        let depth = self.channels / self.offset_groups;
        let (taps, points) = (self.taps, self.points);
        let sums = sums.reshape(vec![self.batch, self.offset_groups, taps, points, depth]);
        let inner = self.channels / self.groups * taps;
        let columns = permute(ctx, sums, &[0, 1, 4, 2, 3])?;
        Ok(columns.reshape(vec![self.batch, self.groups, inner, points]))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s};
    use ingle_types::Tensor;

    fn case(offsets: Tensor) -> Case {
        let w = f32s(&[1, 1, 1, 2], &[1., 10.]);
        Case::of("DeformConv", [counting(&[1, 1, 2, 3]), w, offsets]).opset(19)
    }

    #[test]
    fn taps_are_moved_by_offsets() {
        // For each of two taps down and along, for each of four places.
        case(f32s(&[1, 4, 2, 2], &[0.; 16])).gives([f32s(&[1, 1, 2, 2], &[21., 32., 54., 65.])]);
        let mut offsets = [0.; 16];
        // The first tap of the first place half a row down, the second one beyond the map.
        (offsets[0], offsets[12]) = (0.5, 9.);
        case(f32s(&[1, 4, 2, 2], &offsets)).gives([f32s(&[1, 1, 2, 2], &[2.5, 32., 54., 65.])]);
        offsets[0] = f32::INFINITY;
        case(f32s(&[1, 4, 2, 2], &offsets)).gives([f32s(&[1, 1, 2, 2], &[0., 32., 54., 65.])]);
    }

    #[test]
    fn bias_mask_and_groups_have_their_places() {
        let (x, w) = (counting(&[1, 2, 1, 2]), f32s(&[2, 1, 1, 1], &[1., 10.]));
        let offsets = f32s(&[1, 4, 1, 2], &[0., 0., 0.5, 0.5, 0., 0., 0., 0.]);
        let (bias, mask) = (f32s(&[2], &[100., 0.]), f32s(&[1, 2, 1, 2], &[1., 1., 2., 0.]));
        Case::of("DeformConv", [x, w, offsets, bias, mask])
            .opset(19)
            .int("group", 2)
            .int("offset_group", 2)
            .gives([f32s(&[1, 2, 1, 2], &[101.5, 101., 60., 0.])]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        case(f32s(&[1, 2, 2, 2], &[0.; 8])).fails("the offsets or the mask do not fit");
        case(f32s(&[1, 4, 2, 3], &[0.; 24])).fails("the offsets or the mask do not fit");
        let fits = f32s(&[1, 4, 2, 2], &[0.; 16]);
        case(fits.clone()).int("offset_group", 2).fails("channels do not fit");
        case(fits.clone()).int("offset_group", 0).fails("not positive");
        case(fits).ints("kernel_shape", &[2, 2]).fails("window does not fit");
    }
}
