//! The same models and the same plugins' code, without server, sandbox or protocol.

use std::fs;

use ingle_engine::{DeviceChoice, Engine, NoExternalData, Program};
use ingle_plugin::{
    DataType, File, InitOptions, Postprocess, Preprocess, RequestContext, Tensor as GuestTensor,
    TensorData, TensorSpec,
};
use ingle_tests::{onnx, workspace};
use ingle_types::{DType, Limits, Shape, Tensor, TensorMap};
use postprocess_softmax::PostprocessSoftmax;
use preprocess_image::PreprocessImage;
use serde_json::{Value, json};

pub(crate) fn adder() -> Vec<u8> {
    onnx::add([1.0, 2.0])
}

fn load(model: &[u8]) -> Program {
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    engine.load(model, &NoExternalData, &Limits::default()).unwrap()
}

/// The smallest model there is.
pub(crate) struct Vector {
    program: Program,
    inputs: TensorMap,
}

impl Vector {
    pub(crate) fn new() -> Self {
        let x = Tensor::from_slice(&[1, 2], &[1f32, 2.0]).unwrap();
        Self { program: load(&adder()), inputs: [("x".to_owned(), x)].into() }
    }

    pub(crate) fn run(&self) {
        self.program.run(&self.inputs, &[]).unwrap();
    }
}

/// A classifier of pictures with both plugins' code around it.
pub(crate) struct Pictures {
    program: Program,
    preprocess: InitOptions,
    postprocess: InitOptions,
    input: &'static str,
}

fn read(path: &str) -> Vec<u8> {
    fs::read(workspace().join(path)).unwrap()
}

impl Pictures {
    pub(crate) fn digits() -> Self {
        let config = json!({"color": "gray", "size": [8, 8], "resize": "bicubic", "scale": 255.0});
        let softmax = json!({"softmax": false, "top_k": 3});
        Self::new(
            "models/digits/1",
            "image",
            &config,
            &softmax,
            (&[1, 8, 8], ("probabilities", 10)),
        )
    }

    pub(crate) fn efficientnet() -> Self {
        let config = json!({"crop": 0.875, "size": [224, 224], "resize": "bicubic", "mean": 127.0, "scale": 128.0});
        let softmax = json!({"top_k": 5});
        let folder = "models/efficientnet-lite0/1";
        Self::new(folder, "images", &config, &softmax, (&[3, 224, 224], ("logits", 1000)))
    }

    fn new(
        folder: &str,
        input: &'static str,
        preprocess: &Value,
        postprocess: &Value,
        (picture, (output, classes)): (&[i64], (&str, i64)),
    ) -> Self {
        let model_inputs = vec![TensorSpec::new(input, DataType::Float32, picture)];
        let model_outputs = vec![TensorSpec::new(output, DataType::Float32, &[classes])];
        let labels = read(&format!("{folder}/labels.txt"));
        let options = |config: &Value, files| InitOptions {
            config: config.to_string(),
            files,
            model_inputs: model_inputs.clone(),
            model_outputs: model_outputs.clone(),
        };
        Self {
            program: load(&read(&format!("{folder}/model.onnx"))),
            preprocess: options(preprocess, vec![]),
            postprocess: options(
                postprocess,
                vec![File { name: "labels.txt".into(), content: labels }],
            ),
            input,
        }
    }

    /// The model's input for an encoded picture.
    pub(crate) fn prepare(&self, picture: &[u8]) -> TensorMap {
        let mut plugin = PreprocessImage::init(self.preprocess.clone()).unwrap();
        let input = GuestTensor::bytes("image", &[], vec![picture.to_vec()]).unwrap();
        let prepared = plugin.process(&RequestContext::default(), vec![input]).unwrap();
        let tensor = prepared.examples.into_iter().flatten().next().unwrap();
        let TensorData::Dense(bytes) = tensor.data else { panic!("pictures are dense") };
        let dims: Vec<usize> =
            [1].into_iter().chain(tensor.shape.iter().map(|d| *d as usize)).collect();
        let tensor = Tensor::dense(DType::F32, Shape::new(dims).unwrap(), bytes).unwrap();
        [(self.input.to_owned(), tensor)].into()
    }

    pub(crate) fn run(&self, input: &TensorMap) -> TensorMap {
        self.program.run(input, &[]).unwrap()
    }

    pub(crate) fn classify(&self, picture: &[u8]) -> Vec<GuestTensor> {
        let outputs = self.run(&self.prepare(picture));
        let results = outputs.iter().map(|(name, tensor)| {
            let row = tensor.row(0).unwrap();
            let shape: Vec<u64> = row.dims().iter().map(|d| *d as u64).collect();
            GuestTensor::dense(name, &shape, &row.as_slice::<f32>().unwrap()).unwrap()
        });
        let results = vec![results.collect()];
        let mut plugin = PostprocessSoftmax::init(self.postprocess.clone()).unwrap();
        plugin.process(&RequestContext::default(), results, vec![]).unwrap()
    }
}

pub(crate) fn floats_of(inputs: &TensorMap) -> Vec<f32> {
    inputs.values().next().unwrap().as_slice::<f32>().unwrap().into_owned()
}

/// A square picture as JSON of shape [1, 1, side, side].
pub(crate) fn nested(pixels: &[f32], side: usize) -> Value {
    json!([[pixels.chunks(side).collect::<Vec<_>>()]])
}
