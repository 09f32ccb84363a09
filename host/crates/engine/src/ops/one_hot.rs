//! Classes marked in a new axis.

use ingle_types::DType;

use super::gather::pick_parts;
use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::dims::axis_at;
use crate::kernels::Kernels;

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("OneHot", 9.., 3..=3, one_hot);
}

/// The second of two values where the new axis is at the class, else the first. A
/// class beyond the depth is nowhere.
fn one_hot<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", -1)?;
    op(move |ctx, mut inputs| {
        let (classes, depth, values) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let mut dims = classes.dims();
        let axis = axis_at(axis, dims.len() + 1)?;
        let depth = depth.scalar(ctx, "the depth")?;
        if depth < 0.0 || depth.is_nan() {
            return Err(OpError::Value { what: "the depth", value: depth as i64 });
        }
        if values.dims() != [2] {
            return Err(OpError::Dims { what: "the two values", dims: values.dims() });
        }
        let (depth, inner) = (depth as usize, dims.iter().skip(axis).product::<usize>());
        dims.insert(axis, depth);
        ctx.admit(DType::I64, &dims)?;
        let classes = classes.cast(ctx, DType::I64)?.ints(ctx, "the classes")?;
        let bound = i64::try_from(depth).unwrap_or(i64::MAX);
        let mut marks = vec![0; dims.iter().product()];
        for (place, &class) in classes.iter().enumerate() {
            let class = if class < 0 { class.saturating_add(bound) } else { class };
            let class = usize::try_from(class).ok().filter(|&class| class < depth);
            let mark = |class| (place / inner * depth + class) * inner + place % inner;
            if let Some(mark) = class.and_then(|class| marks.get_mut(mark(class))) {
                *mark = 1;
            }
        }
        Ok(vec![pick_parts(ctx, values, 1, &marks, dims)?])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, i64s, tensor};

    #[test]
    fn classes_are_marked_in_a_new_axis() {
        let hot = |classes, depth: i64| {
            Case::of("OneHot", [classes, i64s(&[], &[depth]), f32s(&[2], &[0., 9.])])
        };
        let classes = || i64s(&[2], &[1, -3]);
        hot(classes(), 3).gives([f32s(&[2, 3], &[0., 9., 0., 9., 0., 0.])]);
        hot(classes(), 3).int("axis", 0).gives([f32s(&[3, 2], &[0., 9., 9., 0., 0., 0.])]);
        hot(i64s(&[2], &[3, -4]), 3).gives([f32s(&[2, 3], &[0.; 6])]);
        hot(tensor(&[1, 1], &[2u8]), 3).int("axis", 1).gives([f32s(&[1, 3, 1], &[0., 0., 9.])]);
        hot(f32s(&[1], &[1.]), 2).gives([f32s(&[1, 2], &[0., 9.])]);
        hot(classes(), 0).gives([f32s(&[2, 0], &[])]);
    }

    #[test]
    fn hostile_depths_are_refused() {
        let hot = |depth, values| Case::of("OneHot", [i64s(&[1], &[0]), depth, values]);
        let values = || f32s(&[2], &[0., 1.]);
        hot(i64s(&[], &[-1]), values()).fails("the depth cannot be -1");
        hot(i64s(&[], &[i64::MAX]), values()).fails("larger than the limit");
        hot(f32s(&[], &[f32::NAN]), values()).fails("the depth cannot be");
        let none = [i64s(&[0, 3], &[]), i64s(&[], &[i64::MAX]), values()];
        Case::of("OneHot", none).fails("larger than the limit");
        hot(i64s(&[2], &[1, 1]), values()).fails("the depth");
        hot(i64s(&[], &[1]), f32s(&[1], &[0.])).fails("the two values");
        let far = Case::of("OneHot", [i64s(&[1], &[0]), i64s(&[], &[1]), values()]);
        far.int("axis", 2).fails("axis 2");
    }
}
