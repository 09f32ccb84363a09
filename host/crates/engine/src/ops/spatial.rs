//! The geometry of sliding windows, shared by convolution and pooling.

use burn::tensor::Slice;

use super::Args;
use super::generate::full;
use crate::context::Context;
use crate::kernels::{ConvAxis, Kernels};
use crate::value::{DeviceTensor, Host, is_float};
use crate::{BuildError, OpError};

/// How a window is placed, as the attributes say it.
#[derive(Clone, Debug)]
pub(super) struct Window {
    kernel: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    pads: Option<Vec<usize>>,
    auto: AutoPad,
    ceil: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AutoPad {
    No,
    SameUpper,
    SameLower,
    Valid,
}

/// A window placed on an input, one entry for each spatial axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) axes: Vec<Axis>,
}

/// A window along one axis. `end` reaches exactly as far as the last window, so
/// it can be negative, and `padding_end` is what the model asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) size: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) begin: usize,
    pub(super) end: i64,
    pub(super) padding_end: usize,
    pub(super) out: usize,
}

impl AutoPad {
    pub(super) fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        match &*args.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => Ok(Self::No),
            "SAME_UPPER" => Ok(Self::SameUpper),
            "SAME_LOWER" => Ok(Self::SameLower),
            "VALID" => Ok(Self::Valid),
            _ => Err(BuildError::Value { name: "auto_pad", reason: "not a known mode" }),
        }
    }
}

impl Window {
    pub(super) fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        let positive = |name| {
            let sizes = args.sizes(name)?;
            match sizes {
                Some(sizes) if sizes.contains(&0) => {
                    Err(BuildError::Value { name, reason: "a size is zero" })
                }
                sizes => Ok(sizes),
            }
        };
        Ok(Self {
            kernel: positive("kernel_shape")?,
            strides: positive("strides")?,
            dilations: positive("dilations")?,
            pads: args.sizes("pads")?,
            auto: AutoPad::of(args)?,
            ceil: args.flag("ceil_mode", false)?,
        })
    }

    #[cfg(test)]
    pub(super) fn of_lists(strides: &[usize], pads: &[usize]) -> Self {
        let (strides, pads) = (Some(strides.to_vec()), Some(pads.to_vec()));
        Self { kernel: None, strides, dilations: None, pads, auto: AutoPad::No, ceil: false }
    }

    pub(super) fn kernel(&self) -> Option<&[usize]> {
        self.kernel.as_deref()
    }

    /// Places a window of size `kernel` on `sizes`.
    pub(super) fn place(&self, sizes: &[usize], kernel: &[usize]) -> Result<Placed, OpError> {
        let rank = sizes.len();
        let list = |given: &Option<Vec<usize>>, default: usize, length: usize| {
            let list = given.clone().unwrap_or_else(|| vec![default; length]);
            if list.len() == length { Ok(list) } else { Err(self.mismatch(sizes, &list)) }
        };
        let strides = list(&self.strides, 1, rank)?;
        let dilations = list(&self.dilations, 1, rank)?;
        let pads = list(&self.pads, 0, 2 * rank)?;
        if kernel.len() != rank || self.kernel.as_ref().is_some_and(|k| k != kernel) {
            return Err(self.mismatch(sizes, kernel));
        }
        let mut axes = Vec::with_capacity(rank);
        for i in 0..rank {
            let at = |list: &[usize]| list.get(i).copied().unwrap_or(1);
            let pads = (at(&pads), pads.get(rank + i).copied().unwrap_or_default());
            let (size, stride, dilation) = (at(sizes), at(&strides), at(&dilations));
            let axis = self.place_axis(size, at(kernel), stride, dilation, pads);
            axes.push(axis.ok_or_else(|| self.mismatch(sizes, kernel))?);
        }
        Ok(Placed { axes })
    }

    fn place_axis(
        &self,
        size: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        (begin, end): (usize, usize),
    ) -> Option<Axis> {
        let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        let last = |begin: usize, end: usize| {
            size.checked_add(begin)?.checked_add(end)?.checked_sub(reach)
        };
        let (begin, padding_end, out) = match self.auto {
            AutoPad::No => {
                let last = last(begin, end)?;
                let mut out = if self.ceil { last.div_ceil(stride) } else { last / stride } + 1;
                // A window that would start in the padding at the end is left out.
                if self.ceil && (out - 1).checked_mul(stride)? >= size.checked_add(begin)? {
                    out -= 1;
                }
                (begin, end, out)
            }
            AutoPad::Valid => {
                // Rounded up, no window would be there either that is not whole.
                (0, 0, last(0, 0)? / stride + 1)
            }
            AutoPad::SameUpper | AutoPad::SameLower => {
                let out = size.div_ceil(stride);
                let needed = out.saturating_sub(1).checked_mul(stride)?.checked_add(reach)?;
                let total = needed.saturating_sub(size);
                let small = total / 2;
                if self.auto == AutoPad::SameUpper {
                    (small, total - small, out)
                } else {
                    (total - small, small, out)
                }
            }
        };
        let needed = out.saturating_sub(1).checked_mul(stride)?.checked_add(reach)?;
        let end = i64::try_from(needed).ok()? - i64::try_from(size.checked_add(begin)?).ok()?;
        Some(Axis { size, kernel, stride, dilation, begin, end, padding_end, out })
    }

    fn mismatch(&self, sizes: &[usize], window: &[usize]) -> OpError {
        let what = "the window does not fit the spatial dimensions";
        OpError::Mismatch { what, left: sizes.to_vec(), right: window.to_vec() }
    }
}

impl Axis {
    /// An axis of which each entry is its own window.
    pub(super) fn whole(size: usize) -> Self {
        let (kernel, stride, dilation) = (1, 1, 1);
        Self { size, kernel, stride, dilation, begin: 0, end: 0, padding_end: 0, out: size }
    }

    /// Whether there is one window, of all entries and nothing else.
    pub(super) fn sees_all(&self) -> bool {
        self.out == 1 && self.kernel == self.size && self.begin == 0 && self.dilation == 1
    }

    pub(super) fn of_conv(&self) -> ConvAxis {
        let Self { size, kernel, stride, dilation, begin, out, .. } = *self;
        ConvAxis { size, kernel, stride, dilation, begin, out }
    }
}

impl Placed {
    pub(super) fn out(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.out).collect()
    }

    /// Whether the padding is the same on both sides of each axis, and smaller
    /// than the kernel: the only kind that Burn knows.
    pub(super) fn is_symmetric(&self) -> bool {
        self.axes.iter().all(|a| {
            let end = a.end.max(0);
            a.begin < a.kernel && (i64::try_from(a.begin) == Ok(end) || a.end <= 0 && a.begin == 0)
        })
    }

    pub(super) fn begins(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.begin).collect()
    }

    pub(super) fn ends(&self) -> Vec<usize> {
        self.axes.iter().map(|a| usize::try_from(a.end).unwrap_or_default()).collect()
    }
}

/// Puts `begin` and `end` entries of `fill` around the last axes of a tensor.
pub(super) fn pad_constant<B: Kernels>(
    ctx: &Context<B>,
    x: DeviceTensor<B>,
    begin: &[usize],
    end: &[usize],
    fill: f64,
) -> Result<DeviceTensor<B>, OpError> {
    if begin.iter().chain(end).all(|&n| n == 0) {
        return Ok(x);
    }
    let (dims, dtype) = (x.dims(), x.dtype());
    let first = dims.len().saturating_sub(begin.len());
    let mut padded = dims.clone();
    let mut slices: Vec<Slice> = dims.iter().map(|&d| (0..d).into()).collect();
    for (i, (&b, &e)) in begin.iter().zip(end).enumerate() {
        if let (Some(size), Some(slice)) = (padded.get_mut(first + i), slices.get_mut(first + i)) {
            *slice = (b..b.saturating_add(*size)).into();
            *size = size.saturating_add(b).saturating_add(e);
        }
    }
    let fill = if is_float(dtype) {
        Host::floats(dtype, vec![], vec![fill])
    } else {
        Host::ints(dtype, vec![], vec![fill as i64])
    };
    full(ctx, &fill, padded)?.into_device(ctx)?.slice_assign(&slices, x)
}

/// The first `N` entries of a list that has them.
pub(super) fn array<const N: usize>(
    axes: &[Axis],
    of: impl Fn(&Axis) -> usize,
) -> Result<[usize; N], OpError> {
    let list: Vec<usize> = axes.iter().map(of).collect();
    <[usize; N]>::try_from(list.as_slice())
        .map_err(|_| OpError::Dims { what: "the window", dims: list })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(auto: AutoPad, ceil: bool, stride: usize, pads: [usize; 2]) -> Window {
        Window {
            kernel: None,
            strides: Some(vec![stride]),
            dilations: None,
            pads: Some(pads.to_vec()),
            auto,
            ceil,
        }
    }

    fn axis(window: &Window, size: usize, kernel: usize) -> Axis {
        window.place(&[size], &[kernel]).unwrap().axes[0]
    }

    #[test]
    fn same_padding_covers_every_entry() {
        let upper = axis(&window(AutoPad::SameUpper, false, 2, [0, 0]), 6, 3);
        assert_eq!((upper.begin, upper.end, upper.out), (0, 1, 3));
        let lower = axis(&window(AutoPad::SameLower, false, 2, [0, 0]), 6, 3);
        assert_eq!((lower.begin, lower.end, lower.out), (1, 0, 3));
    }

    #[test]
    fn ceil_mode_adds_a_window_unless_it_starts_in_the_padding() {
        assert_eq!(axis(&window(AutoPad::No, false, 2, [0, 0]), 4, 3).out, 1);
        assert_eq!(axis(&window(AutoPad::No, true, 2, [0, 0]), 4, 3).out, 2);
        assert_eq!(axis(&window(AutoPad::No, true, 3, [0, 1]), 3, 1).out, 1);
        assert_eq!(axis(&window(AutoPad::Valid, true, 3, [0, 0]), 6, 1).out, 2);
    }

    #[test]
    fn a_window_larger_than_the_input_is_refused() {
        assert!(window(AutoPad::No, false, 1, [0, 0]).place(&[2], &[3]).is_err());
        assert!(window(AutoPad::No, false, 1, [0, 0]).place(&[2, 2], &[1]).is_err());
    }
}
