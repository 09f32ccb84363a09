//! `logging_config`: which requests of a model are recorded, and where.

use super::ModelsConfigError;
use crate::proto::tensorflow::serving as pb;

/// Which requests of a model are recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    /// The share of its requests, from 0 to 1.
    pub sampling_rate: f64,
    pub destination: LogDestination,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogDestination {
    /// An absolute path, to which numbers are added.
    pub filename_prefix: String,
    pub form: LogForm,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogForm {
    /// A line of JSON each.
    JsonLines,
    /// TensorFlow's file of records.
    TfRecord,
}

impl LogForm {
    /// What `log_collector_config.type` calls it.
    fn of(kind: &str) -> Option<Self> {
        [Self::JsonLines, Self::TfRecord].into_iter().find(|form| form.extension() == kind)
    }

    /// What names of files end in.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::TfRecord => "tfrecord",
        }
    }
}

pub(super) fn read(
    model: &str,
    config: Option<pb::LoggingConfig>,
) -> Result<Option<Logging>, ModelsConfigError> {
    let Some(config) = config else { return Ok(None) };
    let name = || model.to_owned();
    if config.custom_logging_config.is_some() {
        return Err(ModelsConfigError::CustomLogging { name: name() });
    }
    let collector = config.log_collector_config.unwrap_or_default();
    let Some(form) = LogForm::of(&collector.r#type) else {
        return Err(ModelsConfigError::LogCollector { name: name(), kind: collector.r#type });
    };
    let filename_prefix = collector.filename_prefix;
    if !filename_prefix.starts_with('/') || filename_prefix.ends_with('/') {
        return Err(ModelsConfigError::LogPrefix { name: name(), prefix: filename_prefix });
    }
    let sampling_rate = config.sampling_config.unwrap_or_default().sampling_rate;
    if !(0.0..=1.0).contains(&sampling_rate) {
        return Err(ModelsConfigError::SamplingRate { name: name(), rate: sampling_rate });
    }
    Ok(Some(Logging { sampling_rate, destination: LogDestination { filename_prefix, form } }))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn logging(text: &str) -> Result<Option<Logging>, String> {
        let text = format!(
            "model_config_list {{ config {{ name: 'm' base_path: '/m' model_platform: 'tensorflow' {text} }} }}"
        );
        match parse(&text) {
            Ok(models) => Ok(models[0].logging.clone()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_collector_has_a_type_a_prefix_and_a_rate() {
        for (kind, form) in [("jsonl", LogForm::JsonLines), ("tfrecord", LogForm::TfRecord)] {
            let text = format!(
                "logging_config {{ log_collector_config {{ type: '{kind}' filename_prefix: '/logs/m' }} sampling_config {{ sampling_rate: 0.25 }} }}"
            );
            let destination = LogDestination { filename_prefix: "/logs/m".into(), form };
            let expected = Logging { sampling_rate: 0.25, destination };
            assert_eq!(logging(&text), Ok(Some(expected)));
        }
        assert_eq!(logging(""), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let collector = |kind: &str, prefix: &str, rate: &str| {
            format!(
                "logging_config {{ log_collector_config {{ type: '{kind}' filename_prefix: '{prefix}' }} sampling_config {{ sampling_rate: {rate} }} }}"
            )
        };
        for (text, expected) in [
            (
                collector("kafka", "/a", "1"),
                "Model m requests unsupported log collector type kafka: there are jsonl and tfrecord",
            ),
            (
                "logging_config { }".into(),
                "Model m requests unsupported log collector type : there are jsonl and tfrecord",
            ),
            (
                collector("jsonl", "logs/m", "1"),
                "Expected model m to have an absolute path for its request log; got filename_prefix=logs/m",
            ),
            (
                collector("jsonl", "/logs/", "1"),
                "Expected model m to have an absolute path for its request log; got filename_prefix=/logs/",
            ),
            (
                collector("jsonl", "", "1"),
                "Expected model m to have an absolute path for its request log; got filename_prefix=",
            ),
            (
                collector("jsonl", "/a", "1.5"),
                "Expected model m to have a sampling_rate from 0 to 1; got 1.5",
            ),
            (
                collector("jsonl", "/a", "-0.5"),
                "Expected model m to have a sampling_rate from 0 to 1; got -0.5",
            ),
            (
                collector("jsonl", "/a", "nan"),
                "Expected model m to have a sampling_rate from 0 to 1; got NaN",
            ),
        ] {
            assert_eq!(logging(&text), Err(expected.to_owned()));
        }
    }
}
