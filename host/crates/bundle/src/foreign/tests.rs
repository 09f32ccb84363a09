use std::fs;

use ingle_types::Limits;

use super::*;
use crate::{Bundle, BundleError};

/// A protobuf field of bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let length = [((length & 0x7f) | 0x80) as u8, (length >> 7) as u8];
    [&[(number << 3) | 2][..], &length, content].concat()
}

fn saved_model(tags: &[&str], signatures: &[&str]) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|tag| field(4, tag.as_bytes())).collect();
    let entries = signatures.iter().flat_map(|name| field(5, &field(1, name.as_bytes())));
    field(2, &[field(1, &tags), entries.collect()].concat())
}

/// What a directory with these files is refused with.
fn refusal(files: &[(&str, &[u8])]) -> (BundleError, String) {
    let root = tempfile::tempdir().unwrap();
    for (file, content) in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let error = Bundle::open(root.path(), &Limits::default()).unwrap_err();
    let message = error.to_string().replace(root.path().to_str().unwrap(), "/m/1");
    (error, message)
}

fn message(files: &[(&str, &[u8])]) -> String {
    let (error, message) = refusal(files);
    assert!(matches!(error, BundleError::Foreign(_)), "{error:?}");
    message
}

fn of_saved_model(tags: &[&str], signatures: &[&str]) -> String {
    message(&[("saved_model.pb", &saved_model(tags, signatures)), ("variables/v.index", b"")])
}

const COMMAND: &str =
    "python -m tf2onnx.convert --saved-model /m/1 --output /m/1/model.onnx --opset 18";

#[test]
fn a_saved_model_is_told_its_conversion() {
    let usual = of_saved_model(&["serve"], &["serving_default", "__saved_model_init_op"]);
    assert_eq!(
        usual,
        format!(
            "holds a TensorFlow SavedModel (saved_model.pb), which has to be converted to ONNX first: {COMMAND} (pip install tensorflow-cpu tf2onnx; see docs/guide/from-tensorflow.md)"
        )
    );
}

#[test]
fn tags_and_signatures_are_named_where_the_conversion_needs_them() {
    let has = |message: String, part: &str| assert!(message.contains(part), "{part}: {message}");
    has(of_saved_model(&["train me"], &["serving_default"]), "--opset 18 --tag 'train me' (");
    has(of_saved_model(&[], &["serving_default"]), "--opset 18 --tag '' (");
    let several = of_saved_model(&["serve"], &["b", "serving_default", "a"]);
    has(
        several,
        "--signature_def serving_default; it has other signatures, each a model of its own: a, b (",
    );
    let several = of_saved_model(&["serve"], &["predict_b", "predict_a"]);
    has(several, "--opset 18 --signature_def predict_a; clients name its signature predict_a, ");
    has(of_saved_model(&["serve"], &["_hidden"]), "--opset 18 --concrete_function 0 (");
    let hostile = of_saved_model(&["serve"], &["a\x1b[2J", "$(touch x)"]);
    has(hostile.clone(), "--signature_def '$(touch x)'");
    assert!(!hostile.chars().any(char::is_control), "{hostile:?}");
}

#[test]
fn a_signature_of_another_name_is_kept_by_the_manifest() {
    let own = of_saved_model(&["serve"], &["your_model"]);
    let kept = "--opset 18; clients name its signature your_model, which /m/1/bundle.toml keeps with [signatures.your_model] and default = true (";
    assert!(own.contains(kept), "{own}");
    let dotted = of_saved_model(&["serve"], &["v1.predict"]);
    assert!(dotted.contains("[signatures.\"v1.predict\"]"), "{dotted}");
    let content = saved_model(&["serve"], &["your_model"]);
    let manifest = b"[model]\nfile = \"net.onnx\"\n[signatures.your_model]\ndefault = true";
    let declared = message(&[("saved_model.pb", &content), ("bundle.toml", manifest)]);
    assert!(!declared.contains("clients name"), "{declared}");
    assert!(declared.contains("--output /m/1/net.onnx "), "{declared}");
}

#[test]
fn what_cannot_be_read_of_a_saved_model_is_left_out() {
    for (file, content) in [
        ("saved_model.pb", &b"\xff\xff"[..]),
        ("saved_model.pb", b""),
        ("saved_model.pbtxt", b"saved_model_schema_version: 1"),
    ] {
        let told = message(&[(file, content)]);
        assert!(told.contains(&format!("({file}), which")), "{told}");
        assert!(told.contains(&format!("first: {COMMAND} (pip")), "{told}");
    }
}

#[test]
fn other_formats_are_named_with_what_to_do() {
    let cases = [
        (
            "model.tflite",
            "a TensorFlow Lite model",
            "--tflite /m/1/model.tflite --output /m/1/model.onnx --opset 18",
        ),
        (
            "frozen.pb",
            "a TensorFlow graph",
            "--graphdef /m/1/frozen.pb --inputs INPUT:0 --outputs OUTPUT:0",
        ),
        (
            "my model.keras",
            "a Keras model",
            "load_model(\"/m/1/my model.keras\").export(\"/m/1/saved_model\"); then python -m tf2onnx.convert --saved-model /m/1/saved_model --output /m/1/model.onnx --opset 18",
        ),
        ("model.H5", "a Keras model", "docs/guide/from-keras.md"),
        (
            "net.pt",
            "a PyTorch model",
            "torch.onnx.export(model, example_inputs, \"/m/1/model.onnx\")",
        ),
        ("net.pth", "a PyTorch model", "docs/guide/from-pytorch.md"),
        ("net.pt2", "a PyTorch model", "docs/guide/from-pytorch.md"),
        (
            "forest.pkl",
            "a pickled Python model",
            "skl2onnx.to_onnx(model, X[:1], target_opset=18) written to \"/m/1/model.onnx\"",
        ),
        ("forest.joblib", "a pickled Python model", "docs/guide/from-scikit-learn.md"),
    ];
    for (file, what, how) in cases {
        let told = message(&[(file, b"x"), ("README.md", b"x"), ("fingerprint.pb", b"x")]);
        assert!(told.starts_with(&format!("holds {what}")), "{told}");
        assert!(told.contains(how), "{told}");
    }
    // Of several, the one that converts best.
    let told = message(&[("a.pkl", b""), ("keras_metadata.pb", b""), ("saved_model.pb", b"")]);
    assert!(told.starts_with("holds a TensorFlow SavedModel"), "{told}");
}

#[test]
fn what_is_no_model_stays_missing() {
    for file in ["fingerprint.pb", ".pt", "pt", "weights.bin", "saved_model.txt", "a.pkl/b.txt"] {
        let (error, told) = refusal(&[(file, b"x")]);
        assert!(matches!(error, BundleError::Missing { .. }), "{file}: {told}");
    }
}

#[test]
fn an_onnx_file_beside_it_is_served() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("saved_model.pb"), saved_model(&["serve"], &["s"])).unwrap();
    fs::write(root.path().join("model.onnx"), "onnx").unwrap();
    assert_eq!(&Bundle::open(root.path(), &Limits::default()).unwrap().model[..], b"onnx");
}

#[test]
fn a_file_alone_is_told_the_same() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("saved_model.pb");
    fs::write(&path, saved_model(&["serve"], &["b", "a"])).unwrap();
    let told = ForeignModel::of_file(&path).unwrap().to_string();
    assert!(told.contains("--signature_def a"), "{told}");
    assert!(ForeignModel::of_file(Path::new("model.onnx")).is_none());
    let told = ForeignModel::of_file(Path::new("k.h5")).unwrap().to_string();
    assert!(told.contains("load_model(\"./k.h5\")"), "{told}");
}
