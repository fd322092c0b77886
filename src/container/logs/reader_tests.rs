//! The reader, mostly against what the writer really writes.

use super::super::writer::LogWriter;
use super::*;
use crate::container::request::{LogDriver, LogOptions};
use std::sync::atomic::{AtomicBool, Ordering};

fn options(max_size: u64, max_file: u32) -> LogOptions {
    LogOptions { driver: LogDriver::K8sFile, max_size, max_file }
}

fn show(dir: &Path, query: &LogQuery) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    print(dir, query, &mut out, &mut err, &mut || true).unwrap();
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn tail(lines: usize) -> LogQuery {
    LogQuery { tail: Some(lines), ..LogQuery::default() }
}

#[test]
fn a_container_that_wrote_nothing_has_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    for follow in [false, true] {
        let query = LogQuery { follow, ..tail(5) };
        assert_eq!(show(dir.path(), &query), (String::new(), String::new()));
        assert_eq!(show(&dir.path().join("missing"), &query), (String::new(), String::new()));
    }
}

#[test]
fn the_bytes_come_back_on_their_streams() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(dir.path(), &options(0, 1));
    log.write(Stream::Stdout, b"a\nb").unwrap();
    log.write(Stream::Stderr, b"oops\n").unwrap();
    log.write(Stream::Stdout, b"c\n\nprompt> ").unwrap();
    assert_eq!(show(dir.path(), &LogQuery::default()), ("a\nbc\n\nprompt> ".into(), "oops\n".into()));
}

#[test]
fn what_is_no_entry_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let text = "garbage\n2025-01-31T12:00:00.000000000Z stdout F one\n\n\0\0\0\n\
        2025-01-31T12:00:01.000000000Z stdout F two\n2025-01-31T12:00:02.000000000Z stdout F tor";
    fs::write(files::path(dir.path(), 0), text).unwrap();
    assert_eq!(show(dir.path(), &LogQuery::default()).0, "one\ntwo\n");
    assert_eq!(show(dir.path(), &tail(1)).0, "two\n");
}

#[test]
fn the_tail_is_counted_over_rotated_files_and_partial_lines() {
    let dir = tempfile::tempdir().unwrap();
    // Two entries to a file.
    let mut log = LogWriter::open(dir.path(), &options(100, 4));
    for chunk in ["1\n", "2\n", "3\n", "4", "4\n", "5", "5", "5\n"] {
        log.write(Stream::Stdout, chunk.as_bytes()).unwrap();
    }
    for (lines, expected) in [
        (0, ""),
        (1, "555\n"),
        (2, "44\n555\n"),
        (3, "3\n44\n555\n"),
        (4, "2\n3\n44\n555\n"),
        (5, "1\n2\n3\n44\n555\n"),
        (99, "1\n2\n3\n44\n555\n"),
    ] {
        assert_eq!(show(dir.path(), &tail(lines)).0, expected, "{lines}");
    }
    log.write(Stream::Stdout, b"6").unwrap();
    log.write(Stream::Stdout, b"6").unwrap();
    assert_eq!(show(dir.path(), &tail(1)).0, "66");
    assert_eq!(show(dir.path(), &tail(2)).0, "555\n66");
}

#[test]
fn the_tail_is_right_wherever_the_borders_of_blocks_fall() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::open(dir.path(), &options(0, 1));
    for n in 0..1500 {
        log.write(Stream::Stdout, format!("{n} {}\n", "x".repeat(n % 97)).as_bytes()).unwrap();
    }
    let path = files::path(dir.path(), 0);
    let before = fs::read(&path).unwrap();
    assert!(before.len() > 2 * BLOCK);
    for len in 0..110 {
        fs::write(&path, &before).unwrap();
        LogWriter::open(dir.path(), &options(0, 1))
            .write(Stream::Stdout, &[&vec![b'y'; len][..], b"\n"].concat())
            .unwrap();
        let shown = show(dir.path(), &tail(1400)).0;
        assert!(shown.starts_with("101 ") && shown.lines().count() == 1400, "{len}");
    }
}

#[test]
fn times_are_shown_once_a_line_and_select_lines() {
    let dir = tempfile::tempdir().unwrap();
    let at = |second| format!("2025-01-31T12:00:0{second}.000000000Z");
    let text = format!(
        "{} stdout F one\n{} stdout P tw\n{} stderr F err\n{} stdout F o\n2025-01-31T14:00:05+02:00 stdout F three\n",
        at(1),
        at(2),
        at(3),
        at(4)
    );
    fs::write(files::path(dir.path(), 0), text).unwrap();
    let timed = LogQuery { timestamps: true, ..LogQuery::default() };
    let expected = format!("{} one\n{} two\n2025-01-31T14:00:05+02:00 three\n", at(1), at(2));
    assert_eq!(show(dir.path(), &timed), (expected, format!("{} err\n", at(3))));
    let time = |second| Some(at(second).parse().unwrap());
    let query = LogQuery { since: time(2), until: time(4), ..LogQuery::default() };
    assert_eq!(show(dir.path(), &query), ("two\n".into(), "err\n".into()));
    assert_eq!(show(dir.path(), &LogQuery { since: time(5), ..LogQuery::default() }).0, "three\n");
}

#[test]
fn following_sees_every_line_of_a_writer_that_rotates() {
    for max_file in [1, 3, 1000] {
        let dir = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut log = LogWriter::open(dir.path(), &options(20_000, max_file));
                for n in 0..3000 {
                    log.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
                    if n % 10 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                done.store(true, Ordering::SeqCst);
            });
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let query = LogQuery { follow: true, ..LogQuery::default() };
            print(dir.path(), &query, &mut out, &mut err, &mut || done.load(Ordering::SeqCst)).unwrap();
            let lines: Vec<usize> =
                String::from_utf8(out).unwrap().lines().map(|line| line.parse().unwrap()).collect();
            assert!(lines.is_sorted() && lines.last() == Some(&2999), "{max_file}");
            // A reader that is too slow for few files misses some, but never sees one twice.
            assert!(lines.windows(2).all(|pair| pair[0] < pair[1]));
            if max_file == 1000 {
                assert_eq!(lines.len(), 3000);
            }
        });
    }
}

#[test]
fn following_survives_an_entry_that_is_cut_off_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::OpenOptions::new().append(true).create(true).open(files::path(dir.path(), 0)).unwrap();
    let entry =
        |text: &str| (&file).write_all(format!("2025-01-31T12:00:00.000000000Z stdout F {text}").as_bytes());
    entry("one\n").unwrap();
    let size = file.metadata().unwrap().len();
    let mut looks = 0;
    let mut out = Vec::new();
    let query = LogQuery { follow: true, ..LogQuery::default() };
    print(dir.path(), &query, &mut out, &mut io::sink(), &mut || {
        looks += 1;
        match looks {
            1 => entry("torn and long").unwrap(),
            2 => {
                file.set_len(size).unwrap();
                entry("two\n").unwrap();
            }
            _ => return true,
        }
        false
    })
    .unwrap();
    assert_eq!(out, b"one\ntwo\n");
}
