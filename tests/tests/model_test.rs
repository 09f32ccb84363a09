//! `ingle model test`, through the real binary.

use std::fs;
use std::path::{Path, PathBuf};

use ingle_tests::onnx::{self, tensor_file};
use ingle_tests::{Said, ingle};
use serde_json::Value;
use tempfile::TempDir;

/// A folder of tests, each of which runs `x + [1, 2]` on [[0, 0]].
struct Tests(TempDir);

impl Tests {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file beside the tests.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn add(&self, name: &str, model: &[u8], wanted: &[u8]) -> PathBuf {
        let set = self.path().join(name).join("test_data_set_0");
        fs::create_dir_all(&set).unwrap();
        fs::write(set.join("../model.onnx"), model).unwrap();
        fs::write(set.join("input_0.pb"), tensor_file(&[1, 2], &[0.0, 0.0])).unwrap();
        fs::write(set.join("output_0.pb"), wanted).unwrap();
        set
    }

    /// One test of each outcome.
    fn add_all_kinds(&self) {
        let model = onnx::add([1.0, 2.0]);
        self.add("good", &model, &tensor_file(&[1, 2], &[1.0, 2.0]));
        self.add("wrong", &model, &tensor_file(&[1, 2], &[1.0, 2.5]));
        self.add("operator", &onnx::unknown_operator(), &[]);
        self.add("element", &model, &onnx::exotic_tensor_file());
    }

    fn run(&self, flags: &[&str]) -> Said {
        let dir = self.path().to_str().unwrap();
        ingle(["model", "test", "--device=cpu", dir].iter().chain(flags))
    }
}

#[test]
fn each_test_has_a_line_and_the_last_one_counts() {
    let tests = Tests::new();
    tests.add_all_kinds();
    let said = tests.run(&[]);
    let lines: Vec<&str> = said.out.lines().collect();
    let [element, good, operator, wrong, counts] = lines[..] else { panic!("{}", said.out) };
    assert!(element.starts_with("UNSUPPORTED element: test_data_set_0/output_0.pb: "), "{element}");
    assert_eq!(good, "PASS good");
    assert!(operator.starts_with("UNSUPPORTED operator: "), "{operator}");
    assert!(operator.contains("com.example"), "{operator}");
    assert_eq!(
        wrong,
        "FAIL wrong: output \"y\": element 1 is 2.0 instead of 2.5; 1 of 2 differ, by 5.000e-1 at most"
    );
    assert_eq!(counts, "1 passed, 1 failed, 2 unsupported of 4");
    assert_eq!((said.code, said.error.as_str()), (1, ""));
}

#[test]
fn the_tolerance_can_be_chosen() {
    let tests = Tests::new();
    tests.add_all_kinds();
    assert_eq!(tests.run(&["--filter", "wrong", "--rtol", "0.5"]).code, 0);
    assert_eq!(tests.run(&["--filter", "wrong", "--atol", "0.4"]).code, 1);
}

#[test]
fn a_list_of_names_decides_the_exit_code() {
    let tests = Tests::new();
    tests.add_all_kinds();
    let passing = tests.file("passing.txt", "");
    assert_eq!(tests.run(&["--write-expect", &passing]).code, 1);
    assert_eq!(fs::read_to_string(&passing).unwrap(), "good\n");
    assert_eq!(tests.run(&["--expect", &passing]).code, 0);
    let more = tests.file("more.txt", "# a remark\ngood\nwrong\ngone\n");
    let said = tests.run(&["--expect", &more]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("EXPECTED gone") && said.out.contains("EXPECTED wrong"));
    assert!(!said.out.contains("EXPECTED good"));
}

#[test]
fn scripts_read_one_object_a_line() {
    let tests = Tests::new();
    tests.add_all_kinds();
    let groups = tests.file("groups.tsv", "name\tgroup\ngood\tA\nwrong\tA\noperator\tC\n");
    let said = tests.run(&["--format", "json", "--groups", &groups]);
    let objects: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects[1], serde_json::json!({"test": "good", "outcome": "pass", "why": null}));
    let summary = &objects[4]["summary"];
    assert_eq!((&summary["passed"], &summary["total"]), (&1.into(), &4.into()));
    assert_eq!(summary["groups"]["A"]["failed"], 1);
    assert_eq!(summary["groups"]["C"]["unsupported"], 1);
}

#[test]
fn damaged_files_fail_their_test_and_no_other() {
    let tests = Tests::new();
    let (model, wanted) = (onnx::add([1.0, 2.0]), tensor_file(&[1, 2], &[1.0, 2.0]));
    tests.add("good", &model, &wanted);
    tests.add("a_garbage_model", b"garbage", &wanted);
    tests.add("b_garbage_tensor", &model, b"garbage");
    tests.add("c_empty_tensor", &model, b"");
    tests.add("d_lying_dims", &model, &tensor_file(&[1 << 40, 1 << 40], &[1.0]));
    let set = tests.add("e_no_input", &model, &wanted);
    fs::remove_file(set.join("input_0.pb")).unwrap();
    let set = tests.add("f_no_output", &model, &wanted);
    fs::remove_file(set.join("output_0.pb")).unwrap();
    let set = tests.add("g_no_set", &model, &wanted);
    fs::remove_dir_all(set).unwrap();
    let said = tests.run(&[]);
    let failed = said.out.lines().filter(|line| line.starts_with("FAIL")).count();
    assert!(said.out.ends_with("1 passed, 7 failed, 0 unsupported of 8\n"), "{}", said.out);
    assert_eq!((failed, said.code), (7, 1));
}

#[test]
fn what_is_not_there_is_told_apart_from_what_fails() {
    let tests = Tests::new();
    let said = tests.run(&[]);
    assert_eq!(said.code, 66);
    assert!(said.error.contains("there is no test"), "{}", said.error);
    tests.add_all_kinds();
    assert_eq!(tests.run(&["--expect", "/nowhere"]).code, 66);
    assert_eq!(tests.run(&["--filter", "nothing"]).code, 64);
    assert_eq!(tests.run(&["--device", "tpu"]).code, 64);
    let groups = tests.file("groups.tsv", "no tab\n");
    assert_eq!(tests.run(&["--groups", &groups]).code, 65);
}
