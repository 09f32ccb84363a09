//! The pictures of `golden/`, against what Pillow makes of them.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;

use ingle_plugin::{
    DataType, InitOptions, Preprocess, RequestContext, Tensor, TensorData, TensorSpec,
};
use preprocess_image::PreprocessImage;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    file: String,
    config: Value,
    shape: Vec<u64>,
    /// The largest difference of a sample, of 255.
    levels: f32,
    raw_shape: Option<Vec<u64>>,
}

fn read(file: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::read(folder.join(file)).unwrap()
}

fn prepare(case: &Case) -> Tensor {
    let data_type = match case.config["dtype"].as_str() {
        Some("uint8") => DataType::Uint8,
        _ => DataType::Float32,
    };
    let options = InitOptions {
        config: case.config.to_string(),
        model_inputs: vec![TensorSpec::new("x", data_type, &[-1, -1, -1])],
        ..InitOptions::default()
    };
    let mut plugin = PreprocessImage::init(options).unwrap();
    let content = read(&case.file);
    let input = match &case.raw_shape {
        Some(shape) => Tensor::dense("image", shape, &content),
        None => Tensor::bytes("image", &[], vec![content]),
    };
    let prepared = plugin.process(&RequestContext::default(), vec![input.unwrap()]).unwrap();
    let [inputs] = <[_; 1]>::try_from(prepared.examples).unwrap();
    let [tensor] = <[_; 1]>::try_from(inputs).unwrap();
    tensor
}

/// The largest difference, in levels of 255.
fn difference(case: &Case, made: &Tensor, wanted: Vec<u8>) -> f32 {
    let wanted = Tensor { data: TensorData::Dense(wanted), ..made.clone() };
    if made.data_type == DataType::Uint8 {
        let (made, wanted) = (made.view::<u8>().unwrap(), wanted.view::<u8>().unwrap());
        assert_eq!(made.len(), wanted.len());
        return made.iter().zip(&*wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap().into();
    }
    // The smallest scale makes the difference largest.
    let scale = match &case.config["scale"] {
        Value::Array(scales) => scales.iter().map(|s| s.as_f64().unwrap()).fold(0.0, f64::max),
        scale => scale.as_f64().unwrap_or(1.0),
    };
    let (made, wanted) = (made.view::<f32>().unwrap(), wanted.view::<f32>().unwrap());
    assert_eq!(made.len(), wanted.len());
    let differences = made.iter().zip(&*wanted).map(|(a, b)| (a - b).abs() * scale as f32);
    differences.fold(0.0, f32::max)
}

#[test]
fn every_picture_becomes_what_pillow_makes_of_it() {
    let cases: Vec<Case> = serde_json::from_slice(&read("cases.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let made = prepare(case);
        assert_eq!(made.shape, case.shape, "{}", case.name);
        let difference = difference(case, &made, read(&format!("{}.bin", case.name)));
        // Not zero, since float32 rounds.
        if difference > case.levels + 1e-4 {
            wrong.push(format!("{}: {difference} levels, allowed {}", case.name, case.levels));
        }
        println!("{}: {difference}", case.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
