//! Files that are written one after the other: `PREFIX.000001.jsonl`, and so on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ingle_types::{Code, Limits};
use ingle_wire::models_config::{LogDestination, LogForm};
use ingle_wire::{Record, tfrecord};

/// Every file that is written.
pub(super) struct Files {
    open: BTreeMap<LogDestination, Series>,
    file_bytes: u64,
    files: usize,
}

/// The files of one destination.
struct Series {
    /// `None` until there is something to write.
    current: Option<BufWriter<File>>,
    bytes: u64,
    /// Said once, until it is over.
    failed: bool,
}

impl Files {
    pub(super) fn new(limits: &Limits) -> Self {
        let (file_bytes, files) = (limits.request_log_file_bytes, limits.request_log_files.max(1));
        Self { open: BTreeMap::new(), file_bytes, files }
    }

    /// Appends a record, in a new file where the last one is full.
    ///
    /// # Errors
    /// INTERNAL for a record that cannot be written down, UNAVAILABLE where the disk does
    /// not take it.
    pub(super) fn write(
        &mut self,
        destination: &LogDestination,
        record: &Record,
    ) -> Result<(), Code> {
        let line = encode(destination.form, record)?;
        let (file_bytes, files) = (self.file_bytes, self.files);
        let series = self.open.entry(destination.clone()).or_insert(Series {
            current: None,
            bytes: 0,
            failed: false,
        });
        match series.append(destination, &line, file_bytes, files) {
            Ok(()) => {
                series.failed = false;
                Ok(())
            }
            Err(error) => {
                if !series.failed {
                    let prefix = &destination.filename_prefix;
                    tracing::error!(prefix, %error, "requests are not logged");
                }
                // What is left in the buffer could be half a record: a new file begins.
                (series.current, series.failed) = (None, true);
                Err(Code::Unavailable)
            }
        }
    }

    pub(super) fn flush(&mut self) {
        for (destination, series) in &mut self.open {
            let Some(Err(error)) = series.current.as_mut().map(BufWriter::flush) else { continue };
            let prefix = &destination.filename_prefix;
            tracing::error!(prefix, %error, "logged requests are lost");
            (series.current, series.failed) = (None, true);
        }
    }
}

impl Series {
    fn append(
        &mut self,
        destination: &LogDestination,
        line: &[u8],
        file_bytes: u64,
        files: usize,
    ) -> io::Result<()> {
        let full = self.bytes > 0 && self.bytes + line.len() as u64 > file_bytes;
        if full && let Some(mut file) = self.current.take() {
            file.flush()?;
        }
        let file = match &mut self.current {
            Some(file) => file,
            None => {
                self.bytes = 0;
                self.current.insert(BufWriter::new(begin(destination, files)?))
            }
        };
        file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn encode(form: LogForm, record: &Record) -> Result<Vec<u8>, Code> {
    match form {
        LogForm::TfRecord => {
            let mut framed = Vec::new();
            tfrecord::append(&mut framed, &record.bytes());
            Ok(framed)
        }
        LogForm::JsonLines => {
            let line = record.json().map(|mut line| {
                line.push(b'\n');
                line
            });
            line.map_err(|error| {
                tracing::error!(%error, "a request is not logged");
                Code::Internal
            })
        }
    }
}

/// Makes the next file, which nobody else may read, and removes those that are too many.
fn begin(destination: &LogDestination, files: usize) -> io::Result<File> {
    let prefix = Path::new(&destination.filename_prefix);
    let (Some(folder), Some(stem)) = (prefix.parent(), prefix.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let extension = destination.form.extension();
    let mut numbers = numbers(folder, stem, extension)?;
    numbers.sort_unstable();
    let number = numbers.last().map_or(1, |last| last.saturating_add(1));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path(prefix, number, extension))?;
    let many = (numbers.len() + 1).saturating_sub(files);
    for old in numbers.into_iter().take(many) {
        fs::remove_file(path(prefix, old, extension))?;
    }
    Ok(file)
}

fn path(prefix: &Path, number: u64, extension: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!(".{number:06}.{extension}"));
    name.into()
}

/// Of the files that are there.
fn numbers(folder: &Path, stem: &OsStr, extension: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some((name, stem)) = name.to_str().zip(stem.to_str()) else { continue };
        let middle = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
        let middle = middle.and_then(|rest| rest.strip_suffix(extension)?.strip_suffix('.'));
        let digits = middle.filter(|middle| middle.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    Ok(numbers)
}
