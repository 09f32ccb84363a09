use std::io::Cursor;

use ingle_plugin::log;
use png::Transformations;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use crate::picture::{Picture, Refusal, check_size};

const JPEG_START: &[u8] = &[0xFF, 0xD8, 0xFF];
const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Memory of the PNG decoder beside the picture itself, in bytes.
const PNG_SCRATCH_BYTES: usize = 16 * 1024 * 1024;

/// A JPEG or PNG as 8-bit samples; the format is told by the first bytes.
pub(crate) fn decode(file: &[u8], max_pixels: u64) -> Result<Picture<'static>, Refusal> {
    if file.starts_with(JPEG_START) {
        decode_jpeg(file, max_pixels)
    } else if file.starts_with(PNG_START) {
        decode_png(file, max_pixels)
    } else if file.is_empty() {
        Err(Refusal::Empty)
    } else {
        let start: Vec<_> = file.iter().take(4).map(|byte| format!("{byte:02X}")).collect();
        Err(Refusal::NotAPicture { start: start.join(" ") })
    }
}

fn decode_jpeg(file: &[u8], max_pixels: u64) -> Result<Picture<'static>, Refusal> {
    // Strict: a file that was cut short is refused, not filled up with grey. The decoder's own
    // limit would hide the size, which is checked below before any pixel is decoded.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(jpeg_refusal)?;
    let size = match decoder.dimensions() {
        Some((width, height)) => check_size(width as u64, height as u64, max_pixels)?,
        None => return Err(Refusal::Damaged { format: "JPEG" }),
    };
    let (color, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        Some(ColorSpace::MultiBand(_)) => {
            return Err(Refusal::Unsupported { feature: "with two components" });
        }
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(color));
    let samples = decoder.decode().map_err(jpeg_refusal)?;
    Ok(Picture::new(size, channels, samples))
}

fn jpeg_refusal(error: DecodeErrors) -> Refusal {
    log!(Debug, "JPEG: {error:?}");
    match error {
        DecodeErrors::Unsupported(_) => Refusal::Unsupported {
            feature: "that is lossless, hierarchical or arithmetically coded",
        },
        DecodeErrors::ZeroError => Refusal::Empty,
        _ => Refusal::Damaged { format: "JPEG" },
    }
}

fn decode_png(file: &[u8], max_pixels: u64) -> Result<Picture<'static>, Refusal> {
    let limits = png::Limits { bytes: PNG_SCRATCH_BYTES };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let (width, height) = decoder.read_header_info().map_err(png_refusal)?.size();
    let size = check_size(width.into(), height.into(), max_pixels)?;
    let mut reader = decoder.read_info().map_err(png_refusal)?;
    let channels = reader.output_color_type().0.samples();
    let mut samples = vec![0; size.height * size.width * channels];
    reader.next_frame(&mut samples).map_err(png_refusal)?;
    Ok(Picture::new(size, channels, samples))
}

fn png_refusal(error: png::DecodingError) -> Refusal {
    log!(Debug, "PNG: {error}");
    Refusal::Damaged { format: "PNG" }
}
