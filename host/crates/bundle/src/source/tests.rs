use std::fs;

use super::*;
use crate::PluginRef;

fn write(root: &Path, file: &str, content: impl AsRef<[u8]>) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn read(root: &Path) -> Result<Bundle, BundleError> {
    let source = ModelSource::new(root);
    let found = source.list().unwrap();
    source.read(1, &found[&1], &Limits::default())
}

#[test]
fn versions_are_numeric_directories() {
    let root = tempfile::tempdir().unwrap();
    for name in ["1", "007", "8.tmp", "x", "+9", "99999999999999999999"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    write(root.path(), "5", "a file is no version");
    let found = ModelSource::new(root.path()).list().unwrap();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 7]);
}

#[test]
fn of_several_names_of_a_number_the_plain_one_counts() {
    let root = tempfile::tempdir().unwrap();
    for name in ["1", "01", "001", "02", "002"] {
        write(root.path(), &format!("{name}/model.onnx"), name);
    }
    let source = ModelSource::new(root.path());
    let found = source.list().unwrap();
    let read = |version| source.read(version, &found[&version], &Limits::default()).unwrap();
    assert_eq!((&read(1).model[..], &read(2).model[..]), (&b"1"[..], &b"02"[..]));
    assert_eq!(
        (&found[&1].shadowed[..], &found[&2].shadowed[..]),
        (&["01".to_owned(), "001".into()][..], &["002".to_owned()][..])
    );
}

#[test]
fn a_uri_of_a_remote_store_is_refused_as_that() {
    let refused = ModelSource::new("gs://bucket/model").list().unwrap_err();
    assert!(matches!(refused, BundleError::RemoteStore), "{refused}");
}

#[test]
fn a_written_file_changes_the_fingerprint_and_nothing_else_does() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "1/model.onnx", "a");
    let source = ModelSource::new(root.path());
    let before = source.list().unwrap();
    assert_eq!(source.list().unwrap(), before);
    write(root.path(), "1/model.onnx", "ab");
    let after = source.list().unwrap();
    assert_ne!(after, before);
    write(root.path(), "1/assets/deep.txt", "x");
    assert_ne!(source.list().unwrap(), after);
}

#[test]
fn a_directory_with_only_a_model_is_a_bundle() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "1/model.onnx", "onnx");
    let bundle = read(root.path()).unwrap();
    assert_eq!((&bundle.model[..], bundle.signatures.len()), (&b"onnx"[..], 1));
}

#[test]
fn stages_bring_their_files_and_components() {
    let root = tempfile::tempdir().unwrap();
    let manifest = "[signatures.s]\npreprocess = { file = \"pre.wasm\" }\npostprocess = { plugin = \"p\", files = [\"labels.txt\"] }";
    write(root.path(), "1/bundle.toml", manifest);
    for (file, content) in [("model.onnx", "m"), ("pre.wasm", "w"), ("labels.txt", "l")] {
        write(root.path(), &format!("1/{file}"), content);
    }
    let bundle = read(root.path()).unwrap();
    let s = &bundle.signatures["s"];
    let pre = s.preprocess.as_ref().unwrap();
    assert!(
        matches!(&pre.plugin, PluginRef::Pinned { name, component } if name == "pre" && component == "w")
    );
    assert_eq!(s.postprocess.as_ref().unwrap().files, [("labels.txt".into(), Bytes::from("l"))]);
}

#[test]
fn what_a_manifest_names_has_to_be_there_and_to_match_its_digest() {
    let root = tempfile::tempdir().unwrap();
    assert!(fs::create_dir(root.path().join("1")).is_ok());
    assert!(matches!(read(root.path()), Err(BundleError::Missing { .. })));
    write(root.path(), "1/saved_model.pb", "");
    let error = read(root.path()).unwrap_err();
    let command = format!("--saved-model {}/1 ", root.path().display());
    assert!(matches!(error, BundleError::Foreign(_)) && error.to_string().contains(&command));
    write(root.path(), "1/model.onnx", "abc");
    // sha256 of "abc", the first example of FIPS 180-4.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    write(root.path(), "1/bundle.toml", format!("[digests]\n\"model.onnx\" = \"sha256:{abc}\""));
    assert!(read(root.path()).is_ok());
    write(root.path(), "1/model.onnx", "abd");
    assert!(matches!(read(root.path()), Err(BundleError::Digest { .. })));
}

/// SHA-256 of "abc", the first example of FIPS 180-4, and of nothing.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn arriving(root: &Path) -> String {
    match read(root) {
        Err(error @ BundleError::Arriving { .. }) => error.to_string(),
        other => panic!("arriving, not {other:?}"),
    }
}

#[test]
fn with_sums_a_version_is_whole_or_arriving() {
    let root = tempfile::tempdir().unwrap();
    let sums = format!("{ABC}  model.onnx\n{NOTHING}  labels.txt\n");
    write(root.path(), "1/MANIFEST.sha256", sums.strip_suffix('\n').unwrap());
    assert_eq!(arriving(root.path()), "MANIFEST.sha256 ends in the middle of a line");
    write(root.path(), "1/MANIFEST.sha256", &sums);
    write(root.path(), "1/model.onnx", "ab");
    assert_eq!(arriving(root.path()), "labels.txt is named in MANIFEST.sha256 and not there");
    write(root.path(), "1/labels.txt", "");
    let differs = arriving(root.path());
    assert!(differs.starts_with("model.onnx has the sha256 fb8e20"), "{differs}");
    assert!(differs.ends_with(ABC), "{differs}");
    write(root.path(), "1/model.onnx", "abc");
    let bundle = read(root.path()).unwrap();
    assert_eq!(
        (&bundle.model[..], bundle.read_file("labels.txt").unwrap()),
        (&b"abc"[..], Bytes::new())
    );
    let source = ModelSource::new(root.path());
    assert!(source.has_sums(&source.list().unwrap()[&1]));
}

#[test]
fn with_sums_what_is_not_named_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "1/MANIFEST.sha256", format!("{NOTHING}  labels.txt\n"));
    write(root.path(), "1/labels.txt", "");
    write(root.path(), "1/model.onnx", "abc");
    let unnamed = |file: &str| format!("{file} is needed and not named in MANIFEST.sha256");
    assert_eq!(arriving(root.path()), unnamed("model.onnx"));
    write(root.path(), "1/MANIFEST.sha256", format!("{ABC}  model.onnx\n"));
    let refused = read(root.path()).unwrap().read_file("labels.txt").unwrap_err();
    assert_eq!(refused.to_string(), unnamed("labels.txt"));
    let absent = read(root.path()).unwrap().read_file("assets.extra/warm-up").unwrap_err();
    assert!(matches!(absent, BundleError::Missing { .. }), "{absent}");
    write(root.path(), "1/bundle.toml", "");
    assert_eq!(arriving(root.path()), unnamed("bundle.toml"));
}

#[test]
fn with_sums_what_may_be_missing_may_be_missing() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "1/model.onnx", "abc");
    write(root.path(), "1/MANIFEST.sha256", format!("{ABC}  model.onnx\n"));
    let limits = Limits::default();
    let optional = || {
        let bundle = read(root.path()).unwrap();
        (bundle.warm_up_requests(&limits), bundle.batching_parameters(&limits))
    };
    assert!(matches!(optional(), (Ok(None), Ok(None))));
    write(root.path(), "1/assets.extra/tf_serving_warmup_requests", "not named");
    write(root.path(), "1/batching_params.pbtxt", "not named");
    let (warm_up, batching) = optional();
    assert!(warm_up.is_err() && batching.is_err());
}

#[test]
fn with_sums_files_are_read_once() {
    let root = tempfile::tempdir().unwrap();
    let sums = format!("{ABC}  model.onnx\n{NOTHING}  deep/weights.bin\n");
    write(root.path(), "1/MANIFEST.sha256", sums);
    write(root.path(), "1/model.onnx", "abc");
    write(root.path(), "1/deep/weights.bin", "");
    let mut bundle = read(root.path()).unwrap();
    fs::remove_dir_all(root.path().join("1")).unwrap();
    assert_eq!(bundle.read_file("deep/weights.bin").unwrap(), Bytes::new());
    bundle.release();
    assert!(bundle.read_file("deep/weights.bin").is_err());
}

#[test]
fn sums_lead_to_no_file_outside_and_over_no_budget() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "outside", "abc");
    write(root.path(), "1/MANIFEST.sha256", format!("{ABC}  model.onnx\n"));
    std::os::unix::fs::symlink("../outside", root.path().join("1/model.onnx")).unwrap();
    assert!(read(root.path()).is_err());
    fs::remove_file(root.path().join("1/model.onnx")).unwrap();
    write(root.path(), "1/model.onnx", "abc");
    let source = ModelSource::new(root.path());
    let found = source.list().unwrap();
    let limits = |bundle_bytes| Limits { bundle_bytes, ..Limits::default() };
    assert!(source.read(1, &found[&1], &limits(3)).is_ok());
    let over = source.read(1, &found[&1], &limits(2)).unwrap_err();
    assert!(matches!(over, BundleError::BundleTooLarge { limit: 2 }), "{over}");
    let many: String = (0..=MAX_FILES).map(|i| format!("{ABC}  {i}\n")).collect();
    write(root.path(), "1/MANIFEST.sha256", many);
    let many = source.read(1, &found[&1], &Limits::default()).unwrap_err();
    assert!(matches!(many, BundleError::TooManyFiles { .. }), "{many}");
}

#[test]
fn no_name_or_link_leads_outside() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "secret", "s");
    write(root.path(), "1/model.onnx", "m");
    let secret = outside.path().join("secret");
    std::os::unix::fs::symlink(&secret, root.path().join("1/link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("1/dir")).unwrap();
    std::os::unix::fs::symlink("model.onnx", root.path().join("1/inside")).unwrap();
    let bundle = read(root.path()).unwrap();
    let absolute = secret.to_str().unwrap();
    for name in ["link", "dir/secret", "../1/../../secret", absolute] {
        assert!(bundle.read_file(name).is_err(), "{name}");
    }
    assert_eq!(bundle.read_file("inside").unwrap(), "m");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("1")).unwrap();
    let pipe = root.path().join("1/model.onnx");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert!(matches!(read(root.path()), Err(BundleError::NotAFile { .. })));
}

#[test]
fn a_bundle_over_its_budget_is_refused() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "1/model.onnx", [0; 100]);
    let source = ModelSource::new(root.path());
    let found = source.list().unwrap();
    let limits = |bundle_bytes| Limits { bundle_bytes, ..Limits::default() };
    assert!(source.read(1, &found[&1], &limits(100)).is_ok());
    let over = source.read(1, &found[&1], &limits(99)).unwrap_err();
    assert!(matches!(over, BundleError::BundleTooLarge { limit: 99 }), "{over}");
}

#[test]
fn a_repository_lists_its_folders_and_plugins_their_versions() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a/1/plugin.wasm", "w");
    write(root.path(), "a/src/lib.rs", "");
    write(root.path(), ".hidden/1/plugin.wasm", "w");
    write(root.path(), "README.md", "");
    let models = list_models(root.path()).unwrap();
    assert_eq!(models.keys().collect::<Vec<_>>(), ["a"]);
    let plugins = PluginSource::new(root.path());
    let found = plugins.list("a").unwrap();
    assert_eq!(plugins.read("a", 1, &found[&1], &Limits::default()).unwrap(), "w");
    assert!(plugins.list("b").unwrap().is_empty());
}

/// Copies files one after the other, byte by byte, and looks after each.
fn copy_and_look(files: &[(&str, &str)], looks: &mut usize) {
    let root = tempfile::tempdir().unwrap();
    for (done, (file, content)) in files.iter().enumerate() {
        for end in 0..=content.len() {
            write(root.path(), &format!("1/{file}"), &content[..end]);
            let whole = done + 1 == files.len() && end == content.len();
            *looks += 1;
            match read(root.path()) {
                Ok(bundle) => assert!(whole && bundle.model == "abc", "{file} up to {end}"),
                Err(BundleError::Arriving { .. }) => assert!(!whole, "{file} up to {end}"),
                Err(error) => panic!("{file} up to {end}: {error}"),
            }
        }
    }
}

#[test]
fn a_copier_that_stops_after_every_byte_is_never_taken_for_done() {
    let labels = "a\nb";
    // SHA-256 of those labels.
    let sums = format!(
        "{NOTHING}  bundle.toml\n{}  labels.txt\n{ABC}  model.onnx\n",
        "7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78"
    );
    let files = [("bundle.toml", ""), ("labels.txt", labels), ("model.onnx", "abc")];
    let mut looks = 0;
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut copied = vec![("MANIFEST.sha256", sums.as_str())];
        copied.extend(order.map(|index| files[index]));
        copy_and_look(&copied, &mut looks);
    }
    assert!(looks > 1000, "{looks}");
}

#[test]
fn warm_up_requests_may_be_missing_and_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "1/model.onnx", "m");
    let limits = Limits { warm_up_bytes: 3, ..Limits::default() };
    assert_eq!(read(root.path()).unwrap().warm_up_requests(&limits).unwrap(), None);
    let file = "1/assets.extra/tf_serving_warmup_requests";
    write(root.path(), file, "abc");
    let content = read(root.path()).unwrap().warm_up_requests(&limits).unwrap();
    assert_eq!(content, Some(Bytes::from("abc")));
    write(root.path(), file, "abcd");
    let over = read(root.path()).unwrap().warm_up_requests(&limits).unwrap_err();
    assert!(matches!(over, BundleError::TooLarge { limit: 3, .. }), "{over}");
    let path = root.path().join(file);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
    assert!(read(root.path()).unwrap().warm_up_requests(&limits).is_err());
}
