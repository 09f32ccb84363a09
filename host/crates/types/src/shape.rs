use std::fmt;

use crate::TensorError;

/// The sizes of a tensor's dimensions. The product is known not to overflow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    dims: Vec<usize>,
    elements: usize,
}

impl Shape {
    /// The highest rank that a tensor may have (TensorFlow's own bound).
    pub const MAX_RANK: usize = 254;

    /// # Errors
    /// [`TensorError::Rank`] above [`Shape::MAX_RANK`], [`TensorError::Overflow`]
    /// where the number of elements does not fit an `isize`.
    pub fn new(dims: impl Into<Vec<usize>>) -> Result<Self, TensorError> {
        let dims = dims.into();
        if dims.len() > Self::MAX_RANK {
            return Err(TensorError::Rank { rank: dims.len() });
        }
        // Zero-sized dimensions must not hide an overflow of the others.
        dims.iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))
            .filter(|&n| n <= isize::MAX as usize)
            .ok_or_else(|| TensorError::Overflow { dims: dims.clone() })?;
        let elements = dims.iter().product();
        Ok(Self { dims, elements })
    }

    pub fn scalar() -> Self {
        Self { dims: Vec::new(), elements: 1 }
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    pub fn elements(&self) -> usize {
        self.elements
    }
}

/// `[2,3]`; a scalar is `[]`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_dims(f, &self.dims)
    }
}

pub(crate) fn fmt_dims<D: fmt::Display>(f: &mut fmt::Formatter<'_>, dims: &[D]) -> fmt::Result {
    f.write_str("[")?;
    for (i, dim) in dims.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        dim.fmt(f)?;
    }
    f.write_str("]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_overflows_is_refused_even_beside_a_zero() {
        assert!(Shape::new([usize::MAX, 2]).is_err());
        assert!(Shape::new([0, usize::MAX, 2]).is_err());
        assert_eq!(Shape::new([0, 5]).unwrap().elements(), 0);
        assert_eq!(Shape::scalar().elements(), 1);
    }

    #[test]
    fn ranks_end_at_the_bound() {
        assert!(Shape::new(vec![1; Shape::MAX_RANK]).is_ok());
        assert!(Shape::new(vec![1; Shape::MAX_RANK + 1]).is_err());
    }
}
