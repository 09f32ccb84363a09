//! The configuration as it is written; [`Plan`](crate::Plan) is what it means.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub(crate) input: Input,
    pub(crate) input_name: Option<String>,
    pub(crate) input_color: Option<Color>,
    #[serde(default)]
    pub(crate) color: Color,
    pub(crate) crop: Option<f64>,
    pub(crate) size: Option<[u32; 2]>,
    #[serde(default)]
    pub(crate) resize: Filter,
    pub(crate) mean: Option<PerChannel>,
    pub(crate) scale: Option<PerChannel>,
    #[serde(default)]
    pub(crate) layout: Layout,
    #[serde(default)]
    pub(crate) dtype: OutputType,
    pub(crate) output_name: Option<String>,
    pub(crate) max_pixels: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Input {
    /// A JPEG or PNG file.
    #[default]
    Encoded,
    /// uint8 [height, width, channels].
    Raw,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Color {
    #[default]
    Rgb,
    Bgr,
    Gray,
}

impl Color {
    pub(crate) const fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }
}

/// Pillow's filters of the same names, which widen with the reduction.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filter {
    #[default]
    Bilinear,
    Bicubic,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layout {
    #[default]
    Nchw,
    Nhwc,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutputType {
    #[default]
    Float32,
    Uint8,
}

/// One number for all channels, or one for each in the order of `color`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PerChannel {
    Same(f32),
    Each(Vec<f32>),
}

impl<'de> Deserialize<'de> for PerChannel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PerChannelVisitor)
    }
}

struct PerChannelVisitor;

impl<'de> Visitor<'de> for PerChannelVisitor {
    type Value = PerChannel;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a list of numbers")
    }

    fn visit_u64<E>(self, number: u64) -> Result<PerChannel, E> {
        Ok(PerChannel::Same(number as f32))
    }

    fn visit_i64<E>(self, number: i64) -> Result<PerChannel, E> {
        Ok(PerChannel::Same(number as f32))
    }

    fn visit_f64<E>(self, number: f64) -> Result<PerChannel, E> {
        Ok(PerChannel::Same(number as f32))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PerChannel, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = seq.next_element()? {
            numbers.push(number);
        }
        Ok(PerChannel::Each(numbers))
    }
}
