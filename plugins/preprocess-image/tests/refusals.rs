//! What the plugin refuses, and in which words.

#![expect(clippy::unwrap_used, reason = "a test")]

use ingle_plugin::{
    Code, DataType, Error, InitOptions, Preprocess, RequestContext, Tensor, TensorSpec,
};
use preprocess_image::PreprocessImage;

const RGB_PNG: &[u8] = include_bytes!("golden/rgb.png");
const ADAM7_PNG: &[u8] = include_bytes!("golden/palette-trns.png");
const BASELINE_JPEG: &[u8] = include_bytes!("golden/420.jpg");
const PROGRESSIVE_JPEG: &[u8] = include_bytes!("golden/progressive.jpg");
const CMYK_JPEG: &[u8] = include_bytes!("golden/cmyk.jpg");

fn model(shape: &[i64]) -> Vec<TensorSpec> {
    vec![TensorSpec::new("images", DataType::Float32, shape)]
}

fn init_for(config: &str, model_inputs: Vec<TensorSpec>) -> Result<PreprocessImage, Error> {
    let config = config.to_string();
    PreprocessImage::init(InitOptions { config, model_inputs, ..InitOptions::default() })
}

fn init(config: &str) -> Result<PreprocessImage, Error> {
    init_for(config, model(&[3, 8, 8]))
}

fn init_refusal(config: &str) -> String {
    init(config).err().unwrap().message
}

fn process(plugin: &mut PreprocessImage, input: Tensor) -> Result<Tensor, Error> {
    let prepared = plugin.process(&RequestContext::default(), vec![input])?;
    Ok(prepared.examples[0][0].clone())
}

fn encoded(file: &[u8]) -> Tensor {
    Tensor::bytes("image", &[], vec![file.to_vec()]).unwrap()
}

fn refusal(config: &str, input: Tensor) -> String {
    let error = process(&mut init(config).unwrap(), input).unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    error.message
}

/// The start of a PNG that says it is that large; nothing follows.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let checksum = crc32(&header);
    [&b"\x89PNG\r\n\x1a\n\0\0\0\x0d"[..], &header, &checksum.to_be_bytes()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    };
    !bytes.iter().fold(!0, step)
}

/// A JPEG whose frame header says it is that large.
fn jpeg_of(width: u16, height: u16) -> Vec<u8> {
    let mut file = BASELINE_JPEG.to_vec();
    let frame = file.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    file[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    file[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    file
}

#[test]
fn a_file_of_another_kind_is_named_by_its_first_bytes() {
    assert_eq!(
        refusal("{}", encoded(b"GIF89a...")),
        "image: not a JPEG or PNG (starts with 47 49 46 38)"
    );
    assert_eq!(refusal("{}", encoded(b"<")), "image: not a JPEG or PNG (starts with 3C)");
    assert_eq!(refusal("{}", encoded(b"")), "image: it is empty");
}

#[test]
fn a_huge_picture_is_refused_by_its_header() {
    assert_eq!(
        refusal("{}", encoded(&png_of(60_000, 60_000))),
        "image: 60000x60000 pixels, the limit is 16384 on a side"
    );
    assert_eq!(
        refusal("{}", encoded(&jpeg_of(60_000, 8))),
        "image: 60000x8 pixels, the limit is 16384 on a side"
    );
    for file in [png_of(5000, 4000), jpeg_of(5000, 4000)] {
        assert_eq!(
            refusal("{}", encoded(&file)),
            "image: 5000x4000 pixels, the limit is 16777216 in total"
        );
    }
    assert_eq!(
        refusal(r#"{"max_pixels": 1000}"#, encoded(RGB_PNG)),
        "image: 41x30 pixels, the limit is 1000 in total"
    );
}

#[test]
fn a_file_cut_short_is_refused() {
    for file in [BASELINE_JPEG, PROGRESSIVE_JPEG, CMYK_JPEG] {
        for length in [4, file.len() / 3, file.len() / 2] {
            assert_eq!(
                refusal("{}", encoded(&file[..length])),
                "image: the JPEG is damaged or cut short"
            );
        }
    }
    for length in [8, 30, RGB_PNG.len() / 2] {
        assert_eq!(
            refusal("{}", encoded(&RGB_PNG[..length])),
            "image: the PNG is damaged or cut short"
        );
    }
}

#[test]
fn no_damage_makes_it_panic() {
    let mut plugin = init("{}").unwrap();
    for file in [RGB_PNG, ADAM7_PNG, BASELINE_JPEG, PROGRESSIVE_JPEG, CMYK_JPEG] {
        let mut state = 1_u32;
        for _ in 0..300 {
            let mut damaged = file.to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % damaged.len();
                damaged[at] = state as u8;
            }
            // Either answer is right: much damage makes another valid picture.
            if let Err(error) = process(&mut plugin, encoded(&damaged)) {
                assert_eq!(error.code, Code::InvalidArgument);
            }
        }
    }
}

#[test]
fn a_wrong_input_is_named() {
    let raw = Tensor::dense("image", &[2, 2, 3], &[0_u8; 12]).unwrap();
    assert_eq!(refusal("{}", raw.clone()), "image: the data type is uint8, not bytes");
    let config = r#"{"input": "raw"}"#;
    assert_eq!(refusal(config, encoded(b"x")), "image: the data type is bytes, not uint8");
    let flat = Tensor { shape: vec![12], ..raw.clone() };
    assert_eq!(refusal(config, flat), "image: the shape is [12], expected [height, width, 3]");
    let gray = r#"{"input": "raw", "input_color": "gray"}"#;
    assert_eq!(
        refusal(gray, raw.clone()),
        "image: the shape is [2, 2, 3], expected [height, width, 1]"
    );
    let other = Tensor { name: "picture".into(), ..raw };
    assert_eq!(refusal(config, other), "image: this input is missing (given: [\"picture\"])");
}

#[test]
fn a_wrong_configuration_names_the_key() {
    assert_eq!(
        init_refusal(r#"{"resise": "bicubic"}"#),
        r#"config key "resise": there is no such key; did you mean "resize"?"#
    );
    assert_eq!(
        init_refusal(r#"{"color": "rbg"}"#),
        r#"config key "color": "rbg" is not known; known: rgb, bgr, gray"#
    );
    assert_eq!(
        init_refusal(r#"{"mean": "x"}"#),
        r#"config key "mean": invalid type: string "x", expected a number or a list of numbers"#
    );
    assert_eq!(
        init_refusal(r#"{"mean": [1, 2]}"#),
        r#"config key "mean": 2 numbers for 3 channels"#
    );
    assert_eq!(init_refusal(r#"{"mean": 1e300}"#), r#"config key "mean": inf is not finite"#);
    assert_eq!(
        init_refusal(r#"{"scale": [1, 0, 1]}"#),
        r#"config key "scale": it divides, so it cannot be 0"#
    );
    assert_eq!(
        init_refusal(r#"{"crop": 1.5}"#),
        r#"config key "crop": 1.5 is not over 0 and at most 1"#
    );
    assert_eq!(
        init_refusal(r#"{"size": [0, 8]}"#),
        r#"config key "size": [0, 8] is not between 1 and 16384"#
    );
    assert_eq!(
        init_refusal(r#"{"size": [16384, 16384]}"#),
        "config key \"size\": 16384x16384 makes 3221225472 bytes, the limit is 67108864"
    );
    assert_eq!(
        init_refusal(r#"{"input_color": "bgr"}"#),
        "config key \"input_color\": only for input = \"raw\"; a file says its own colours"
    );
    assert_eq!(
        init_refusal(r#"{"dtype": "uint8", "mean": 1}"#),
        r#"config key "mean": only for dtype = "float32""#
    );
}

#[test]
fn a_configuration_that_does_not_fit_the_model_is_refused_at_init() {
    let error = init(r#"{"layout": "nhwc", "size": [8, 8]}"#).err().unwrap();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert_eq!(
        error.message,
        "the model's input \"images\" is float32 [3, 8, 8], this configuration makes \
         float32 [8, 8, 3]: see the keys color, size, layout and dtype"
    );
    assert!(init(r#"{"color": "gray"}"#).is_err());
    assert!(init(r#"{"dtype": "uint8"}"#).is_err());
    assert!(init_for("{}", model(&[3, 8, 8, 1])).is_err());
}

#[test]
fn the_output_is_the_models_only_input_or_the_named_one() {
    let two = || [model(&[3, 8, 8]), vec![TensorSpec::new("size", DataType::Int64, &[2])]].concat();
    let unnamed = init_for("{}", two()).err().unwrap();
    assert_eq!(
        unnamed.message,
        "config key \"output_name\": required, as the model has 2 inputs (images, size)"
    );
    let unknown = init_for(r#"{"output_name": "image"}"#, two()).err().unwrap();
    assert_eq!(
        unknown.message,
        "config key \"output_name\": the model has no input \"image\", only: images, size"
    );
    let mut named = init_for(r#"{"output_name": "images"}"#, two()).unwrap();
    assert_eq!(process(&mut named, encoded(RGB_PNG)).unwrap().name, "images");
}

#[test]
fn the_size_defaults_to_the_models() {
    let mut fixed = init("{}").unwrap();
    assert_eq!(process(&mut fixed, encoded(RGB_PNG)).unwrap().shape, [3, 8, 8]);
    let mut free = init_for("{}", model(&[3, -1, -1])).unwrap();
    assert_eq!(process(&mut free, encoded(RGB_PNG)).unwrap().shape, [3, 30, 41]);
}

#[test]
fn a_model_of_unknown_rank_takes_what_it_is_given() {
    let mut plugin = init_for(r#"{"size": [4, 5]}"#, model(&[])).unwrap();
    assert_eq!(process(&mut plugin, encoded(RGB_PNG)).unwrap().shape, [3, 4, 5]);
}

#[test]
fn clients_see_what_they_send() {
    let spec = |config: &str| init(config).unwrap().info().public_spec;
    let [file] = <[_; 1]>::try_from(spec("{}")).unwrap();
    assert_eq!(
        (file.name.as_str(), file.data_type, file.shape),
        ("image", DataType::Bytes, vec![])
    );
    let [raw] = <[_; 1]>::try_from(spec(r#"{"input": "raw", "input_name": "frame"}"#)).unwrap();
    assert_eq!(
        (raw.name.as_str(), raw.data_type, raw.shape),
        ("frame", DataType::Uint8, vec![-1, -1, 3])
    );
}

#[test]
fn a_tensor_over_the_servers_limit_is_refused() {
    let mut free = init_for(r#"{"input": "raw"}"#, model(&[3, -1, -1])).unwrap();
    let (height, width) = (2400, 2400);
    let samples = vec![0_u8; height * width * 3];
    let shape = [height as u64, width as u64, 3];
    let large = Tensor::dense("image", &shape, &samples).unwrap();
    assert_eq!(
        process(&mut free, large).unwrap_err().message,
        "image: 2400x2400 pixels make a tensor of 69120000 bytes, the limit is 67108864"
    );
}

#[test]
fn extreme_shapes_are_resized() {
    for (height, width, size) in [(16384, 1, [8, 8]), (1, 16384, [8, 8]), (1, 1, [8, 8])] {
        let config = format!(r#"{{"input": "raw", "size": {size:?}, "resize": "bicubic"}}"#);
        let samples = vec![77_u8; height * width * 3];
        let shape = [height as u64, width as u64, 3];
        let picture = Tensor::dense("image", &shape, &samples).unwrap();
        let made = process(&mut init(&config).unwrap(), picture).unwrap();
        assert!(made.view::<f32>().unwrap().iter().all(|&value| value == 77.0));
    }
}
