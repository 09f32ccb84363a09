use ingle_plugin::{DataType, Result, TensorSpec, failed_precondition, invalid_argument};

use crate::config::{Color, Config, Filter, Input, Layout, OutputType, PerChannel};
use crate::picture::{MAX_SIDE, Size};

/// Pixels of a picture unless `max_pixels` says otherwise: 4096 x 4096. A progressive JPEG of
/// four components takes 12 bytes for each while it is decoded, of a plugin's 256 MiB.
const DEFAULT_MAX_PIXELS: u64 = 16 * 1024 * 1024;

/// Bytes of the tensor that this plugin makes: what a server takes from a plugin's call.
pub(crate) const MAX_OUTPUT_BYTES: usize = 64 * 1024 * 1024;

/// A configuration that was checked, alone and against the model.
pub struct Plan {
    pub(crate) input_name: String,
    pub(crate) source: Source,
    pub(crate) color: Color,
    /// The model's channels are in the reverse of the picture's order.
    pub(crate) reversed: bool,
    pub(crate) crop: Option<f64>,
    /// `None` keeps the size of the picture.
    pub(crate) size: Option<Size>,
    pub(crate) filter: Filter,
    pub(crate) layout: Layout,
    pub(crate) output_name: String,
    pub(crate) values: Values,
    pub(crate) max_pixels: u64,
}

/// What a request holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Encoded,
    Raw(Color),
}

/// What an 8-bit sample becomes.
pub(crate) enum Values {
    Uint8,
    /// For each channel of the model, the number for each sample.
    Float32(Vec<[f32; 256]>),
}

impl Plan {
    pub fn new(config: Config, model_inputs: &[TensorSpec]) -> Result<Self> {
        let source = source(&config)?;
        let model = model_input(config.output_name.as_deref(), model_inputs)?;
        let size = match config.size {
            Some(size) => Some(written_size(size)?),
            None => model_size(model, config.layout),
        };
        let reversed = match source {
            Source::Raw(Color::Bgr) => config.color == Color::Rgb,
            _ => config.color == Color::Bgr,
        };
        let plan = Self {
            input_name: config.input_name.clone().unwrap_or_else(|| "image".into()),
            source,
            color: config.color,
            reversed,
            crop: checked_crop(config.crop)?,
            size,
            filter: config.resize,
            layout: config.layout,
            output_name: model.name.clone(),
            values: values(&config)?,
            max_pixels: config.max_pixels.unwrap_or(DEFAULT_MAX_PIXELS),
        };
        plan.fits_output()?;
        plan.fits_model(model)?;
        Ok(plan)
    }

    /// What clients send.
    pub(crate) fn public_spec(&self) -> TensorSpec {
        match self.source {
            Source::Encoded => TensorSpec::new(&self.input_name, DataType::Bytes, &[])
                .described("a JPEG or PNG file"),
            Source::Raw(color) => {
                let channels = color.channels() as i64;
                TensorSpec::new(&self.input_name, DataType::Uint8, &[-1, -1, channels])
                    .described("height, width, channels")
            }
        }
    }

    pub(crate) fn output_shape(&self, size: Size) -> [u64; 3] {
        let (height, width) = (size.height as u64, size.width as u64);
        let channels = self.color.channels() as u64;
        match self.layout {
            Layout::Nchw => [channels, height, width],
            Layout::Nhwc => [height, width, channels],
        }
    }

    /// The bytes of a tensor of that size; saturating.
    pub(crate) fn output_bytes(&self, size: Size) -> usize {
        let element = match self.values {
            Values::Uint8 => 1,
            Values::Float32(_) => 4,
        };
        let pixels = size.height.saturating_mul(size.width);
        pixels.saturating_mul(self.color.channels()).saturating_mul(element)
    }

    fn data_type(&self) -> DataType {
        match self.values {
            Values::Uint8 => DataType::Uint8,
            Values::Float32(_) => DataType::Float32,
        }
    }

    fn fits_output(&self) -> Result<()> {
        let Some(size) = self.size else { return Ok(()) };
        match self.output_bytes(size) {
            bytes if bytes > MAX_OUTPUT_BYTES => Err(invalid_argument!(
                "config key \"size\": {size} makes {bytes} bytes, the limit is {MAX_OUTPUT_BYTES}"
            )),
            _ => Ok(()),
        }
    }

    /// Whether the model takes what this plan makes, so that a mistake is found at load.
    fn fits_model(&self, model: &TensorSpec) -> Result<()> {
        let made: Vec<i64> = match self.size {
            Some(size) => self.output_shape(size).map(|n| n as i64).to_vec(),
            None => {
                let one = Size { height: 1, width: 1 };
                self.output_shape(one).map(|n| if n == 1 { -1 } else { n as i64 }).to_vec()
            }
        };
        // A model that does not say its rank has an empty shape.
        let unknown = model.shape.is_empty();
        let same_rank = model.shape.len() == made.len();
        let fits = (unknown || same_rank)
            && model
                .shape
                .iter()
                .zip(&made)
                .all(|(&want, &made)| want == -1 || made == -1 || want == made);
        if fits && model.data_type == self.data_type() {
            return Ok(());
        }
        Err(failed_precondition!(
            "the model's input {:?} is {} {:?}, this configuration makes {} {made:?}: \
             see the keys color, size, layout and dtype",
            model.name,
            model.data_type,
            model.shape,
            self.data_type(),
        ))
    }
}

fn source(config: &Config) -> Result<Source> {
    match (config.input, config.input_color) {
        (Input::Raw, color) => Ok(Source::Raw(color.unwrap_or_default())),
        (Input::Encoded, None) => Ok(Source::Encoded),
        (Input::Encoded, Some(_)) => Err(invalid_argument!(
            "config key \"input_color\": only for input = \"raw\"; a file says its own colours"
        )),
    }
}

fn model_input<'a>(name: Option<&str>, inputs: &'a [TensorSpec]) -> Result<&'a TensorSpec> {
    let names = || inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, inputs) {
        (None, [only]) => Ok(only),
        (None, _) => Err(invalid_argument!(
            "config key \"output_name\": required, as the model has {} inputs ({})",
            inputs.len(),
            names()
        )),
        (Some(name), _) => inputs.iter().find(|input| input.name == name).ok_or_else(|| {
            let names = names();
            invalid_argument!(
                "config key \"output_name\": the model has no input {name:?}, only: {names}"
            )
        }),
    }
}

fn written_size([height, width]: [u32; 2]) -> Result<Size> {
    let side = 1..=MAX_SIDE;
    if side.contains(&height.into()) && side.contains(&width.into()) {
        return Ok(Size { height: height as usize, width: width as usize });
    }
    Err(invalid_argument!(
        "config key \"size\": [{height}, {width}] is not between 1 and {MAX_SIDE}"
    ))
}

/// The size that the model's input fixes, if it does.
fn model_size(model: &TensorSpec, layout: Layout) -> Option<Size> {
    let (height, width) = match (layout, model.shape.as_slice()) {
        (Layout::Nchw, &[_, height, width]) | (Layout::Nhwc, &[height, width, _]) => {
            (height, width)
        }
        _ => return None,
    };
    let side = |length: i64| (1..=MAX_SIDE as i64).contains(&length).then_some(length as usize);
    Some(Size { height: side(height)?, width: side(width)? })
}

fn checked_crop(crop: Option<f64>) -> Result<Option<f64>> {
    match crop {
        Some(fraction) if !(fraction > 0.0 && fraction <= 1.0) => {
            Err(invalid_argument!("config key \"crop\": {fraction} is not over 0 and at most 1"))
        }
        _ => Ok(crop),
    }
}

fn values(config: &Config) -> Result<Values> {
    let channels = config.color.channels();
    if config.dtype == OutputType::Uint8 {
        return match (&config.mean, &config.scale) {
            (None, None) => Ok(Values::Uint8),
            (Some(_), _) => Err(not_for_uint8("mean")),
            (None, Some(_)) => Err(not_for_uint8("scale")),
        };
    }
    let means = per_channel("mean", config.mean.as_ref(), 0.0, channels)?;
    let scales = per_channel("scale", config.scale.as_ref(), 1.0, channels)?;
    if scales.contains(&0.0) {
        return Err(invalid_argument!("config key \"scale\": it divides, so it cannot be 0"));
    }
    let table = |(mean, scale)| std::array::from_fn(|sample| (sample as f32 - mean) / scale);
    Ok(Values::Float32(means.into_iter().zip(scales).map(table).collect()))
}

fn not_for_uint8(key: &str) -> ingle_plugin::Error {
    invalid_argument!("config key {key:?}: only for dtype = \"float32\"")
}

fn per_channel(
    key: &str,
    written: Option<&PerChannel>,
    default: f32,
    channels: usize,
) -> Result<Vec<f32>> {
    let numbers = match written {
        None => vec![default; channels],
        Some(PerChannel::Same(number)) => vec![*number; channels],
        Some(PerChannel::Each(numbers)) => numbers.clone(),
    };
    if numbers.len() != channels {
        return Err(invalid_argument!(
            "config key {key:?}: {} numbers for {channels} channels",
            numbers.len()
        ));
    }
    match numbers.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(invalid_argument!("config key {key:?}: {number} is not finite")),
        None => Ok(numbers),
    }
}
