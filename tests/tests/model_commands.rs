//! `ingle model` on small models, through the real binary.

use std::fs;
use std::path::PathBuf;

use ingle_tests::onnx::{self, tensor_file};
use ingle_tests::{Said, ingle, workspace};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with files.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = PathBuf::from(self.path(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// `y = x + [1, 2]` for `x` of float32 [N, 2].
    fn model(&self) -> String {
        self.file("model.onnx", onnx::add([1.0, 2.0]))
    }
}

fn model(arguments: &[&str]) -> Said {
    ingle(["model"].iter().chain(arguments))
}

fn json(arguments: &[&str]) -> Vec<Value> {
    let said = model(&[arguments, &["--format", "json"]].concat());
    assert_eq!((said.code, said.error.as_str()), (0, ""));
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An array as np.save writes it.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn a_model_runs_on_arrays_from_files() {
    let folder = Folder::new();
    let file = folder.model();
    let x = folder.file("x.npy", npy("<f4", "(2, 2)", &floats(&[0.0, 0.5, 10.0, 20.0])));
    let (input, answers) = (format!("x={x}"), folder.path("answers"));
    let said = model(&["run", &file, "--input", &input, "--output-dir", &answers]);
    assert_eq!((said.code, said.error.as_str()), (0, ""));
    assert!(said.out.starts_with("y  float [2,2]  1.0, 2.5, 11.0, 22.0\n"), "{}", said.out);
    let answer = fs::read(folder.path("answers/y.npy")).unwrap();
    assert!(answer.starts_with(b"\x93NUMPY"));
    assert!(answer.ends_with(&floats(&[1.0, 2.5, 11.0, 22.0])));
    // What was written is read again, and tensors of ONNX's tests are read too.
    let again = format!("x={}", folder.path("answers/y.npy"));
    let answer = &json(&["run", &file, "--input", &again])[0]["outputs"][0];
    assert_eq!(answer["first_values"], serde_json::json!([2.0, 4.5, 12.0, 24.0]));
    let stored = format!("x={}", folder.file("x.pb", tensor_file(&[1, 2], &[1.0, 1.0])));
    let answer = &json(&["run", &file, "--input", &stored])[0]["outputs"][0];
    assert_eq!((&answer["name"], &answer["dtype"]), (&"y".into(), &"float".into()));
    assert_eq!(answer["shape"], serde_json::json!([1, 2]));
}

#[test]
fn inputs_that_are_wrong_say_what_is_wanted() {
    let folder = Folder::new();
    let file = folder.model();
    let said = model(&["run", &file]);
    assert_eq!(said.code, 64);
    assert!(said.error.contains("add --input x=FILE.npy (float [-1,2])"), "{}", said.error);
    let x = folder.file("x.npy", npy("<f4", "(1, 3)", &floats(&[0.0; 3])));
    let said = model(&["run", &file, "--input", &format!("z={x}")]);
    assert_eq!(said.code, 64);
    assert!(said.error.contains("there are \"x\""), "{}", said.error);
    let said = model(&["run", &file, "--input", &format!("x={x}")]);
    assert_eq!(said.code, 65);
    assert!(said.error.contains("[-1,2]") && said.error.contains("[1,3]"), "{}", said.error);
    assert_eq!(model(&["run", &file, "--input", "x=/nowhere.npy"]).code, 66);
}

#[test]
fn hostile_arrays_are_refused() {
    let folder = Folder::new();
    let file = folder.model();
    let huge_header = [b"\x93NUMPY\x02\x00", &u32::MAX.to_le_bytes()[..]].concat();
    for (name, content) in [
        ("empty.npy", Vec::new()),
        ("garbage.npy", b"garbage".to_vec()),
        ("header.npy", huge_header),
        ("long.npy", npy("<f4", "(4611686018427387904, 4)", &[])),
        ("negative.npy", npy("<f4", "(-1, 2)", &[])),
        ("short.npy", npy("<f4", "(1, 2)", &[0; 4])),
        ("objects.npy", npy("|O", "(1, 2)", &[0; 16])),
        ("garbage.pb", b"garbage".to_vec()),
        ("long.pb", tensor_file(&[1 << 40, 1 << 40], &[1.0])),
        ("array.txt", b"1 2".to_vec()),
    ] {
        let said = model(&["run", &file, "--input", &format!("x={}", folder.file(name, content))]);
        assert_eq!(said.code, 65, "{name}: {}", said.error);
        assert!(said.error.contains(name), "{}", said.error);
    }
}

#[test]
fn a_model_is_inspected() {
    let folder = Folder::new();
    let said = model(&["inspect", "--device=cpu", &folder.model()]);
    assert_eq!((said.code, said.error.as_str()), (0, ""));
    for line in [
        "ONNX IR 8",
        "opsets: ai.onnx 17",
        "  x  float [N,2]",
        "      1  Add",
        "parameters: 2 (8 B)",
        "work: 2 floating-point operations a run, estimated",
        "runs on cpu: yes",
    ] {
        assert!(said.out.lines().any(|l| l == line), "{line}:\n{}", said.out);
    }
    let told = &json(&["inspect", &folder.model(), "--shape", "x=8,2"])[0];
    assert_eq!((&told["runs"], &told["estimate"]["flops"]), (&true.into(), &16.into()));
    assert_eq!(told["estimate"]["shapes"], "x=[8,2]");
}

#[test]
fn all_that_is_not_supported_is_listed_and_told_to_scripts() {
    let folder = Folder::new();
    let file = folder.file("model.onnx", onnx::two_unknown_operators());
    let said = model(&["inspect", &file]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("cannot run (2):"), "{}", said.out);
    assert!(said.out.contains("the_node") && said.out.contains("Frobnicate"), "{}", said.out);
    assert!(said.out.contains("another_node") && said.out.contains("Defenestrate"));
    let said = model(&["inspect", &file, "--format", "json"]);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&told["runs"], said.code), (&false.into(), 1));
    assert_eq!(told["problems"].as_array().unwrap().len(), 2);
    // The other commands send to the list.
    let said = model(&["bench", &file]);
    assert_eq!(said.code, 1);
    assert!(said.error.contains("ingle model inspect"), "{}", said.error);
}

#[test]
fn version_directories_are_models_too() {
    let folder = Folder::new();
    folder.file("m/1/model.onnx", onnx::add([1.0, 2.0]));
    let version = folder.path("m/1");
    assert_eq!(model(&["inspect", &version]).code, 0);
    let said = model(&["inspect", &folder.path("m")]);
    assert_eq!(said.code, 64);
    assert!(said.error.contains(&version), "{}", said.error);
}

#[test]
fn models_of_other_frameworks_are_told_how_to_convert_them() {
    let folder = Folder::new();
    let converts = |path: &str| {
        format!(
            "python -m tf2onnx.convert --saved-model {path} --output {path}/model.onnx --opset 18"
        )
    };
    folder.file("tf/2/saved_model.pb", b"");
    folder.file("tf/2/variables/variables.index", b"");
    folder.file("tf/10/saved_model.pbtxt", b"");
    let (two, ten) = (folder.path("tf/2"), folder.path("tf/10"));
    for command in ["inspect", "run", "profile", "bench"] {
        let said = model(&[command, &two]);
        assert_eq!(said.code, 65, "{command}: {}", said.error);
        assert!(said.error.contains(&converts(&two)), "{}", said.error);
        assert!(said.error.contains("docs/guide/from-tensorflow.md"), "{}", said.error);
    }
    // The graph's own file, and a model's base path with all versions.
    let said = model(&["inspect", &folder.path("tf/2/saved_model.pb")]);
    assert_eq!(said.code, 65);
    assert!(said.error.contains(&converts(&two)), "{}", said.error);
    let said = model(&["inspect", &folder.path("tf")]);
    assert_eq!(said.code, 65);
    let lines: Vec<_> = said.error.lines().collect();
    assert_eq!(lines.len(), 2, "{}", said.error);
    assert!(lines[0].contains(&converts(&two)) && lines[1].contains(&converts(&ten)));
    // A converted version is a model like any other, whatever lies beside it.
    folder.file("tf/10/model.onnx", onnx::add([1.0, 2.0]));
    assert_eq!(model(&["inspect", &ten]).code, 0);
    assert!(model(&["inspect", &folder.path("tf")]).error.contains(&converts(&two)));
    for (file, guide) in [
        ("k/model.keras", "from-keras"),
        ("p/net.pth", "from-pytorch"),
        ("s/forest.pkl", "from-scikit-learn"),
        ("l/model.tflite", "from-tensorflow"),
    ] {
        let path = folder.file(file, b"x");
        let parent = PathBuf::from(&path).parent().unwrap().display().to_string();
        for path in [path, parent] {
            let said = model(&["inspect", &path]);
            assert_eq!(said.code, 65, "{file}: {}", said.error);
            assert!(said.error.contains(guide), "{}", said.error);
        }
    }
    assert_eq!(model(&["inspect", &folder.path("gone.keras")]).code, 66);
}

#[test]
fn a_conversion_command_survives_odd_paths() {
    let folder = Folder::new();
    folder.file("it's \n $(odd)/1/saved_model.pb", b"");
    let version = folder.path("it's \n $(odd)/1");
    let said = model(&["inspect", &version]);
    assert_eq!(said.code, 65);
    let command = said.error.split("first: ").nth(1).unwrap().split(" (pip").next().unwrap();
    assert_eq!(command.lines().count(), 1, "{command}");
    // What a shell makes of it, where `python` is told to say its arguments.
    let script = format!("python() {{ printf '%s\\0' \"$@\"; }}; {command}");
    let read = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    let output = format!("{version}/model.onnx");
    let wanted =
        ["-m", "tf2onnx.convert", "--saved-model", &version, "--output", &output, "--opset", "18"];
    let read = String::from_utf8(read.stdout).unwrap();
    assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), wanted);
}

#[test]
fn what_is_no_model_is_told_apart_from_what_is_not_there() {
    let folder = Folder::new();
    for command in ["inspect", "run", "profile", "bench"] {
        let garbage = folder.file("garbage.onnx", b"garbage");
        let said = model(&[command, &garbage]);
        assert_eq!(said.code, 65, "{command}: {}", said.error);
        assert!(said.error.contains("garbage.onnx"), "{}", said.error);
        assert_eq!(model(&[command, "/nowhere.onnx"]).code, 66, "{command}");
        assert_eq!(model(&[command, &garbage, "--frobnicate"]).code, 64, "{command}");
    }
}

#[test]
fn a_profile_names_every_node_and_leaves_a_trace() {
    let folder = Folder::new();
    let (file, trace) = (folder.model(), folder.path("trace.json"));
    let flags = ["--shape", "x=4,2", "--runs", "3", "--trace", &trace];
    let told = &json(&[&["profile", &file], &flags[..]].concat())[0];
    let node = &told["nodes"][0];
    assert_eq!((&node["operator"], &node["node"]), (&"Add".into(), &"the_node".into()));
    assert_eq!((&node["outputs"], &node["flops"]), (&"[4,2]".into(), &8.into()));
    assert_eq!((&told["operators"][0]["share"], &told["flops"]), (&1.0.into(), &8.into()));
    let trace: Value = serde_json::from_slice(&fs::read(&trace).unwrap()).unwrap();
    let event = &trace["traceEvents"][0];
    assert_eq!((&event["ph"], &event["name"]), (&"X".into(), &"Add".into()));
    assert!(model(&["profile", &file]).out.contains("Add the_node"));
}

#[test]
fn a_benchmark_has_a_line_for_each_combination() {
    let folder = Folder::new();
    let file = folder.model();
    let flags = ["--batch=1,3", "--threads=1,2", "--duration=20ms"];
    let told = json(&[&["bench", &file], &flags[..]].concat());
    let pairs: Vec<_> =
        told.iter().map(|line| (line["threads"].as_u64(), line["batch"].as_u64())).collect();
    let pair = |threads, batch| (Some(threads), Some(batch));
    assert_eq!(pairs, [pair(1, 1), pair(1, 3), pair(2, 1), pair(2, 3)]);
    assert_eq!(told[3]["shapes"], "x=[3,2]");
    assert!(told[0]["p99_seconds"].as_f64() >= told[0]["p50_seconds"].as_f64());
    let said = model(&["bench", &file, "--duration=20ms"]);
    assert_eq!((said.code, said.out.lines().count()), (0, 2), "{}", said.out);
    let wrong = ["--duration=20", "--batch=0", "--threads=0", "--shape=z=1"];
    for flag in wrong {
        assert_eq!(model(&["bench", &file, flag]).code, 64, "{flag}");
    }
}

#[test]
fn the_list_of_operators_is_fresh() {
    let said = model(&["operators", "--markdown"]);
    let page = fs::read_to_string(workspace().join("docs/reference/operators.md")).unwrap();
    assert!(
        said.out == page,
        "run: target/release/ingle model operators --markdown > docs/reference/operators.md"
    );
    let add = json(&["operators"]).into_iter().find(|line| line["operator"] == "Add").unwrap();
    assert_eq!(add["domain"], "ai.onnx");
}

#[test]
fn every_command_has_an_example() {
    for command in ["inspect", "run", "test", "profile", "bench", "operators"] {
        let said = model(&[command, "--help"]);
        assert_eq!(said.code, 0);
        assert!(said.out.contains(&format!("Example: ingle model {command} ")), "{}", said.out);
    }
}
