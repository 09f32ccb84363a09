use ingle_plugin::{File, Result, failed_precondition};
use memchr::memchr_iter;

/// Names of classes, one on a line: the file as it is, and where its lines end.
pub(crate) struct Labels {
    text: Vec<u8>,
    /// Where the first line starts: after a byte order mark.
    start: usize,
    /// One past each line, at its line feed or at the end of the file.
    ends: Vec<u32>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl Labels {
    /// Lines end in LF or CRLF; the last one may.
    pub(crate) fn new(file: File) -> Result<Self> {
        let File { name, content: text } = file;
        let start = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let refuse = |what: &str| Err(failed_precondition!("labels: {name}: {what}"));
        let Ok(length) = u32::try_from(text.len()) else { return refuse("over 4 GiB") };
        if std::str::from_utf8(&text).is_err() {
            return refuse("not UTF-8");
        }
        let mut ends: Vec<u32> = memchr_iter(b'\n', &text).map(|at| at as u32).collect();
        let last_line = ends.last().map_or(start, |end| *end as usize + 1);
        if last_line < text.len() {
            ends.push(length);
        }
        if ends.is_empty() {
            return refuse("it is empty");
        }
        Ok(Self { text, start, ends })
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, class: usize) -> Option<&[u8]> {
        let end = *self.ends.get(class)? as usize;
        let before = class.checked_sub(1).and_then(|class| self.ends.get(class));
        let start = before.map_or(self.start, |end| *end as usize + 1);
        let line = self.text.get(start..end)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(content: &[u8]) -> Result<Labels> {
        Labels::new(File { name: "labels.txt".into(), content: content.to_vec() })
    }

    fn lines(content: &[u8]) -> Vec<String> {
        let labels = labels(content).unwrap();
        let line = |class| String::from_utf8(labels.get(class).unwrap().to_vec()).unwrap();
        (0..labels.len()).map(line).collect()
    }

    #[test]
    fn every_line_is_a_label_whatever_ends_it() {
        assert_eq!(lines(b"cat\ndog"), ["cat", "dog"]);
        assert_eq!(lines(b"cat\ndog\n"), ["cat", "dog"]);
        assert_eq!(lines(b"cat\r\ndog\r\n"), ["cat", "dog"]);
        assert_eq!(lines(b"\xEF\xBB\xBFcat\ndog"), ["cat", "dog"]);
        assert_eq!(lines(b"cat, tabby\n\nK\xC3\xA4se\n"), ["cat, tabby", "", "K\u{e4}se"]);
    }

    #[test]
    fn a_label_beyond_the_last_line_is_none() {
        assert_eq!(labels(b"cat\n").unwrap().get(1), None);
    }

    #[test]
    fn a_file_that_is_no_list_of_labels_is_refused() {
        let message = |content: &[u8]| labels(content).err().unwrap().message;
        assert_eq!(message(b""), "labels: labels.txt: it is empty");
        assert_eq!(message(b"\xEF\xBB\xBF"), "labels: labels.txt: it is empty");
        assert_eq!(message(b"cat\n\xFF"), "labels: labels.txt: not UTF-8");
    }
}
