//! From a picture's samples to the model's tensor: colour, crop, resize, numbers, layout.

use ingle_plugin::{Element, Tensor};

use crate::config::{Color, Layout};
use crate::picture::{Picture, Refusal, Region, Size};
use crate::plan::{MAX_OUTPUT_BYTES, Plan, Source, Values};
use crate::resample::{Resampler, Rows};

/// ITU-R 601-2 in 16 bits, as Pillow's conversion to "L".
const LUMA: [u32; 3] = [19_595, 38_470, 7_471];

/// For a table lookup that gives the sample itself.
const IDENTITY: [u8; 256] = {
    let mut table = [0; 256];
    let mut sample = 0;
    while sample < 256 {
        table[sample] = sample as u8;
        sample += 1;
    }
    table
};

pub(crate) fn render(plan: &Plan, picture: &Picture<'_>) -> Result<Tensor, Refusal> {
    let region = Region::centre(picture.size, plan.crop);
    let size = plan.size.unwrap_or(region.size);
    let bytes = plan.output_bytes(size);
    if bytes > MAX_OUTPUT_BYTES {
        return Err(Refusal::LargeTensor { size, bytes, limit: MAX_OUTPUT_BYTES });
    }
    let shape = plan.output_shape(size);
    let job = Job { plan, picture, region, size };
    match &plan.values {
        Values::Uint8 => job.tensor(&shape, &[IDENTITY; 3]),
        Values::Float32(tables) => job.tensor(&shape, tables),
    }
}

struct Job<'a> {
    plan: &'a Plan,
    picture: &'a Picture<'a>,
    region: Region,
    size: Size,
}

impl Job<'_> {
    fn tensor<T: Element>(&self, shape: &[u64], tables: &[[T; 256]]) -> Result<Tensor, Refusal> {
        Tensor::dense_with(&self.plan.output_name, shape, |out| self.fill(tables, out))
            .map_err(Refusal::Output)
    }

    fn fill<T: Element>(&self, tables: &[[T; 256]], out: &mut [T]) {
        let Self { picture, region, .. } = *self;
        let order: &[usize] = match (self.plan.color, picture.is_gray()) {
            (Color::Gray, _) => &[0],
            (_, true) => &[0, 0, 0],
            (_, false) if self.plan.reversed => &[2, 1, 0],
            (_, false) => &[0, 1, 2],
        };
        let channels: Vec<_> = order.iter().copied().zip(tables).collect();
        match (picture.is_gray(), self.plan.color) {
            (true, _) => self.resize(&GrayRows { picture, region }, &channels, out),
            (false, Color::Gray) => {
                let mut weights = LUMA;
                if self.plan.source == Source::Raw(Color::Bgr) {
                    weights.reverse();
                }
                self.resize(&LumaRows { picture, region, weights }, &channels, out);
            }
            (false, _) => self.resize(&ColorRows { picture, region }, &channels, out),
        }
    }

    fn resize<T: Element, const C: usize>(
        &self,
        rows: &impl Rows<C>,
        channels: &[(usize, &[T; 256])],
        out: &mut [T],
    ) {
        let mut resampler = Resampler::new(self.region.size, self.size, self.plan.filter);
        for y in 0..self.size.height {
            let row = resampler.row(rows, y);
            match self.plan.layout {
                Layout::Nchw => write_planes(row, channels, (y, self.size), out),
                Layout::Nhwc => write_pixels(row, channels, (y, self.size), out),
            }
        }
    }
}

fn write_planes<T: Element, const C: usize>(
    row: &[[u8; C]],
    channels: &[(usize, &[T; 256])],
    (y, size): (usize, Size),
    out: &mut [T],
) {
    let planes = out.chunks_exact_mut(size.height * size.width);
    for (plane, (lane, table)) in planes.zip(channels) {
        let Some(line) = plane.chunks_exact_mut(size.width).nth(y) else { return };
        for (value, pixel) in line.iter_mut().zip(row) {
            if let Some(sample) = pixel.get(*lane) {
                *value = table[usize::from(*sample)];
            }
        }
    }
}

fn write_pixels<T: Element, const C: usize>(
    row: &[[u8; C]],
    channels: &[(usize, &[T; 256])],
    (y, size): (usize, Size),
    out: &mut [T],
) {
    let Some(line) = out.chunks_exact_mut(size.width * channels.len()).nth(y) else { return };
    for (values, pixel) in line.chunks_exact_mut(channels.len()).zip(row) {
        for (value, (lane, table)) in values.iter_mut().zip(channels) {
            if let Some(sample) = pixel.get(*lane) {
                *value = table[usize::from(*sample)];
            }
        }
    }
}

/// A grey picture, with or without alpha, as it is.
struct GrayRows<'a> {
    picture: &'a Picture<'a>,
    region: Region,
}

impl Rows<1> for GrayRows<'_> {
    fn read<'a>(&self, y: usize, out: impl Iterator<Item = &'a mut [u8; 1]>) {
        let row = region_row(self.picture, self.region, y);
        for (pixel, samples) in out.zip(row.chunks_exact(self.picture.channels())) {
            if let Some(gray) = samples.first() {
                *pixel = [*gray];
            }
        }
    }
}

/// A colour picture made grey.
struct LumaRows<'a> {
    picture: &'a Picture<'a>,
    region: Region,
    weights: [u32; 3],
}

impl Rows<1> for LumaRows<'_> {
    fn read<'a>(&self, y: usize, out: impl Iterator<Item = &'a mut [u8; 1]>) {
        let row = region_row(self.picture, self.region, y);
        let [a, b, c] = self.weights;
        for (pixel, samples) in out.zip(row.chunks_exact(self.picture.channels())) {
            if let [x, y, z, ..] = *samples {
                let sum = u32::from(x) * a + u32::from(y) * b + u32::from(z) * c;
                *pixel = [((sum + 0x8000) >> 16) as u8];
            }
        }
    }
}

/// A colour picture in its own order; the fourth lane is for speed only.
struct ColorRows<'a> {
    picture: &'a Picture<'a>,
    region: Region,
}

impl Rows<4> for ColorRows<'_> {
    fn read<'a>(&self, y: usize, out: impl Iterator<Item = &'a mut [u8; 4]>) {
        let row = region_row(self.picture, self.region, y);
        if self.picture.channels() == 3 {
            for (pixel, &[x, y, z]) in out.zip(row.as_chunks().0) {
                *pixel = [x, y, z, 0];
            }
        } else {
            for (pixel, samples) in out.zip(row.as_chunks().0) {
                *pixel = *samples;
            }
        }
    }
}

fn region_row<'a>(picture: &'a Picture<'_>, region: Region, y: usize) -> &'a [u8] {
    picture.row(region.y + y, region.x, region.size.width)
}
