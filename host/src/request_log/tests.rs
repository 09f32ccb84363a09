use std::fs;
use std::path::Path;

use bytes::Bytes;
use ingle_wire::models_config::{LogForm, VersionPolicy};
use ingle_wire::tfrecord::Records;

use super::*;

fn destination(folder: &Path, form: LogForm) -> LogDestination {
    let filename_prefix = folder.join("log").display().to_string();
    LogDestination { filename_prefix, form }
}

fn model(name: &str, sampling_rate: f64, destination: &LogDestination) -> ModelConfig {
    ModelConfig {
        name: name.into(),
        base_path: "/m".into(),
        policy: VersionPolicy::default(),
        labels: BTreeMap::new(),
        logging: Some(Logging { sampling_rate, destination: destination.clone() }),
        platform: "tensorflow".into(),
    }
}

fn logs(limits: &Limits, models: &[ModelConfig]) -> (RequestLogs, Metrics) {
    let metrics = Metrics::new();
    let logs = RequestLogs::start(limits, metrics.clone()).unwrap();
    logs.configure(models);
    (logs, metrics)
}

/// A `PredictionLog` that names a model.
fn record(name: &str) -> Record {
    let field = |content: &[u8]| [&[0x0a, content.len() as u8][..], content].concat();
    Record::from(field(&field(&field(name.as_bytes()))))
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn counted(metrics: &Metrics, model: &str, code: &str) -> u64 {
    let line = format!(
        ":tensorflow:serving:request_log_count{{model_name=\"{model}\",status_code=\"{code}\"}} "
    );
    let text = metrics.render();
    let value = text.lines().find_map(|found| found.strip_prefix(&line));
    value.map_or(0, |value| value.parse().unwrap())
}

const WAIT: Duration = Duration::from_secs(60);

#[test]
fn records_are_in_the_file_after_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let tfrecord = destination(folder.path(), LogForm::TfRecord);
    let jsonl = destination(folder.path(), LogForm::JsonLines);
    let (logs, metrics) =
        logs(&Limits::default(), &[model("a", 1.0, &tfrecord), model("b", 1.0, &jsonl)]);
    for _ in 0..3 {
        assert_eq!(logs.choose("a"), Some(1.0));
        logs.take("a", record("a"));
        logs.take("b", record("b"));
    }
    logs.take("unlisted", record("c"));
    logs.flush(WAIT);
    assert_eq!(files(folder.path()), ["log.000001.jsonl", "log.000001.tfrecord"]);
    let written = fs::read(folder.path().join("log.000001.tfrecord")).unwrap();
    let records: Vec<_> = Records::new(Bytes::from(written)).map(Result::unwrap).collect();
    assert_eq!(records, vec![record("a").bytes(); 3]);
    let text = fs::read_to_string(folder.path().join("log.000001.jsonl")).unwrap();
    assert_eq!(text, "{\"log_metadata\":{\"model_spec\":{\"name\":\"b\"}}}\n".repeat(3));
    assert_eq!((counted(&metrics, "a", "OK"), counted(&metrics, "b", "OK")), (3, 3));
}

#[test]
fn a_share_of_the_requests_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let to = destination(folder.path(), LogForm::JsonLines);
    let models = [model("all", 1.0, &to), model("some", 0.25, &to), model("none", 0.0, &to)];
    let (logs, _) = logs(&Limits::default(), &models);
    let chosen = |model: &str| (0..10_000).filter(|_| logs.choose(model).is_some()).count();
    assert_eq!((chosen("all"), chosen("none"), chosen("unlisted")), (10_000, 0, 0));
    let some = chosen("some");
    // Ten standard deviations.
    assert!((2067..2933).contains(&some), "{some}");
}

#[test]
fn a_full_file_is_followed_by_the_next_and_old_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let to = destination(folder.path(), LogForm::JsonLines);
    fs::write(folder.path().join("log.000041.jsonl"), "before").unwrap();
    fs::write(folder.path().join("log.x.jsonl"), "mine").unwrap();
    fs::write(folder.path().join("log.000042.tfrecord"), "another's").unwrap();
    let line = record("m").json().unwrap().len() as u64 + 1;
    let limits =
        Limits { request_log_file_bytes: 2 * line, request_log_files: 3, ..Limits::default() };
    let (logs, _) = logs(&limits, &[model("m", 1.0, &to)]);
    for _ in 0..7 {
        logs.take("m", record("m"));
    }
    logs.flush(WAIT);
    let expected = [
        "log.000042.tfrecord",
        "log.000043.jsonl",
        "log.000044.jsonl",
        "log.000045.jsonl",
        "log.x.jsonl",
    ];
    assert_eq!(files(folder.path()), expected);
    let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
    assert_eq!((size("log.000044.jsonl"), size("log.000045.jsonl")), (2 * line, line));
}

#[test]
fn what_there_is_no_place_for_is_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let to = destination(folder.path(), LogForm::TfRecord);
    let bytes = record("m").size_bytes();
    let limits = Limits { request_log_bytes: bytes - 1, ..Limits::default() };
    let (logs, metrics) = logs(&limits, &[model("m", 1.0, &to)]);
    logs.take("m", record("m"));
    logs.flush(WAIT);
    assert_eq!(files(folder.path()), Vec::<String>::new());
    assert_eq!(counted(&metrics, "m", "RESOURCE_EXHAUSTED"), 1);
}

#[test]
fn a_folder_that_comes_late_is_used_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let late = folder.path().join("late");
    let to = destination(&late, LogForm::TfRecord);
    let (logs, metrics) = logs(&Limits::default(), &[model("m", 1.0, &to)]);
    logs.take("m", record("m"));
    logs.flush(WAIT);
    assert_eq!(counted(&metrics, "m", "UNAVAILABLE"), 1);
    fs::create_dir(&late).unwrap();
    logs.take("m", record("m"));
    logs.flush(WAIT);
    assert_eq!(counted(&metrics, "m", "OK"), 1);
    assert_eq!(files(&late), ["log.000001.tfrecord"]);
}

#[test]
fn clients_choose_among_the_files_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let known = destination(folder.path(), LogForm::JsonLines);
    let other = LogDestination { form: LogForm::TfRecord, ..known.clone() };
    let (logs, _) = logs(&Limits::default(), &[model("m", 0.0, &known)]);
    assert_eq!(logs.forbidden(&[model("new", 1.0, &known)]), None);
    assert_eq!(logs.forbidden(&[model("m", 1.0, &known), model("n", 1.0, &other)]), Some("n"));
    logs.configure_by_client(&[model("new", 1.0, &known)]);
    assert_eq!((logs.choose("new"), logs.choose("m")), (Some(1.0), None));
    logs.configure_by_client(&[]);
    assert_eq!(logs.forbidden(&[model("m", 1.0, &known)]), None);
}
