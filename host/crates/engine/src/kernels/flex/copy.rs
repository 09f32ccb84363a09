//! Copies that put a tensor's elements into row-major order.

use burn::tensor::{BoolStore, Bytes, DType, TensorData};
use burn_flex::{FlexTensor, Layout};
use bytemuck::Pod;

use super::{buffers, floats, team};

/// As `to_contiguous`, whose walk over more than two axes is slow.
pub(super) fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    let layout = tensor.layout();
    let Some(walk) = Walk::of(layout) else { return tensor.to_contiguous() };
    let copied = match tensor.dtype() {
        DType::F64 | DType::I64 | DType::U64 => copied::<u64>(tensor, &walk),
        DType::F32 | DType::I32 | DType::U32 => copied::<u32>(tensor, &walk),
        DType::F16 | DType::BF16 | DType::I16 | DType::U16 => copied::<u16>(tensor, &walk),
        DType::I8 | DType::U8 | DType::Bool(BoolStore::Native | BoolStore::U8) => {
            copied::<u8>(tensor, &walk)
        }
        _ => None,
    };
    match copied {
        Some(bytes) => {
            let layout = Layout::contiguous(layout.shape().clone());
            FlexTensor::new(bytes, layout, tensor.dtype())
        }
        None => tensor.to_contiguous(),
    }
}

/// Joins tensors whose dims differ in `axis` only. `None` where Burn's own copy
/// does it.
pub(super) fn join(tensors: &[FlexTensor], axis: usize) -> Option<FlexTensor> {
    let mut dims = tensors.first()?.layout().shape().to_vec();
    let sizes = tensors.iter().map(|t| t.layout().shape().as_slice().get(axis).copied());
    *dims.get_mut(axis)? = sizes.sum::<Option<usize>>()?;
    let wanted = |t: &FlexTensor| t.dtype() == DType::F32 && t.layout().num_elements() > 0;
    if !tensors.iter().all(wanted) {
        return None;
    }
    let tensors: Vec<FlexTensor> = tensors.iter().map(FlexTensor::to_contiguous).collect();
    let rows: usize = dims.get(..axis)?.iter().product();
    let mut answer = buffers::take(dims.iter().product());
    let row = answer.len() / rows;
    // From each tensor, as much as one row of the answer takes.
    let parts: Vec<(&[f32], usize)> =
        tensors.iter().map(|t| (floats(t), t.layout().num_elements() / rows)).collect();
    let copy_rows = |(first, into): (usize, &mut [f32])| {
        for (row, mut into) in (first..).zip(into.chunks_exact_mut(row)) {
            for &(from, length) in &parts {
                let Some(from) = from.get(row * length..(row + 1) * length) else { return };
                let Some((to, rest)) = into.split_at_mut_checked(length) else { return };
                to.copy_from_slice(from);
                into = rest;
            }
        }
    };
    let some = team::SHARE.div_ceil(row);
    team::for_each((0..rows).step_by(some).zip(answer.chunks_mut(some * row)), copy_rows);
    Some(FlexTensor::from_data(TensorData::new(answer, dims)))
}

fn copied<T: Pod + Send + Sync>(tensor: &FlexTensor, walk: &Walk) -> Option<Bytes> {
    let from: &[T] = bytemuck::try_cast_slice(tensor.bytes()).ok()?;
    let mut to = Vec::with_capacity(walk.elements);
    walk.copy(from, &mut to)?;
    Some(Bytes::from_elems(to))
}

/// The order in which a tensor's elements are read: axes that can be walked as
/// one are one.
struct Walk {
    /// Size and stride of each axis, the outermost first.
    axes: Vec<(usize, usize)>,
    start: usize,
    elements: usize,
}

impl Walk {
    /// `None` where Burn's own copy is as good: nothing to copy, strides that lead
    /// backwards, or no more than two axes.
    fn of(layout: &Layout) -> Option<Self> {
        if layout.is_contiguous() {
            return None;
        }
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for (&size, &stride) in layout.shape().as_slice().iter().zip(layout.strides()) {
            let stride = usize::try_from(stride).ok()?;
            match axes.last_mut() {
                _ if size == 1 => {}
                Some((outer, step)) if *step == stride.checked_mul(size)? => {
                    *outer = outer.checked_mul(size)?;
                    *step = stride;
                }
                _ => axes.push((size, stride)),
            }
        }
        let (start, elements) = (layout.start_offset(), layout.num_elements());
        (axes.len() > 2 && elements > 0).then_some(Self { axes, start, elements })
    }

    /// Appends all elements; `None` where one lies outside of `from`.
    fn copy<T: Copy>(&self, from: &[T], to: &mut Vec<T>) -> Option<()> {
        let (&(rows, down), &(columns, along)) = match self.axes.as_slice() {
            [.., rows, columns] => (rows, columns),
            _ => return None,
        };
        let outer = self.axes.get(..self.axes.len() - 2)?;
        let mut places = vec![0; outer.len()];
        loop {
            let offsets = places.iter().zip(outer).map(|(place, (_, stride))| place * stride);
            let plane = from.get(self.start + offsets.sum::<usize>()..)?;
            copy_plane(plane, [rows, columns], [down, along], to)?;
            if !advance(&mut places, outer) {
                return Some(());
            }
        }
    }
}

/// The next place in row-major order; `false` behind the last.
fn advance(places: &mut [usize], axes: &[(usize, usize)]) -> bool {
    for (place, (size, _)) in places.iter_mut().zip(axes).rev() {
        *place += 1;
        if *place < *size {
            return true;
        }
        *place = 0;
    }
    false
}

/// Appends the rows of a plane.
fn copy_plane<T: Copy>(
    from: &[T],
    [rows, columns]: [usize; 2],
    [down, along]: [usize; 2],
    to: &mut Vec<T>,
) -> Option<()> {
    if along == 1 {
        for row in 0..rows {
            to.extend_from_slice(from.get(row * down..)?.get(..columns)?);
        }
        return Some(());
    }
    if down == 1 && rows > 1 {
        return copy_turned(from, [rows, columns], along, to);
    }
    for row in 0..rows {
        let line = from.get(row * down..)?;
        let last = (columns - 1) * along;
        let line = line.get(..=last)?;
        if along == 0 {
            to.extend(std::iter::repeat_n(*line.first()?, columns));
        } else {
            to.extend(line.iter().step_by(along));
        }
    }
    Some(())
}

/// As [`copy_plane`], for rows whose heads are neighbours: a few rows at a time,
/// so that what is read of a line of the cache is used at once.
fn copy_turned<T: Copy>(
    from: &[T],
    [rows, columns]: [usize; 2],
    along: usize,
    to: &mut Vec<T>,
) -> Option<()> {
    const BAND: usize = 16;
    let base = to.len();
    to.resize(base + rows * columns, *from.first()?);
    let plane = to.get_mut(base..)?;
    for (band, lines) in plane.chunks_mut(BAND * columns).enumerate() {
        let height = lines.len() / columns;
        for column in 0..columns {
            let heads = from.get(column * along + band * BAND..)?.get(..height)?;
            for (line, head) in lines.chunks_exact_mut(columns).zip(heads) {
                *line.get_mut(column)? = *head;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::FloatTensorOps;
    use burn_flex::Flex;

    use super::*;

    fn tensor(dims: &[usize]) -> FlexTensor {
        let count: usize = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
        FlexTensor::from_data(TensorData::new(values, dims.to_vec()))
    }

    #[track_caller]
    fn check(tensor: &FlexTensor) {
        assert!(Walk::of(tensor.layout()).is_some(), "nothing that is tested here");
        let (given, wanted) = (contiguous(tensor), tensor.to_contiguous());
        assert!(given.layout().is_contiguous());
        assert_eq!(given.into_data(), wanted.into_data());
    }

    #[test]
    fn every_order_of_axes_is_copied_as_burn_does() {
        let x = tensor(&[3, 4, 5, 17]);
        for axes in [[0, 2, 1, 3], [2, 0, 3, 1], [3, 1, 0, 2], [1, 3, 0, 2], [0, 3, 2, 1]] {
            check(&Flex::float_permute(x.clone(), &axes));
        }
        let long = tensor(&[2, 3, 40, 33]);
        check(&Flex::float_permute(long, &[1, 0, 3, 2]));
    }

    #[test]
    fn tensors_are_joined_along_every_axis_as_burn_does() {
        let (small, large) = ([2, 3, 4], [40, 50, 60]);
        for sizes in [small, large] {
            for axis in 0..3 {
                let mut other = sizes;
                other[axis] += 3;
                let turned = Flex::float_swap_dims(tensor(&[sizes[1], sizes[0], sizes[2]]), 0, 1);
                let all = vec![tensor(&sizes), tensor(&other), turned];
                let given = join(&all, axis).unwrap();
                let wanted = Flex::float_cat(all, axis);
                assert_eq!(given.into_data(), wanted.into_data(), "{sizes:?} {axis}");
            }
        }
    }

    #[test]
    fn parts_and_repetitions_are_copied_as_burn_does() {
        let x = tensor(&[3, 4, 5, 6]);
        let part = [(1..3).into(), (0..3).into(), (2..5).into(), (1..5).into()];
        check(&Flex::float_slice(x, &part));
        let column = Flex::float_expand(tensor(&[2, 1, 4, 1]), [2, 3, 4, 5].into());
        check(&column);
    }
}
