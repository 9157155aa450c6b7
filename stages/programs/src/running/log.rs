//! What a program says, line by line as it comes, in bounded memory: the beginning is passed on at once, and of what
//! is beyond a limit only the end is kept. A line without end is cut, and one that is drawn over with carriage returns,
//! as progress bars are, is kept as it was last.

use std::collections::VecDeque;

use contract::Host;
use serde_json::{Map, Value};

/// As much is passed on as it comes.
const HEAD: usize = 1 << 20;

/// Of what follows, as much is kept until the end.
const TAIL: usize = 256 << 10;

/// What a line costs besides its text: a program may print empty ones.
const PER_LINE: usize = 64;

/// Longer lines are cut, in bytes.
const LONGEST: usize = 4 << 10;

/// As much of each stream is repeated where the program failed.
const SAID: usize = 2000;

/// What a line begins with that reports something to us: what follows is a JSON object.
const REPORT: &str = "@runner ";

/// As many reports are kept until they are taken.
const MOST_REPORTS: usize = 256;

/// Of which stream a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Messages,
}

/// The log of one program.
pub(super) struct Log<'a> {
    host: &'a dyn Host,
    lines: [Line; 2],
    /// What may still be passed on at once.
    head: usize,
    tail: Ring,
    /// The last lines of each stream.
    said: [Ring; 2],
    remarks: Vec<String>,
    /// What was reported and not taken yet.
    reports: VecDeque<Map<String, Value>>,
}

impl<'a> Log<'a> {
    pub fn new(host: &'a dyn Host) -> Self {
        Self {
            host,
            lines: Default::default(),
            head: HEAD,
            tail: Ring::new(TAIL, PER_LINE),
            said: [Ring::new(SAID, 1), Ring::new(SAID, 1)],
            remarks: Vec::new(),
            reports: VecDeque::new(),
        }
    }

    /// The next report, if there is one.
    pub fn next_report(&mut self) -> Option<Map<String, Value>> {
        self.reports.pop_front()
    }

    /// Takes the next bytes of a stream.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.lines[stream as usize].extend(&rest[..end]);
            self.end_line(stream);
            rest = &rest[end + 1..];
        }
        self.lines[stream as usize].extend(rest);
    }

    /// Passes on what has been kept back. Nothing comes after it.
    pub fn finish(&mut self) {
        for stream in [Stream::Output, Stream::Messages] {
            if !self.lines[stream as usize].is_empty() {
                self.end_line(stream);
            }
        }
        if self.tail.left_out > 0 {
            let (lines, bytes) = (self.tail.left_out, self.tail.left_out_bytes);
            self.host.note(&format!(
                "… {lines} lines ({bytes} bytes) are left out here …"
            ));
        }
        for line in self.tail.lines.drain(..).chain(self.remarks.drain(..)) {
            self.host.note(&line);
        }
    }

    /// Adds a line that is not the program's, at the end.
    pub fn remark(&mut self, text: &str) {
        self.remarks.push(text.to_owned());
    }

    /// The end of what the program said of a fault: its messages, or if there are none its output.
    pub fn last_words(&self) -> String {
        let [output, messages] = &self.said;
        let said = messages.text();
        if said.is_empty() { output.text() } else { said }
    }

    fn end_line(&mut self, stream: Stream) {
        let mut text = self.lines[stream as usize].finish();
        if let Some((before, report)) = report_in(&text) {
            if self.reports.len() == MOST_REPORTS {
                self.reports.pop_front();
            }
            self.reports.push_back(report);
            // Text that did not end its line stands before it.
            if before == 0 {
                return;
            }
            text.truncate(before);
        }
        self.said[stream as usize].push(text.clone());
        let cost = text.len() + PER_LINE;
        // The first lines are passed on as they come, for those who watch; later ones wait, so that the end is kept too.
        if cost <= self.head {
            self.head -= cost;
            return self.host.note(&text);
        }
        if self.head > 0 {
            self.head = 0;
            self.host
                .note("… it says more than is kept; from here on only the end will be …");
        }
        self.tail.push(text);
    }
}

/// Where a report begins in a line, and what it says.
fn report_in(line: &str) -> Option<(usize, Map<String, Value>)> {
    let before = line.find(REPORT)?;
    let report = serde_json::from_str(&line[before + REPORT.len()..]).ok()?;
    Some((before, report))
}

/// A line that has not ended yet.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// Bytes beyond the longest that is kept.
    cut: usize,
    /// A carriage return came last: what follows is written over the line, unless the line ends.
    returned: bool,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.cut == 0
    }

    fn extend(&mut self, bytes: &[u8]) {
        for (index, piece) in bytes.split(|byte| *byte == b'\r').enumerate() {
            self.returned |= index > 0;
            if piece.is_empty() {
                continue;
            }
            if self.returned {
                self.bytes.clear();
                (self.cut, self.returned) = (0, false);
            }
            let room = LONGEST - self.bytes.len();
            self.bytes
                .extend_from_slice(&piece[..piece.len().min(room)]);
            self.cut += piece.len().saturating_sub(room);
        }
    }

    fn finish(&mut self) -> String {
        let mut text = readable(&self.bytes);
        if self.cut > 0 {
            text.push_str(&format!("… ({} more bytes)", self.cut));
        }
        self.bytes.clear();
        (self.cut, self.returned) = (0, false);
        text
    }
}

/// Lines of which the oldest are given up.
struct Ring {
    lines: VecDeque<String>,
    /// What the lines cost in all, and may cost.
    cost: usize,
    most: usize,
    /// What a line costs besides its text.
    per_line: usize,
    left_out: u64,
    left_out_bytes: u64,
}

impl Ring {
    fn new(most: usize, per_line: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            cost: 0,
            most,
            per_line,
            left_out: 0,
            left_out_bytes: 0,
        }
    }

    fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n").trim().to_owned()
    }

    fn push(&mut self, line: String) {
        self.cost += line.len() + self.per_line;
        self.lines.push_back(line);
        while self.cost > self.most && self.lines.len() > 1 {
            let Some(oldest) = self.lines.pop_front() else {
                return;
            };
            self.cost -= oldest.len() + self.per_line;
            self.left_out += 1;
            self.left_out_bytes += oldest.len() as u64 + 1;
        }
    }
}

/// Bytes as text that changes nothing on a terminal: colours go, other controls and what is not UTF-8 are escaped.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push_plain(&mut text, chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn push_plain(text: &mut String, valid: &str) {
    let mut rest = valid;
    while let Some(start) = rest.find(|character: char| character.is_control() && character != '\t')
    {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        if let Some(length) = styling(rest) {
            rest = &rest[length..];
            continue;
        }
        let Some(control) = rest.chars().next() else {
            break;
        };
        text.extend(control.escape_default());
        rest = &rest[control.len_utf8()..];
    }
    text.push_str(rest);
}

/// The length of an escape sequence that sets a colour or clears a line, if the text begins with one.
fn styling(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    matches!(parameters.as_bytes()[end], b'm' | b'K').then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    use super::*;
    use contract::artifact::Digest;
    use contract::{Progress, Trouble};

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Host for Notes {
        fn progress(&self, _: Progress) {}
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
        fn is_cancelled(&self) -> bool {
            false
        }
        fn file(&self, _: &str) -> Option<PathBuf> {
            None
        }
        fn copy_file(&self, _: &str, _: &Path) -> Result<(), Trouble> {
            Err(Trouble::new("none"))
        }
        fn environment(&self, _: &str) -> Option<String> {
            None
        }
        fn scratch(&self) -> Result<&Path, Trouble> {
            Err(Trouble::new("none"))
        }
        fn load_checkpoint(&self, _: &Digest, _: u64) -> Option<(u64, Vec<u8>)> {
            None
        }
        fn save_checkpoint(
            &self,
            _: &Digest,
            _: u64,
            _: &[u8],
            _: Option<u64>,
        ) -> Result<(), Trouble> {
            Ok(())
        }
    }

    fn notes(pieces: &[(Stream, &[u8])]) -> (Vec<String>, String) {
        let host = Notes::default();
        let mut log = Log::new(&host);
        pieces
            .iter()
            .for_each(|(stream, bytes)| log.take(*stream, bytes));
        log.finish();
        let words = log.last_words();
        drop(log);
        (host.0.into_inner().unwrap(), words)
    }

    #[test]
    fn lines_come_as_they_end_and_streams_do_not_mix() {
        use Stream::{Messages, Output};
        let (said, words) = notes(&[
            (Output, b"one\ntw"),
            (Messages, b"warn"),
            (Output, b"o\r\n"),
            (Messages, b"ing\n"),
            (Output, b"last"),
        ]);
        assert_eq!(said, ["one", "two", "warning", "last"]);
        assert_eq!(words, "warning");
        assert_eq!(
            notes(&[(Output, b"a\nb\n"), (Messages, b"\n \n")]).1,
            "a\nb"
        );
    }

    #[test]
    fn reports_are_taken_out_of_what_is_said() {
        let host = Notes::default();
        let mut log = Log::new(&host);
        log.take(
            Stream::Output,
            b"@runner {\"epoch\": 1, \"loss\": 0.5}\nab@runner {\"epoch\": 2}\n",
        );
        log.take(Stream::Output, b"@runner nonsense\n");
        assert_eq!(log.next_report().unwrap()["loss"], 0.5);
        assert_eq!(log.next_report().unwrap()["epoch"], 2);
        assert!(log.next_report().is_none());
        log.finish();
        assert_eq!(*host.0.lock().unwrap(), ["ab", "@runner nonsense"]);
    }

    #[test]
    fn a_progress_bar_is_one_line() {
        let (said, _) = notes(&[
            (Stream::Messages, b"10 %\r50 %\r"),
            (Stream::Messages, b"\r100 %\r\ndone\n"),
        ]);
        assert_eq!(said, ["100 %", "done"]);
    }

    #[test]
    fn nothing_reaches_a_terminal_but_text() {
        let (said, _) = notes(&[(
            Stream::Output,
            b"\x1b[1;31mred\x1b[0m\t\xff\xfe\x1b]0;title\x07 gr\xc3\xb6\xc3\n",
        )]);
        assert_eq!(said, ["red\t\\xff\\xfe\\u{1b}]0;title\\u{7} grö\\xc3"]);
    }

    #[test]
    fn much_is_cut_in_the_middle_and_long_lines_at_their_end() {
        let host = Notes::default();
        let mut log = Log::new(&host);
        for number in 0..100_000 {
            log.take(Stream::Output, format!("line {number}\n").as_bytes());
        }
        let endless = vec![b'x'; 10 * LONGEST];
        log.take(Stream::Output, &endless);
        log.finish();
        let said = host.0.lock().unwrap();
        let bytes: usize = said.iter().map(String::len).sum();
        assert!(bytes <= HEAD + TAIL + 2 * LONGEST, "{bytes}");
        assert_eq!(
            (said[0].as_str(), said[100].as_str()),
            ("line 0", "line 100")
        );
        let last = said.last().unwrap();
        assert!(
            last.ends_with(&format!("xx… ({} more bytes)", 9 * LONGEST)),
            "{last}"
        );
        let told: Vec<&String> = said
            .iter()
            .filter(|line| line.contains("left out"))
            .collect();
        let left_out: usize = told[0].split(' ').nth(1).unwrap().parse().unwrap();
        // Every line is shown or counted; two notes are not the program's.
        assert_eq!(told.len(), 1);
        assert_eq!(said.len() - 2 + left_out, 100_001);
        assert!(said[said.len() - 2].starts_with("line 99999"));
    }

    /// Each line becomes an event, however little is in it.
    #[test]
    fn empty_lines_are_not_free() {
        let (said, _) = notes(&[(Stream::Output, &vec![b'\n'; 2_000_000])]);
        assert!(said.len() <= (HEAD + TAIL) / PER_LINE + 2, "{}", said.len());
    }
}
