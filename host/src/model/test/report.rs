//! What is said of the tests, line by line and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::case::Outcome;
use super::{Failure, Output, Verdict, source};

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    unsupported: usize,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pass => self.passed += 1,
            Outcome::Fail(_) => self.failed += 1,
            Outcome::Unsupported(_) => self.unsupported += 1,
        }
    }

    fn total(self) -> usize {
        self.passed + self.failed + self.unsupported
    }

    fn json(self) -> Value {
        let Self { passed, failed, unsupported } = self;
        let total = self.total();
        json!({"passed": passed, "failed": failed, "unsupported": unsupported, "total": total})
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, unsupported } = self;
        let total = self.total();
        write!(f, "{passed} passed, {failed} failed, {unsupported} unsupported of {total}")
    }
}

/// Counts the outcomes and compares them with what was expected.
#[derive(Debug)]
pub(super) struct Report {
    /// The names that must pass; `None` = all must.
    expected: Option<BTreeSet<String>>,
    /// The group of each test.
    groups: BTreeMap<String, String>,
    passed: BTreeSet<String>,
    all: Counts,
    by_group: BTreeMap<String, Counts>,
}

impl Report {
    pub(super) fn new(expect: Option<&Path>, groups: Option<&Path>) -> Result<Self, Failure> {
        let expected = expect.map(source::read_text).transpose()?;
        let groups = match groups {
            Some(file) => {
                let text = source::read_text(file)?;
                groups_of(&text)
                    .with_context(|| format!("--groups {}", file.display()))
                    .map_err(Failure::data)?
            }
            None => BTreeMap::new(),
        };
        Ok(Self {
            expected: expected.as_deref().map(names_of),
            groups,
            passed: BTreeSet::new(),
            all: Counts::default(),
            by_group: BTreeMap::new(),
        })
    }

    pub(super) fn add(
        &mut self,
        out: &mut Output,
        name: String,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let (word, why) = match &outcome {
            Outcome::Pass => ("PASS", None),
            Outcome::Fail(why) => ("FAIL", Some(why)),
            Outcome::Unsupported(what) => ("UNSUPPORTED", Some(what)),
        };
        match why {
            _ if out.is_json() => {
                let outcome = word.to_lowercase();
                out.object(&json!({"test": name, "outcome": outcome, "why": why}))?;
            }
            None => out.line(format_args!("{word} {name}"))?,
            Some(why) => out.line(format_args!("{word} {name}: {why}"))?,
        }
        self.all.add(&outcome);
        if let Some(group) = self.groups.get(&name) {
            self.by_group.entry(group.clone()).or_default().add(&outcome);
        }
        if outcome == Outcome::Pass {
            self.passed.insert(name);
        }
        Ok(())
    }

    pub(super) fn write_passed(&self, file: &Path) -> Result<(), Failure> {
        let lines: String = self.passed.iter().map(|name| format!("{name}\n")).collect();
        fs::write(file, lines)
            .with_context(|| format!("--write-expect {}", file.display()))
            .map_err(Failure::no_input)
    }

    /// The closing lines, and whether what had to pass did.
    pub(super) fn finish(self, out: &mut Output) -> Result<Verdict, Failure> {
        let missed: Vec<&String> =
            self.expected.iter().flatten().filter(|name| !self.passed.contains(*name)).collect();
        let new = self.expected.as_ref().map_or(0, |e| self.passed.difference(e).count());
        if out.is_json() {
            let groups: BTreeMap<_, _> =
                self.by_group.iter().map(|(group, counts)| (group, counts.json())).collect();
            let mut summary = self.all.json();
            if let Some(summary) = summary.as_object_mut() {
                summary.insert("groups".into(), json!(groups));
                summary.insert("expected_but_not_passed".into(), json!(missed));
                summary.insert("passed_but_not_expected".into(), json!(new));
            }
            out.object(&json!({"summary": summary}))?;
        } else {
            for (group, counts) in &self.by_group {
                out.line(format_args!("group {group}: {counts}"))?;
            }
            for name in &missed {
                out.line(format_args!("EXPECTED {name}: it is listed by --expect"))?;
            }
            if new > 0 {
                out.line(format_args!("{new} passed that --expect does not list"))?;
            }
            out.line(format_args!("{}", self.all))?;
        }
        let met = match self.expected {
            Some(_) => missed.is_empty(),
            None => self.all.passed == self.all.total(),
        };
        Ok(if met { Verdict::Yes } else { Verdict::No })
    }
}

/// One name on a line; empty lines and those that start with # say nothing.
fn names_of(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// The first two columns of tab-separated lines. A line of titles does no harm: no
/// test has that name.
fn groups_of(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |(number, line): (usize, &str)| {
        let mut columns = line.split('\t').map(str::trim);
        match (columns.next(), columns.next()) {
            (Some(name), Some(group)) => Ok((name.to_owned(), group.to_owned())),
            _ => Err(anyhow!("line {}: no tab between a name and a group", number + 1)),
        }
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_may_have_remarks() {
        let names = names_of("# these pass\na\n\n  b\r\na\n");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn groups_are_the_second_column() {
        let groups = groups_of("name\tgroup\topset\na\tA\t1\nb\tB\n").unwrap();
        assert_eq!((groups["a"].as_str(), groups["b"].as_str()), ("A", "B"));
        assert!(groups_of("a A\n").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn the_verdict_is_about_what_must_pass() {
        let verdict = |expected: Option<&[&str]>| {
            let expected = expected.map(|names| names.iter().map(|&n| n.to_owned()).collect());
            let mut report = Report { expected, ..Report::new(None, None).unwrap() };
            let mut out = Output::new(Default::default());
            report.add(&mut out, "good".into(), Outcome::Pass).unwrap();
            report.add(&mut out, "bad".into(), Outcome::Fail("wrong".into())).unwrap();
            report.finish(&mut out).unwrap()
        };
        assert_eq!(verdict(None), Verdict::No);
        assert_eq!(verdict(Some(&["good"])), Verdict::Yes);
        assert_eq!(verdict(Some(&["good", "bad"])), Verdict::No);
        assert_eq!(verdict(Some(&["good", "not there"])), Verdict::No);
    }
}
