//! Prometheus' text format 0.0.4, made of OpenMetrics' text.

/// In OpenMetrics a counter's family is named without `_total`, in the older format with it;
/// and units and the end are said in lines that are not known there. TensorFlow Serving's
/// names are not OpenMetrics, so the page is of the older format.
pub(super) fn classic(text: &mut String, openmetrics: &str) {
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        let (keyword, name) = match (words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(name)) => (keyword, name),
            (Some("#"), Some("EOF"), None) => continue,
            _ => {
                text.push_str(line);
                text.push('\n');
                continue;
            }
        };
        match keyword {
            "HELP" => help = Some((name, words.next().unwrap_or_default())),
            "TYPE" => {
                let kind = words.next().unwrap_or_default();
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                    text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
                }
                text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_as_their_samples_are() {
        let openmetrics = "# HELP a Some help.\n# TYPE a counter\na_total{x=\"# y\"} 1\n\
            # HELP b_seconds Help of b.\n# TYPE b_seconds histogram\n# UNIT b_seconds seconds\n\
            b_seconds_sum 1.5\n# EOF\n";
        let mut text = String::new();
        classic(&mut text, openmetrics);
        let expected = "# HELP a_total Some help.\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n\
            # HELP b_seconds Help of b.\n# TYPE b_seconds histogram\nb_seconds_sum 1.5\n";
        assert_eq!(text, expected);
    }
}
