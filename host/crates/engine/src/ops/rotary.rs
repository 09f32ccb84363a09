//! Rotary position embedding: pairs of entries turn by an angle that grows with
//! the position.

use super::elementwise::{add, apply, mul, sub};
use super::gather::take;
use super::tensor::{join, narrow};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::broadcast;
use crate::kernels::Kernels;
use crate::value::Value;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("RotaryEmbedding", 23.., 3..=4, rotary_embedding);
}

/// Which entries of a head turn.
#[derive(Clone, Copy)]
pub(super) struct Rotation {
    /// Whether the entries of a pair are neighbours; half a head apart otherwise.
    pub(super) interleaved: bool,
    /// How many entries from the front turn; zero = all.
    pub(super) turning: usize,
}

impl Rotation {
    pub(super) fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        let name = "rotary_embedding_dim";
        let turning = usize::try_from(args.int(name, 0)?).ok().filter(|n| n.is_multiple_of(2));
        let turning = turning.ok_or(BuildError::Value { name, reason: "no even size" })?;
        Ok(Self { interleaved: args.flag("interleaved", false)?, turning })
    }

    /// How many entries of a head of `size` turn.
    pub(super) fn span(&self, size: usize) -> Result<usize, OpError> {
        let span = if self.turning == 0 { size } else { self.turning };
        if span > size || span == 0 || !span.is_multiple_of(2) {
            return Err(OpError::Dims { what: "a rotated head", dims: vec![size] });
        }
        Ok(span)
    }

    /// Turns `x`, whose last axis is a head. `angles` are cosines and sines, which
    /// broadcast to `x` with half of the turning entries in the last axis.
    pub(super) fn turn<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: Value<B>,
        [cos, sin]: [Value<B>; 2],
    ) -> Result<Value<B>, OpError> {
        let dims = x.dims();
        let last = dims.len().saturating_sub(1);
        let size = dims.last().copied().unwrap_or_default();
        let span = self.span(size)?;
        let front = dims.get(..last).unwrap_or_default();
        let half = [front, &[span / 2]].concat();
        for angle in [&cos, &sin] {
            let given = angle.dims();
            if given.last() != half.last() || broadcast(&given, &half)? != half {
                let what = "the angles do not fit the heads";
                return Err(OpError::Mismatch { what, left: given, right: dims });
            }
        }
        if dims.contains(&0) {
            return Ok(x);
        }
        let turning = narrow(ctx, &x, last, 0, span)?;
        let (first, second) = self.parts(ctx, &turning, &half)?;
        let times = |l: &Value<B>, r: &Value<B>| apply(ctx, &mul(), l.clone(), r.clone());
        let real = apply(ctx, &sub(), times(&first, &cos)?, times(&second, &sin)?)?;
        let imaginary = apply(ctx, &add(), times(&first, &sin)?, times(&second, &cos)?)?;
        let turned = self.joined(ctx, real, imaginary)?.reshape([front, &[span]].concat());
        if span == size {
            return Ok(turned);
        }
        let rest = narrow(ctx, &x, last, span, size)?;
        join(ctx, vec![turned, rest], -1)
    }

    /// The first and the second entry of each pair.
    fn parts<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: &Value<B>,
        half: &[usize],
    ) -> Result<(Value<B>, Value<B>), OpError> {
        let last = half.len().saturating_sub(1);
        let size = half.last().copied().unwrap_or_default();
        if !self.interleaved {
            let (first, second) =
                (narrow(ctx, x, last, 0, size)?, narrow(ctx, x, last, size, 2 * size)?);
            return Ok((first, second));
        }
        let pairs = x.clone().reshape([half, &[2]].concat());
        let part = |i| Ok(narrow(ctx, &pairs, last + 1, i, i + 1)?.reshape(half.to_vec()));
        Ok((part(0)?, part(1)?))
    }

    fn joined<B: Kernels>(
        &self,
        ctx: &Context<B>,
        first: Value<B>,
        second: Value<B>,
    ) -> Result<Value<B>, OpError> {
        if !self.interleaved {
            return join(ctx, vec![first, second], -1);
        }
        let apart = [first.dims(), vec![1]].concat();
        join(ctx, vec![first.reshape(apart.clone()), second.reshape(apart)], -1)
    }
}

/// The angles of each position: `cache` has `[positions, half]`, the answer the
/// dims of `positions` and one more.
pub(super) fn angles_at<B: Kernels>(
    ctx: &Context<B>,
    cache: Value<B>,
    positions: &Value<B>,
) -> Result<Value<B>, OpError> {
    if cache.rank() != 2 {
        return Err(OpError::Dims { what: "the table of angles", dims: cache.dims() });
    }
    take(ctx, cache, 0, positions.clone())
}

/// `[batch, sequence, half]` as it broadcasts to heads: `[batch, sequence, heads,
/// size]`, or with `heads_first` to `[batch, heads, sequence, size]`.
pub(super) fn angles_for_heads<B: Kernels>(
    angles: Value<B>,
    heads_first: bool,
) -> Result<Value<B>, OpError> {
    let dims = angles.dims();
    let &[batch, sequence, half] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the angles", dims });
    };
    let middle = if heads_first { [1, sequence] } else { [sequence, 1] };
    Ok(angles.reshape([&[batch], &middle[..], &[half]].concat()))
}

fn rotary_embedding<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let rotation = Rotation::of(args)?;
    let heads = args.int("num_heads", 0)?;
    let heads = usize::try_from(heads).ok().filter(|&heads| heads < 1 << 24);
    let heads = heads.ok_or(BuildError::Value { name: "num_heads", reason: "negative" })?;
    op(move |ctx, mut inputs| {
        let (x, cos, sin) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let angles = match inputs.take_opt(3) {
            Some(positions) => [angles_at(ctx, cos, &positions)?, angles_at(ctx, sin, &positions)?],
            None => [cos, sin],
        };
        Ok(vec![turn_heads(ctx, &rotation, x, heads, angles)?])
    })
}

/// Turns `[batch, sequence, heads * size]` or `[batch, heads, sequence, size]`;
/// the angles have `[batch, sequence, half]`.
pub(super) fn turn_heads<B: Kernels>(
    ctx: &Context<B>,
    rotation: &Rotation,
    x: Value<B>,
    heads: usize,
    [cos, sin]: [Value<B>; 2],
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    let split = match *dims.as_slice() {
        [batch, sequence, hidden] if heads > 0 && hidden.is_multiple_of(heads) => {
            x.reshape(vec![batch, sequence, heads, hidden / heads])
        }
        [_, _, _, _] => x,
        _ => return Err(OpError::Dims { what: "the operand", dims }),
    };
    let heads_first = dims.len() == 4;
    let angles = [angles_for_heads(cos, heads_first)?, angles_for_heads(sin, heads_first)?];
    Ok(rotation.turn(ctx, split, angles)?.reshape(dims))
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, counting, f32s, i64s};

    /// Position 0 stays, position 1 turns by a right angle.
    fn tables() -> [Tensor; 2] {
        [f32s(&[2, 1], &[1., 0.]), f32s(&[2, 1], &[0., 1.])]
    }

    fn case(x: Tensor, positions: &[i64]) -> Case {
        let [cos, sin] = tables();
        let positions = i64s(&[1, positions.len()], positions);
        Case::of("RotaryEmbedding", [x, cos, sin, positions]).opset(23)
    }

    #[test]
    fn pairs_turn_by_their_position() {
        let x = counting(&[1, 1, 2, 2]);
        case(x.clone(), &[0, 1]).gives([f32s(&[1, 1, 2, 2], &[1., 2., -4., 3.])]);
        case(x.clone(), &[1, 0]).gives([f32s(&[1, 1, 2, 2], &[-2., 1., 3., 4.])]);
        case(x, &[0, 2]).fails("index 2");
        case(counting(&[1, 2, 4]), &[1, 1])
            .int("num_heads", 2)
            .gives([f32s(&[1, 2, 4], &[-2., 1., -4., 3., -6., 5., -8., 7.])]);
        case(counting(&[1, 2, 4]), &[1, 1]).int("num_heads", 3).fails("the operand");
    }

    #[test]
    fn only_the_front_of_a_head_turns_where_asked_for() {
        case(counting(&[1, 1, 1, 4]), &[1])
            .int("rotary_embedding_dim", 2)
            .gives([f32s(&[1, 1, 1, 4], &[-2., 1., 3., 4.])]);
        case(counting(&[1, 1, 1, 4]), &[1]).fails("do not fit the heads");
        case(counting(&[1, 1, 1, 2]), &[1]).int("rotary_embedding_dim", 4).fails("a rotated head");
        case(counting(&[1, 1, 1, 2]), &[1]).int("rotary_embedding_dim", 1).fails("no even size");
    }

    #[test]
    fn pairs_are_neighbours_or_half_a_head_apart() {
        let angles = [f32s(&[1, 1, 2], &[0., 1.]), f32s(&[1, 1, 2], &[1., 0.])];
        let x = counting(&[1, 1, 1, 4]);
        let case = Case::of("RotaryEmbedding", [vec![x], angles.to_vec()].concat()).opset(23);
        case.gives([f32s(&[1, 1, 1, 4], &[-3., 2., 1., 4.])]);
        case.int("interleaved", 1).gives([f32s(&[1, 1, 1, 4], &[-2., 1., 3., 4.])]);
    }
}
