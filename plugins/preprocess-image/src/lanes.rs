//! Weighted sums of 16 samples at a time. Spelled out in SIMD for WebAssembly, since the compiler
//! finds another, much slower, way; the same in plain arithmetic elsewhere.

/// Samples that are worked on together.
pub(crate) const LANES: usize = 16;

/// Fraction bits of a weight: 32, less 8 of a sample and 2 of headroom for negative weights.
pub(crate) const PRECISION: u32 = 32 - 8 - 2;

/// So that dropping the fraction rounds to the nearest.
const HALF: i32 = 1 << (PRECISION - 1);

#[cfg(target_family = "wasm")]
mod simd {
    use std::arch::wasm32::{
        i16x8_narrow_i32x4, i32x4_add, i32x4_mul, i32x4_shr, i32x4_splat, u8x16_narrow_i16x8,
        u16x8_extend_high_u8x16, u16x8_extend_low_u8x16, u32x4_extend_high_u16x8,
        u32x4_extend_low_u16x8, u64x2, u64x2_extract_lane, v128,
    };

    use super::{HALF, LANES, PRECISION};

    #[derive(Clone, Copy)]
    pub(crate) struct Sums([v128; 4]);

    impl Sums {
        pub(crate) fn new() -> Self {
            Self([i32x4_splat(HALF); 4])
        }

        pub(crate) fn add(&mut self, samples: [u8; LANES], weight: i32) {
            let bits = u128::from_le_bytes(samples);
            let samples = u64x2(bits as u64, (bits >> 64) as u64);
            let (low, high) = (u16x8_extend_low_u8x16(samples), u16x8_extend_high_u8x16(samples));
            let quarters = [
                u32x4_extend_low_u16x8(low),
                u32x4_extend_high_u16x8(low),
                u32x4_extend_low_u16x8(high),
                u32x4_extend_high_u16x8(high),
            ];
            let weight = i32x4_splat(weight);
            for (sum, samples) in self.0.iter_mut().zip(quarters) {
                *sum = i32x4_add(*sum, i32x4_mul(samples, weight));
            }
        }

        /// The sums as samples: narrowing saturates.
        pub(crate) fn samples(self) -> [u8; LANES] {
            let [a, b, c, d] = self.0.map(|sums| i32x4_shr(sums, PRECISION));
            let samples = u8x16_narrow_i16x8(i16x8_narrow_i32x4(a, b), i16x8_narrow_i32x4(c, d));
            let (low, high) = (u64x2_extract_lane::<0>(samples), u64x2_extract_lane::<1>(samples));
            (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod plain {
    use super::{HALF, LANES, PRECISION};

    #[derive(Clone, Copy)]
    pub(crate) struct Sums([i32; LANES]);

    impl Sums {
        pub(crate) fn new() -> Self {
            Self([HALF; LANES])
        }

        pub(crate) fn add(&mut self, samples: [u8; LANES], weight: i32) {
            for (sum, sample) in self.0.iter_mut().zip(samples) {
                *sum += i32::from(sample) * weight;
            }
        }

        /// The sums as samples.
        pub(crate) fn samples(self) -> [u8; LANES] {
            self.0.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8)
        }
    }
}

#[cfg(not(target_family = "wasm"))]
pub(crate) use plain::Sums;
#[cfg(target_family = "wasm")]
pub(crate) use simd::Sums;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_round_to_the_nearest_and_stay_within_samples() {
        let one = 1 << PRECISION;
        let sum = |weights: &[i32]| {
            let mut sums = Sums::new();
            for weight in weights {
                sums.add([200; LANES], *weight);
            }
            sums.samples()[0]
        };
        assert_eq!(sum(&[one]), 200);
        assert_eq!(sum(&[one / 400 - 1]), 0);
        assert_eq!(sum(&[one / 400 + 1]), 1);
        assert_eq!(sum(&[one, one]), 255);
        assert_eq!(sum(&[-one]), 0);
    }
}
