//! Sampling between places: each place of the answer is a weighted sum of a few
//! places of the operand.

use ingle_types::DType;

use super::elementwise::{add, apply, mul};
use super::generate::full;
use crate::OpError;
use crate::context::Context;
use crate::dims::product;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};

/// Beyond this every place is outside, and differences would lose their meaning.
const FAR: f64 = 1e15;

/// What one coordinate takes from an axis: up to four places with their weights.
#[derive(Clone, Copy)]
pub(super) struct Line {
    /// `None` is outside, where there are zeros.
    taps: [(Option<usize>, f64); 4],
    width: usize,
}

impl Line {
    /// `place` gives the place that stands where `i` is.
    pub(super) fn nearest(at: f64, place: impl Fn(i64) -> Option<usize>) -> Self {
        let mut taps = [(None, 0.0); 4];
        if let Some(tap) = taps.first_mut() {
            *tap = (place(at.clamp(-FAR, FAR) as i64), 1.0);
        }
        Self { taps, width: 1 }
    }

    pub(super) fn linear(at: f64, place: impl Fn(i64) -> Option<usize>) -> Self {
        Self::around(at, 2, place, |distance| 1.0 - distance)
    }

    /// `weight` is asked for distances up to 2.
    pub(super) fn cubic(
        at: f64,
        place: impl Fn(i64) -> Option<usize>,
        weight: impl Fn(f64) -> f64,
    ) -> Self {
        Self::around(at, 4, place, weight)
    }

    fn around(
        at: f64,
        width: usize,
        place: impl Fn(i64) -> Option<usize>,
        weight: impl Fn(f64) -> f64,
    ) -> Self {
        let at = at.clamp(-FAR, FAR);
        let first = at.floor() as i64 + 1 - width as i64 / 2;
        let mut taps = [(None, 0.0); 4];
        for (tap, i) in taps.iter_mut().zip(first..).take(width) {
            *tap = (place(i), weight((at - i as f64).abs()));
        }
        Self { taps, width }
    }
}

/// The place itself where it is inside.
pub(super) fn inside(i: i64, size: usize) -> Option<usize> {
    usize::try_from(i).ok().filter(|&i| i < size)
}

/// Which places of an operand make each place of the answer.
pub(super) struct Taps {
    /// For each tap, the place and the weight of every place of the answer.
    taps: Vec<(Vec<i64>, Vec<f64>)>,
    /// The operand's places; the number behind the last stands for zeros.
    places: usize,
    outside: bool,
}

impl Taps {
    /// Makes room for `count` places of the answer, each of at most `width` taps.
    pub(super) fn new<B: Kernels>(
        ctx: &Context<B>,
        count: usize,
        width: usize,
        places: usize,
    ) -> Result<Self, OpError> {
        ctx.admit(DType::F64, &[2, width, count])?;
        let tap = || (Vec::with_capacity(count), Vec::with_capacity(count));
        Ok(Self { taps: (0..width).map(|_| tap()).collect(), places, outside: false })
    }

    /// The next place: all combinations of one line for each axis of `sizes`. The
    /// axes begin at place `first` of the operand. Weights are multiplied by `scale`.
    pub(super) fn push(&mut self, first: usize, sizes: &[usize], lines: &[Line], scale: f64) {
        for (tap, (places, weights)) in self.taps.iter_mut().enumerate() {
            let mut rest = tap;
            let (mut place, mut weight) = (Some(0), scale);
            for (line, &size) in lines.iter().zip(sizes) {
                let (along, share) =
                    line.taps.get(rest % line.width).copied().unwrap_or((None, 0.0));
                rest /= line.width;
                place = place.zip(along).map(|(place, along)| place * size + along);
                weight *= share;
            }
            self.outside |= place.is_none();
            places.push(place.map_or(self.places, |place| first + place) as i64);
            weights.push(weight);
        }
    }

    /// `x` is `[rows, channels, places of a row]`; the answer is `[count, channels]`.
    pub(super) fn sum<B: Kernels>(
        self,
        ctx: &Context<B>,
        x: Value<B>,
    ) -> Result<Value<B>, OpError> {
        let (dims, dtype) = (x.dims(), x.dtype());
        let &[rows, channels, places] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        let places = product(&[rows, places])?;
        let x = x.into_device(ctx)?.permute(&[0, 2, 1]).reshape(&[places, channels]);
        let x = if self.outside { with_zeros(ctx, x, channels)? } else { x };
        let mut sum: Option<Value<B>> = None;
        for (places, weights) in self.taps {
            let count = places.len();
            ctx.admit(dtype, &[count, channels])?;
            let places: Value<B> = Host::ints(DType::I64, vec![count], places).into();
            let picked = x.clone().select(0, places.into_int(ctx, "the places")?);
            let mut term = Value::from(picked);
            if weights.iter().any(|&w| w != 1.0) {
                let weights = Host::floats(dtype, vec![count, 1], weights);
                term = apply(ctx, &mul(), term, weights.into())?;
            }
            sum = Some(match sum {
                Some(sum) => apply(ctx, &add(), sum, term)?,
                None => term,
            });
        }
        sum.ok_or(OpError::Missing { index: 0 })
    }
}

/// One more row, of zeros.
fn with_zeros<B: Kernels>(
    ctx: &Context<B>,
    x: DeviceTensor<B>,
    channels: usize,
) -> Result<DeviceTensor<B>, OpError> {
    let zero = Host::ints(DType::I64, vec![], vec![0]).cast(x.dtype());
    let zeros = full(ctx, &zero, vec![1, channels])?.into_device(ctx)?;
    DeviceTensor::concat(vec![x, zeros], 0)
}
