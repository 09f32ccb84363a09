//! Which vector instructions this machine has, asked while running: one binary
//! serves every processor.

use pulp::{Scalar, Simd, WithSimd};

/// Does the work with the widest vectors there are.
pub(super) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return Simd::vectorize(simd, work);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return Simd::vectorize(simd, work);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(simd) = pulp::aarch64::Neon::try_new() {
        return Simd::vectorize(simd, work);
    }
    Simd::vectorize(Scalar, work)
}

/// How large a tile of sums fits the registers: rows, and columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TileSize {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl TileSize {
    pub(super) const MOST_ROWS: usize = 12;
    pub(super) const MOST_COLUMNS: usize = 32;

    pub(super) fn of<S: Simd>() -> Self {
        let height = if S::REGISTER_COUNT >= 32 { Self::MOST_ROWS } else { 6 };
        Self { height, width: 2 * S::F32_LANES }
    }

    /// For the machine that this runs on.
    pub(super) fn here() -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = TileSize;

            fn with_simd<S: Simd>(self, _: S) -> TileSize {
                TileSize::of::<S>()
            }
        }
        dispatch(Ask)
    }
}
