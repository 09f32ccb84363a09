use std::borrow::Cow;
use std::fmt;

use ingle_plugin::{Code, Error, Tensor, TensorData};
use thiserror::Error;

/// The longest side of a picture, in pixels.
pub(crate) const MAX_SIDE: u64 = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Why a picture cannot become a tensor. Sizes are width x height.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    #[error("it is empty")]
    Empty,
    #[error("not a JPEG or PNG (starts with {start})")]
    NotAPicture { start: String },
    #[error("{width}x{height} pixels, the limit is {limit} on a side")]
    TooLong { width: u64, height: u64, limit: u64 },
    #[error("{width}x{height} pixels, the limit is {limit} in total")]
    TooManyPixels { width: u64, height: u64, limit: u64 },
    #[error("the {format} is damaged or cut short")]
    Damaged { format: &'static str },
    #[error("a JPEG {feature}, which is not supported")]
    Unsupported { feature: &'static str },
    #[error("the shape is {shape:?}, expected [height, width, {channels}]")]
    WrongShape { shape: Vec<u64>, channels: usize },
    #[error("{size} pixels make a tensor of {bytes} bytes, the limit is {limit}")]
    LargeTensor { size: Size, bytes: usize, limit: usize },
    #[error("its tensor cannot be made")]
    Output(#[source] Error),
}

impl Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Output(error) => error.code,
            _ => Code::InvalidArgument,
        }
    }

    /// As the plugin's answer, about the input called `name`.
    pub(crate) fn of(self, name: &str) -> Error {
        match self {
            Self::Output(error) => error,
            _ => Error::new(self.code(), format!("{name}: {self}")),
        }
    }
}

/// 8-bit samples, interleaved: grey, grey-alpha, RGB or RGB-alpha (or BGR, if it came raw).
pub(crate) struct Picture<'a> {
    pub(crate) size: Size,
    channels: usize,
    samples: Cow<'a, [u8]>,
}

impl<'a> Picture<'a> {
    pub(crate) fn new(size: Size, channels: usize, samples: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { size, channels, samples: samples.into() }
    }

    /// A uint8 tensor [height, width, channels].
    pub(crate) fn from_tensor(
        tensor: &'a Tensor,
        channels: usize,
        max_pixels: u64,
    ) -> Result<Self, Refusal> {
        let wrong = || Refusal::WrongShape { shape: tensor.shape.clone(), channels };
        let (&[height, width, depth], TensorData::Dense(samples)) =
            (tensor.shape.as_slice(), &tensor.data)
        else {
            return Err(wrong());
        };
        let size = check_size(width, height, max_pixels)?;
        if depth != channels as u64 || samples.len() != size.height * size.width * channels {
            return Err(wrong());
        }
        Ok(Self::new(size, channels, samples))
    }

    pub(crate) fn is_gray(&self) -> bool {
        self.channels < 3
    }

    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// The samples of a row's part; empty outside of the picture.
    pub(crate) fn row(&self, y: usize, x: usize, width: usize) -> &[u8] {
        let start = (y * self.size.width + x) * self.channels;
        self.samples.get(start..start + width * self.channels).unwrap_or_default()
    }
}

/// The size as numbers that are safe to compute with, refused before anything is allocated.
pub(crate) fn check_size(width: u64, height: u64, max_pixels: u64) -> Result<Size, Refusal> {
    if width == 0 || height == 0 {
        return Err(Refusal::Empty);
    }
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(Refusal::TooLong { width, height, limit: MAX_SIDE });
    }
    if width * height > max_pixels {
        return Err(Refusal::TooManyPixels { width, height, limit: max_pixels });
    }
    Ok(Size { height: height as usize, width: width as usize })
}

/// The part of a picture that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) size: Size,
}

impl Region {
    /// The whole picture, or the square in its centre whose side is that fraction of the
    /// shorter side.
    pub(crate) fn centre(of: Size, fraction: Option<f64>) -> Self {
        let Some(fraction) = fraction else { return Self { x: 0, y: 0, size: of } };
        let shorter = of.height.min(of.width);
        let side = ((fraction * shorter as f64) as usize).clamp(1, shorter);
        let offset = |length: usize| (length - side).div_ceil(2);
        let size = Size { height: side, width: side };
        Self { x: offset(of.width), y: offset(of.height), size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_centre_crop_is_a_square_with_the_larger_half_before_it() {
        let size = Size { height: 480, width: 641 };
        let region = Region::centre(size, Some(0.875));
        assert_eq!(region, Region { x: 111, y: 30, size: Size { height: 420, width: 420 } });
    }

    #[test]
    fn a_crop_of_next_to_nothing_is_one_pixel() {
        let region = Region::centre(Size { height: 3, width: 3 }, Some(0.1));
        assert_eq!(region, Region { x: 1, y: 1, size: Size { height: 1, width: 1 } });
    }

    #[test]
    fn sizes_over_the_limits_are_refused() {
        assert_eq!(
            check_size(60_000, 60_000, 100).unwrap_err().to_string(),
            "60000x60000 pixels, the limit is 16384 on a side"
        );
        assert_eq!(
            check_size(11, 10, 100).unwrap_err().to_string(),
            "11x10 pixels, the limit is 100 in total"
        );
        assert_eq!(check_size(0, 10, 100).unwrap_err(), Refusal::Empty);
        assert!(check_size(10, 10, 100).is_ok());
    }

    #[test]
    fn a_raw_tensor_must_have_the_shape_that_it_says() {
        let tensor = Tensor::dense("x", &[2, 1, 3], &[0_u8; 6]).unwrap();
        assert!(Picture::from_tensor(&tensor, 3, 100).is_ok());
        let gray = Picture::from_tensor(&tensor, 1, 100).err().unwrap();
        assert_eq!(gray.to_string(), "the shape is [2, 1, 3], expected [height, width, 1]");
        let liar = Tensor { shape: vec![3, 1, 3], ..tensor };
        assert!(Picture::from_tensor(&liar, 3, 100).is_err());
    }
}
