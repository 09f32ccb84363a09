//! Arithmetic on shapes.

use crate::OpError;

/// The place of an axis that may count from the end.
pub(crate) fn axis_at(axis: i64, rank: usize) -> Result<usize, OpError> {
    let from_end = || axis.checked_add(i64::try_from(rank).ok()?);
    let place = if axis < 0 { from_end() } else { Some(axis) };
    place
        .and_then(|place| usize::try_from(place).ok())
        .filter(|&place| place < rank)
        .ok_or(OpError::Axis { axis, rank })
}

/// As [`axis_at`], where `rank` itself is a place too: between two dimensions.
pub(crate) fn split_at(axis: i64, rank: usize) -> Result<usize, OpError> {
    if usize::try_from(axis) == Ok(rank) { Ok(rank) } else { axis_at(axis, rank) }
}

/// The places of several axes, in rising order, each once.
pub(crate) fn axes_at(axes: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut places = axes.iter().map(|&a| axis_at(a, rank)).collect::<Result<Vec<_>, _>>()?;
    places.sort_unstable();
    if let Some(twice) = places.windows(2).find(|pair| pair.first() == pair.last()) {
        let axis = twice.first().copied().unwrap_or_default();
        return Err(OpError::Axis { axis: i64::try_from(axis).unwrap_or_default(), rank });
    }
    Ok(places)
}

/// `dims` with ones in front, up to `rank`.
pub(crate) fn with_rank(dims: &[usize], rank: usize) -> Vec<usize> {
    let mut padded = vec![1; rank.saturating_sub(dims.len())];
    padded.extend_from_slice(dims);
    padded
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast(left: &[usize], right: &[usize]) -> Result<Vec<usize>, OpError> {
    let rank = left.len().max(right.len());
    let pairs = with_rank(left, rank).into_iter().zip(with_rank(right, rank));
    pairs
        .map(|pair| match pair {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| OpError::Mismatch {
            what: "they do not broadcast",
            left: left.to_vec(),
            right: right.to_vec(),
        })
}

/// For each element of shape `to`, the place of the element of shape `from` that
/// it is broadcast from.
pub(crate) fn broadcast_places(from: &[usize], to: &[usize]) -> impl Iterator<Item = usize> {
    let from = with_rank(from, to.len());
    let strides: Vec<usize> = strides(&from)
        .into_iter()
        .zip(&from)
        .map(|(stride, &size)| if size == 1 { 0 } else { stride })
        .collect();
    let to = to.to_vec();
    let count: usize = to.iter().product();
    (0..count).map(move |index| {
        let mut rest = index;
        let mut place = 0;
        for (&size, &stride) in to.iter().zip(&strides).rev() {
            place += (rest % size) * stride;
            rest /= size;
        }
        place
    })
}

/// How far apart neighbours along each axis lie in row-major order.
pub(crate) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    let mut step = 1usize;
    for (stride, &size) in strides.iter_mut().zip(dims).rev() {
        *stride = step;
        step = step.saturating_mul(size);
    }
    strides
}

/// Sizes as the numbers that ONNX's shape tensors hold.
pub(crate) fn to_ints(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect()
}

/// Sizes from the numbers of a shape tensor.
pub(crate) fn to_sizes(values: &[i64], what: &'static str) -> Result<Vec<usize>, OpError> {
    let size = |&value: &i64| usize::try_from(value).map_err(|_| OpError::Value { what, value });
    values.iter().map(size).collect()
}

/// The product of sizes that come from outside.
pub(crate) fn product(dims: &[usize]) -> Result<usize, OpError> {
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .ok_or_else(|| OpError::Dims { what: "a tensor", dims: dims.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_from_the_right() {
        assert_eq!(broadcast(&[2, 1, 3], &[4, 1]).unwrap(), [2, 4, 3]);
        assert_eq!(broadcast(&[], &[2]).unwrap(), [2]);
        assert_eq!(broadcast(&[1], &[0]).unwrap(), [0]);
        assert!(broadcast(&[2], &[3]).is_err());
        assert_eq!(broadcast_places(&[2, 1], &[2, 3]).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
        assert_eq!(broadcast_places(&[3], &[2, 3]).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn axes_count_from_both_ends() {
        assert_eq!((axis_at(-1, 3), axis_at(0, 3)), (Ok(2), Ok(0)));
        for axis in [3, -4, i64::MIN, i64::MAX] {
            assert!(axis_at(axis, 3).is_err(), "{axis}");
        }
        assert_eq!((split_at(3, 3), split_at(-1, 3)), (Ok(3), Ok(2)));
        assert_eq!(axes_at(&[-1, 0], 3).unwrap(), [0, 2]);
        assert!(axes_at(&[2, -1], 3).is_err());
    }
}
