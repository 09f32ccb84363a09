use super::*;

fn one(body: &str) -> Result<ModelConfig, String> {
    let text = format!("model_config_list {{ config {{ {body} }} }}");
    parse(&text).map(|mut models| models.remove(0)).map_err(|error| error.to_string())
}

const PLAIN: &str = r#"name: "m" base_path: "/models/m" model_platform: "tensorflow""#;

fn with(more: &str) -> Result<ModelConfig, String> {
    one(&format!("{PLAIN} {more}"))
}

#[test]
fn a_file_as_the_documentation_shows_it_is_read() {
    let text = r#"
        model_config_list {
          config {
            name: 'first'
            base_path: '/tmp/first'
            model_platform: 'tensorflow'
            model_version_policy { specific { versions: 42 versions: 43 } }
            version_labels { key: 'stable' value: 42 }
            version_labels { key: 'canary' value: 43 }
          }
          config { name: 'second' base_path: 's3://bucket/second' model_type: TENSORFLOW }
        }"#;
    let expected = [
        ModelConfig {
            name: "first".into(),
            base_path: "/tmp/first".into(),
            policy: VersionPolicy::Specific(vec![42, 43]),
            labels: BTreeMap::from([("stable".into(), 42), ("canary".into(), 43)]),
            platform: "tensorflow".into(),
            logging: None,
        },
        ModelConfig {
            name: "second".into(),
            base_path: "s3://bucket/second".into(),
            policy: VersionPolicy::Latest(1),
            labels: BTreeMap::new(),
            platform: "tensorflow".into(),
            logging: None,
        },
    ];
    assert_eq!(parse(text).unwrap(), expected);
}

#[test]
fn every_spelling_of_the_text_format_means_the_same() {
    let expected = with("model_version_policy { specific { versions: 1 versions: 2 } }").unwrap();
    let policy = "model_version_policy { specific { versions: [1, 2] } }";
    let spellings = [
        format!("model_config_list {{ config {{ {PLAIN} {policy} }} }}"),
        format!("model_config_list: {{ config: {{ {PLAIN} {policy} }} }}"),
        format!("model_config_list < config < {PLAIN} {policy} > >"),
        format!("model_config_list {{ config: [{{ {PLAIN} {policy} }}] }}"),
        format!("# a comment\nmodel_config_list {{ # another\n config {{ {PLAIN} {policy} }} }}"),
        "model_config_list { config { name: 'm', base_path: '/models/m'; model_platform: 'tensorflow', model_version_policy { specific { versions: 1, versions: 2 } } } }".into(),
        "model_config_list { config { name: 'm' base_path: '/models' \"/m\" model_platform: \"tensor\" 'flow' model_version_policy { specific { versions: 0x1 versions: 02 } } } }".into(),
        r#"model_config_list { config { name: "\x6d" base_path: "/models/\155" model_platform: 'tensorflow' model_version_policy: < specific: < versions: [1,2] > > } }"#.into(),
    ];
    for text in spellings {
        assert_eq!(parse(&text).expect(&text), std::slice::from_ref(&expected), "{text}");
    }
}

#[test]
fn labels_are_entries_or_a_list_of_them() {
    let expected = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    for text in [
        "version_labels { key: 'a' value: 1 } version_labels { key: 'b' value: 2 }",
        "version_labels: [{ key: 'a' value: 1 }, { key: 'b' value: 2 }]",
    ] {
        assert_eq!(with(text).unwrap().labels, expected, "{text}");
    }
}

#[test]
fn policies_default_to_the_latest() {
    let policy = |text: &str| with(text).unwrap().policy;
    assert_eq!(policy(""), VersionPolicy::Latest(1));
    assert_eq!(policy("model_version_policy {}"), VersionPolicy::Latest(1));
    assert_eq!(policy("model_version_policy { latest {} }"), VersionPolicy::Latest(1));
    let zero = "model_version_policy { latest { num_versions: 0 } }";
    assert_eq!(policy(zero), VersionPolicy::Latest(1));
    let three = "model_version_policy { latest { num_versions: 3 } }";
    assert_eq!(policy(three), VersionPolicy::Latest(3));
    assert_eq!(policy("model_version_policy { all: {} }"), VersionPolicy::All);
}

#[test]
fn platforms_of_onnx_are_taken_too() {
    for platform in PLATFORMS {
        let text = format!("name: 'm' base_path: '/m' model_platform: '{platform}'");
        assert_eq!(one(&text).unwrap().platform, platform);
    }
    let old = one("name: 'm' base_path: '/m' model_type: TENSORFLOW").unwrap();
    assert_eq!(old.platform, "tensorflow");
}

#[test]
fn what_is_wrong_is_said_in_tensorflow_servings_words() {
    let wrong = |body: &str| one(body).unwrap_err();
    assert_eq!(
        wrong("name: 'm' base_path: 'models/m' model_platform: 'tensorflow'"),
        "Expected model m to have an absolute path or URI; got base_path()=models/m"
    );
    assert_eq!(
        wrong("name: 'm' base_path: '/m'"),
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, model name is m"
    );
    assert!(
        wrong("name: 'm' base_path: '/m' model_type: TENSORFLOW model_platform: 'tensorflow'")
            .starts_with("Illegal setting both ")
    );
    assert_eq!(
        wrong("name: 'm' base_path: '/m' model_platform: 'caffe'"),
        "Model m requests unsupported platform caffe"
    );
    assert_eq!(
        wrong("name: 'm' base_path: '/m' model_type: OTHER"),
        "Model m requests unsupported platform other"
    );
    assert!(wrong("base_path: '/m' model_platform: 'onnx'").contains("no name"));
    assert!(with("version_labels { key: 'a' value: -1 }").unwrap_err().contains("-1"));
    assert!(with("logging_config {}").unwrap_err().contains("unsupported log collector type"));
    let twice = format!("model_config_list {{ config {{ {PLAIN} }} config {{ {PLAIN} }} }}");
    let error = parse(&twice).unwrap_err();
    assert_eq!(error.to_string(), "Illegal to list model m multiple times in config list");
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[test]
fn what_is_not_the_text_format_is_a_parse_error() {
    for text in [
        "model_config_list",
        "model_config_list {",
        "model_config_list { config { name: m } }",
        "model_config_list { config { nam: 'm' } }",
        "model_config_list { config { name: 'm' version_policy: ALL_VERSIONS } }",
        "model_config_list { config { model_type: KERAS } }",
        "{\"model_config_list\": {}}",
        "model_config_list { config { name: 'm\n' } }",
        "model_config_list { config { version_labels { key: 'a' value: 'b' } } }",
        "name: 'm'",
    ] {
        let error = parse(text).expect_err(text).to_string();
        let start = "Error parsing text-format tensorflow.serving.ModelServerConfig: ";
        assert!(error.starts_with(start), "{text}: {error}");
    }
}

#[test]
fn an_empty_file_lists_nothing() {
    assert_eq!(parse("").unwrap(), []);
    assert_eq!(parse("# nothing yet\n").unwrap(), []);
    assert_eq!(parse("model_config_list {}").unwrap(), []);
    assert_eq!(parse_change("# nothing yet\n").unwrap(), None);
    assert_eq!(parse_change("model_config_list {}").unwrap(), Some(Vec::new()));
    assert!(matches!(parse("custom_model_config {}"), Err(ModelsConfigError::Custom)));
}
