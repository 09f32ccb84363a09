//! Real models: every answer is compared with onnxruntime's, stored beside the
//! model. `ZOO/NAME/model.onnx`, `ZOO/NAME/test_data_set_K/{input,output}_I.pb`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use ingle_engine::{DeviceChoice, Engine, NoExternalData, Optimize, Program};
use ingle_types::{DType, Limits, Shape, Tensor, TensorMap};
use prost::Message;

/// The part of ONNX's TensorProto that the stored tensors use.
#[derive(Clone, PartialEq, Message)]
struct StoredTensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(bytes = "vec", repeated, tag = "6")]
    string_data: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

fn read_tensor(path: &Path) -> Option<Tensor> {
    let stored = StoredTensor::decode(fs::read(path).ok()?.as_slice()).unwrap();
    let dims: Vec<usize> = stored.dims.iter().map(|&d| d.try_into().unwrap()).collect();
    let shape = Shape::new(dims).unwrap();
    let dtype = match stored.data_type {
        1 => DType::F32,
        6 => DType::I32,
        7 => DType::I64,
        8 => {
            let strings = stored.string_data.into_iter().map(Into::into).collect();
            return Some(Tensor::blobs(shape, strings).unwrap());
        }
        9 => DType::Bool,
        11 => DType::F64,
        other => panic!("{}: element type {other}", path.display()),
    };
    Some(Tensor::dense(dtype, shape, stored.raw_data).unwrap())
}

/// The folder of a model, in `target/zoo` or where `INGLE_ZOO` says.
fn folder_of(name: &str) -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/zoo");
    let zoo = std::env::var_os("INGLE_ZOO").map_or_else(built, PathBuf::from);
    let folder = zoo.join(name);
    assert!(folder.is_dir(), "{name} is missing: run tests/run once, it builds the zoo");
    folder
}

fn close(given: &Tensor, wanted: &Tensor, context: &str) {
    assert_eq!((given.dtype(), given.dims()), (wanted.dtype(), wanted.dims()), "{context}");
    if wanted.dtype() != DType::F32 {
        assert_eq!(given, wanted, "{context}");
        return;
    }
    let (given, wanted) = (given.as_slice::<f32>().unwrap(), wanted.as_slice::<f32>().unwrap());
    let largest = wanted.iter().fold(1f32, |m, b| m.max(b.abs()));
    for (i, (a, b)) in given.iter().zip(wanted.iter()).enumerate() {
        let allowed = 1e-4 * largest + 1e-3 * b.abs();
        assert!((a - b).abs() <= allowed, "{context}[{i}]: {a} instead of {b}");
    }
}

/// Compares the answers of the optimised program with what is stored, and with what
/// the model answers node by node.
fn check_sets(name: &str, folder: &Path, [program, plain]: &[Program; 2]) -> usize {
    let signature = program.signature();
    let mut sets = 0;
    for k in 0.. {
        let set = folder.join(format!("test_data_set_{k}"));
        if !set.is_dir() {
            break;
        }
        let input = |i: usize| read_tensor(&set.join(format!("input_{i}.pb")));
        let inputs: TensorMap = signature
            .inputs
            .iter()
            .filter(|spec| !spec.optional)
            .enumerate()
            .filter_map(|(i, spec)| Some((spec.name.clone(), input(i)?)))
            .collect();
        let answer = program.run(&inputs, &[]).unwrap_or_else(|e| panic!("{name} set {k}: {e}"));
        for (output, wanted) in plain.run(&inputs, &[]).unwrap() {
            close(&answer[&output], &wanted, &format!("{name} set {k} {output}, not optimised"));
        }
        for (i, spec) in signature.outputs.iter().enumerate() {
            let wanted = read_tensor(&set.join(format!("output_{i}.pb"))).unwrap();
            close(&answer[&spec.name], &wanted, &format!("{name} set {k} {}", spec.name));
        }
        sets += 1;
    }
    sets
}

fn check(name: &'static str) {
    let choice: DeviceChoice = match std::env::var_os("INGLE_DEVICE") {
        Some(device) => device.to_str().unwrap().parse().unwrap(),
        None => DeviceChoice::Cpu,
    };
    let engine = Engine::new(choice).unwrap();
    let stack = engine.worker_stack_bytes();
    let run = move || {
        let folder = folder_of(name);
        let model = fs::read(folder.join("model.onnx")).unwrap();
        let programs = [Optimize::On, Optimize::Off].map(|level| {
            let engine = engine.clone().with_optimize(level);
            engine.load(&model, &NoExternalData, &Limits::default()).unwrap()
        });
        assert!(check_sets(name, &folder, &programs) > 0, "{name} has no data");
    };
    std::thread::Builder::new().stack_size(stack).spawn(run).unwrap().join().unwrap();
}

macro_rules! zoo {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

zoo! {
    digits_cnn
    efficientnet_lite0
    ppocr_v2_cls
    mtcnn_rnet
    skl_mlp_reg
    skl_logistic
    skl_logistic_named
    skl_svc
    skl_svc_named
    skl_svr
    skl_forest
    skl_forest_named
    skl_forest_two
    skl_forest_reg
    skl_boosting
    skl_boosting_two
    skl_boosting_reg
    skl_neighbors
    skl_bayes
    skl_network
    skl_columns
    skl_texts
    light_squeezenet
    ppocr_v4_det
    ppocr_v4_rec
    silero_vad_seq
    oww_melspec
    magika
    minilm_l3
    light_bvlc_alexnet
    light_densenet121
    light_inception_v1
    light_inception_v2
    light_resnet50
    light_shufflenet
    light_vgg19
    light_zfnet512
}
