//! Non-maximum suppression: of boxes that overlap much, the best alone is kept.

use ingle_types::DType;

use super::generate::placed;
use super::{Inputs, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::number::elements;
use crate::value::{Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("NonMaxSuppression", 10.., 2..=5, |args| {
        let centred = match args.int("center_point_box", 0)? {
            0 => false,
            1 => true,
            _ => {
                let reason = "neither 0 nor 1";
                return Err(BuildError::Value { name: "center_point_box", reason });
            }
        };
        op(move |ctx, inputs| suppress(ctx, inputs, centred))
    });
}

/// Boxes `[batches, boxes, 4]` and scores `[batches, classes, boxes]` give the kept
/// ones, as rows of batch, class and box.
fn suppress<B: Kernels>(
    ctx: &Context<B>,
    mut inputs: Inputs<B>,
    centred: bool,
) -> Result<Vec<Value<B>>, OpError> {
    let (boxes, scores) = (inputs.take(0)?, inputs.take(1)?);
    let rules = Rules::of(ctx, &mut inputs)?;
    let (dims, of) = (boxes.dims(), scores.dims());
    let (&[batches, count, 4], &[score_batches, classes, scored]) =
        (dims.as_slice(), of.as_slice())
    else {
        return Err(mismatch("boxes and scores must be of rank 3", dims, of));
    };
    if (batches, count) != (score_batches, scored) {
        return Err(mismatch("there must be one score for each box", dims, of));
    }
    let mut kept = Vec::new();
    let (boxes, scores) = (floats(ctx, boxes, "the boxes")?, floats(ctx, scores, "the scores")?);
    if count > 0 && rules.most > 0 {
        let boxes: Vec<Rectangle> =
            boxes.chunks_exact(4).map(|sides| Rectangle::of(sides, centred)).collect();
        for (row, scores) in scores.chunks_exact(count).enumerate() {
            let (batch, class) = (row / classes, row % classes);
            let boxes = boxes.get(batch * count..(batch + 1) * count).unwrap_or_default();
            for place in rules.keep(boxes, scores) {
                kept.extend([batch as i64, class as i64, place as i64]);
            }
        }
    }
    let out = vec![kept.len() / 3, 3];
    ctx.admit(DType::I64, &out)?;
    Ok(vec![placed(ctx, Host::ints(DType::I64, out, kept))?])
}

fn mismatch(what: &'static str, left: Vec<usize>, right: Vec<usize>) -> OpError {
    OpError::Mismatch { what, left, right }
}

fn floats<B: Kernels>(
    ctx: &Context<B>,
    value: Value<B>,
    what: &'static str,
) -> Result<Vec<f32>, OpError> {
    let given = value.dtype();
    if given != DType::F32 {
        return Err(OpError::DType { what, expected: "a float tensor", given });
    }
    Ok(elements::<f32>(&value.to_tensor(ctx)?).into_owned())
}

/// What is kept.
struct Rules {
    /// Boxes of a class.
    most: usize,
    /// The intersection over the union above which two boxes overlap too much.
    overlap: f32,
    /// The score that a box must be above.
    score: Option<f32>,
}

impl Rules {
    fn of<B: Kernels>(ctx: &Context<B>, inputs: &mut Inputs<B>) -> Result<Self, OpError> {
        let mut number =
            |index, what| inputs.take_opt(index).map(|value| value.scalar(ctx, what)).transpose();
        let most = number(2, "the number of boxes")?.unwrap_or(0.0);
        let overlap = number(3, "the overlap")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&overlap) {
            return Err(OpError::Value { what: "the overlap", value: overlap as i64 });
        }
        let score = number(4, "the least score")?.map(|score| score as f32);
        Ok(Self { most: most as usize, overlap: overlap as f32, score })
    }

    /// The places of the boxes that are kept, best first; equal ones in order.
    fn keep(&self, boxes: &[Rectangle], scores: &[f32]) -> Vec<usize> {
        let enough = |score: f32| self.score.is_none_or(|least| score > least);
        let mut places: Vec<(f32, usize)> =
            scores.iter().enumerate().filter(|(_, s)| enough(**s)).map(|(i, &s)| (s, i)).collect();
        places.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut kept: Vec<(usize, Rectangle)> = Vec::new();
        for (_, place) in places {
            if kept.len() == self.most {
                break;
            }
            let Some(&own) = boxes.get(place) else { continue };
            if kept.iter().all(|(_, other)| own.overlap(other) <= self.overlap) {
                kept.push((place, own));
            }
        }
        kept.into_iter().map(|(place, _)| place).collect()
    }
}

#[derive(Clone, Copy)]
struct Rectangle {
    low: [f32; 2],
    high: [f32; 2],
    area: f32,
}

impl Rectangle {
    /// From any two opposite corners, or from the centre and the sizes.
    fn of(sides: &[f32], centred: bool) -> Self {
        let &[a, b, c, d] = sides else { return Self { low: [0.0; 2], high: [0.0; 2], area: 0.0 } };
        let (low, high) = if centred {
            let (w, h) = (c / 2.0, d / 2.0);
            ([a - w, b - h], [a + w, b + h])
        } else {
            ([a.min(c), b.min(d)], [a.max(c), b.max(d)])
        };
        Self { low, high, area: (high[0] - low[0]) * (high[1] - low[1]) }
    }

    /// The intersection over the union.
    fn overlap(&self, other: &Self) -> f32 {
        let side = |axis: fn(&[f32; 2]) -> f32| {
            (axis(&self.high).min(axis(&other.high)) - axis(&self.low).max(axis(&other.low)))
                .max(0.0)
        };
        let shared = side(|[x, _]| *x) * side(|[_, y]| *y);
        let union = self.area + other.area - shared;
        if shared > 0.0 && union > 0.0 { shared / union } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, f32s, i64s};

    fn suppress(boxes: Tensor, scores: Tensor, most: i64, overlap: f32) -> Case {
        Case::of("NonMaxSuppression", [boxes, scores, i64s(&[1], &[most]), f32s(&[1], &[overlap])])
    }

    fn kept(rows: &[[i64; 3]]) -> [Tensor; 1] {
        [i64s(&[rows.len(), 3], rows.as_flattened())]
    }

    /// A unit square at each height, given by either pair of corners.
    fn squares(heights: &[f32]) -> Tensor {
        let corners = |(i, &y): (usize, &f32)| {
            if i % 2 == 0 { [y, 0., y + 1., 1.] } else { [y + 1., 1., y, 0.] }
        };
        let sides: Vec<f32> = heights.iter().enumerate().flat_map(corners).collect();
        f32s(&[1, heights.len(), 4], &sides)
    }

    #[test]
    fn boxes_under_better_ones_go() {
        let (boxes, scores) = (squares(&[0., 0.1, 10.]), f32s(&[1, 1, 3], &[0.75, 0.9, 0.9]));
        suppress(boxes.clone(), scores.clone(), 3, 0.5).gives(kept(&[[0, 0, 1], [0, 0, 2]]));
        suppress(boxes.clone(), scores.clone(), 1, 0.5).gives(kept(&[[0, 0, 1]]));
        suppress(boxes.clone(), scores.clone(), 0, 0.5).gives(kept(&[]));
        suppress(boxes, scores, i64::MAX, 1.0).gives(kept(&[[0, 0, 1], [0, 0, 2], [0, 0, 0]]));
    }

    #[test]
    fn an_overlap_of_just_the_threshold_is_allowed() {
        // Two thirds of each is shared: half of the union.
        let boxes = f32s(&[1, 2, 4], &[0., 0., 3., 1., 1., 0., 4., 1.]);
        let scores = f32s(&[1, 1, 2], &[0.9, 0.8]);
        suppress(boxes.clone(), scores.clone(), 9, 0.5).gives(kept(&[[0, 0, 0], [0, 0, 1]]));
        suppress(boxes, scores, 9, 0.49).gives(kept(&[[0, 0, 0]]));
    }

    #[test]
    fn every_class_has_boxes_and_a_least_score() {
        let scores = f32s(&[1, 2, 2], &[0.9, 0.3, 0.2, 0.4]);
        let [boxes, most, overlap] = [squares(&[0., 5.]), i64s(&[], &[2]), f32s(&[], &[0.])];
        Case::of("NonMaxSuppression", [boxes, scores, most, overlap, f32s(&[], &[0.3])])
            .gives(kept(&[[0, 0, 0], [0, 1, 1]]));
    }

    #[test]
    fn boxes_may_be_centred() {
        let boxes = f32s(&[1, 2, 4], &[0.5, 0.5, 1., 1., 0.5, 0.6, 1., 1.]);
        suppress(boxes, f32s(&[1, 1, 2], &[0.5, 0.6]), 9, 0.5)
            .int("center_point_box", 1)
            .gives(kept(&[[0, 0, 1]]));
    }

    #[test]
    fn odd_boxes_are_survived_or_refused() {
        let nan = f32s(&[1, 2, 4], &[f32::NAN; 8]);
        let scores = f32s(&[1, 1, 2], &[f32::NAN, f32::INFINITY]);
        suppress(nan, scores, 9, 0.5).gives(kept(&[[0, 0, 0], [0, 0, 1]]));
        suppress(f32s(&[1, 0, 4], &[]), f32s(&[1, 2, 0], &[]), 9, 0.5).gives(kept(&[]));
        let one = || f32s(&[1, 1, 1], &[1.]);
        suppress(squares(&[0., 1.]), one(), 9, 0.5).fails("one score for each box");
        suppress(f32s(&[1, 4], &[0.; 4]), one(), 9, 0.5).fails("rank 3");
        suppress(squares(&[0.]), one(), 9, 1.5).fails("the overlap cannot be");
        suppress(squares(&[0.]), one(), 9, f32::NAN).fails("the overlap cannot be");
    }
}
