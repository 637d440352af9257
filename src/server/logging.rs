//! Log lines on standard error: for people on a terminal, JSON otherwise.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write, stderr},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{FormatFields, format::debug_fn},
};

use crate::{
    config::LogFormat,
    sys::{fs, process},
    terminal::{escaped, escaped_json},
};

/// Opens the log of a service in the background, or makes it; nothing but a plain file, and only in
/// a folder of this account.
pub fn open_log(path: &Path) -> io::Result<File> {
    let folder = path.parent().unwrap_or(path).metadata()?;
    if folder.uid() != process::own_uid() {
        let why = format!("its folder belongs to the user {}", folder.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    fs::open_to_append(path)
}

/// Sends log lines that the filter lets pass to standard error. Later calls change nothing.
pub(super) fn init(filter: &str, format: LogFormat) {
    // Checked with the other settings; what is wrong with it has been told.
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let is_human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => stderr().is_terminal(),
    };
    let colours =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // A second subscriber in one process is a test's business.
    let _ = if is_human {
        lines.with_ansi(colours).with_target(false).fmt_fields(fields()).try_init()
    } else {
        let lines = lines.json().flatten_event(true).with_span_list(false);
        lines.with_writer(|| JsonLines(stderr())).try_init()
    };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a thread panicked");
    }));
}

/// Writes the message and the fields of an event, each on this line and escaped: a folder's name
/// or an error that quotes a caller must neither steer the terminal nor pass for a line of ours.
fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer, field, value| {
        let text = escaped(&format!("{value:?}"));
        match field.name() {
            "message" => write!(writer, "{text}"),
            name => write!(writer, "{name}={text}"),
        }
    })
    .delimited(" ")
}

/// Takes one event as one line of JSON in each write, and passes it on with nothing in it that a
/// terminal would obey: somebody may look at the log with `cat`.
struct JsonLines<W>(W);

impl<W: Write> Write for JsonLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
        self.0.write_all(format!("{}{end}", escaped_json(line)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What tells of an event beside a caller's words: as they stand, in an error, and quoted.
    fn tell(bad: &str) {
        let error = io::Error::other(bad);
        tracing::info!(text = bad, %error, debug = ?error, "{bad}");
    }

    const BAD: &str = "a\n2031-01-01 INFO all is well\u{1b}[2J\u{9b}1m\r\u{7f}\u{202e}";

    /// The one line that was written, which must hold nothing to escape.
    fn only_line(lines: &Lines) -> String {
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert_eq!(escaped(line), line);
        assert_eq!(line.matches("all is well").count(), 4, "{line}");
        line.to_owned()
    }

    #[test]
    fn what_a_caller_sent_stays_on_its_line_and_cannot_steer_the_terminal() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .fmt_fields(fields())
            .finish();
        tracing::subscriber::with_default(subscriber, || tell(BAD));
        let line = only_line(&lines);
        assert!(line.contains(" text=") && line.contains(" error="), "{line}");
    }

    #[test]
    fn a_line_of_json_means_what_was_sent_and_cannot_steer_the_terminal() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || JsonLines(writer.clone()))
            .finish();
        tracing::subscriber::with_default(subscriber, || tell(BAD));
        let line: serde_json::Value = serde_json::from_str(&only_line(&lines)).unwrap();
        assert_eq!((&line["text"], &line["message"]), (&BAD.into(), &BAD.into()));
    }
}
