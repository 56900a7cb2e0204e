//! Named pipes: readers that come late, leave or never come, and pipes that are made anew.

use super::*;
use crate::StandardStream;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

fn make(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

fn make_anew(path: &Path) {
    fs::remove_file(path).unwrap();
    make(path);
}

/// Waits until it is so, and not for ever.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Opens the reading end, which waits for nobody.
fn reader(path: &Path) -> File {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .unwrap()
}

/// Reads until so many records have come; their numbers.
fn read(reader: &mut File, count: usize) -> Vec<u64> {
    let mut text = Vec::new();
    until("the records come", || {
        match reader.read_to_end(&mut text) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        text.iter().filter(|&&byte| byte == b'\n').count() >= count
    });
    numbers(&[text])
}

fn lacks_reader(output: &Output) -> bool {
    output.status().trouble.is_some_and(|why| why.contains("no reader"))
}

fn start_at(path: &Path, is_lossless: bool) -> Output {
    let limits = OutputLimits { stall_ns: 0, ..limits(is_lossless) };
    start(OutputFile::open(path, OPTIONS).unwrap(), limits)
}

#[test]
fn a_pipe_that_nobody_reads_stalls_and_says_so() {
    let path = scratch("unread").join("out");
    make(&path);
    let output = start_at(&path, false);
    until("it counts as stalled", || lacks_reader(&output) && output.status().is_stalled);
    hand_over(&output, 0..1000).unwrap();
    let status = output.status();
    assert_eq!(status.all_lost(), status.lost[LossReason::NoReader as usize], "{status:?}");
    assert_eq!((status.buffered + status.all_lost(), status.written), (1000, 0));
    assert!(status.all_lost() > 0 && status.buffered > 0);
    let mut late = reader(&path);
    let kept = status.buffered;
    assert_eq!(read(&mut late, kept as usize), (0..kept).collect::<Vec<_>>());
    until("it goes on", || {
        let status = output.status();
        status.written == kept && !status.is_stalled && status.trouble.is_none()
    });
    let status = output.close(LONG);
    assert_eq!((status.made(), status.written), (1000, kept));
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_no_end() {
    let path = scratch("unread-end").join("out");
    make(&path);
    let output = start_at(&path, false);
    hand_over(&output, 0..3).unwrap();
    until("it looks for a reader", || lacks_reader(&output));
    let status = output.close(Duration::from_millis(1));
    assert_eq!((status.written, status.lost[LossReason::Shutdown as usize]), (0, 3));
}

#[test]
fn a_pipe_that_is_made_anew_is_opened_anew() {
    let path = scratch("anew").join("out");
    make(&path);
    let output = start_at(&path, false);
    until("nobody reads", || lacks_reader(&output));
    make_anew(&path);
    hand_over(&output, 0..2).unwrap();
    let mut first = reader(&path);
    assert_eq!(read(&mut first, 2), [0, 1], "before there was a reader");
    drop(first);
    hand_over(&output, 2..4).unwrap();
    until("its reader is gone", || lacks_reader(&output));
    make_anew(&path);
    let mut second = reader(&path);
    assert_eq!(read(&mut second, 2), [2, 3], "after the reader was gone");
    // Nothing stands there for a while, and no file comes in its place.
    drop(second);
    fs::remove_file(&path).unwrap();
    hand_over(&output, 4..6).unwrap();
    until("there is no pipe", || {
        output.status().trouble.is_some_and(|why| why.contains("no pipe"))
    });
    output.reopen();
    assert!(!path.exists());
    make(&path);
    let mut third = reader(&path);
    assert_eq!(read(&mut third, 2), [4, 5], "after the pipe was gone");
    let status = output.close(LONG);
    assert_eq!((status.written, status.all_lost()), (6, 0));
}

#[test]
fn a_pipe_at_the_place_of_a_moved_file_is_opened_by_its_name() {
    for by_signal in [false, true] {
        let path = scratch(&format!("in-place-{by_signal}")).join("out");
        let output = start_at(&path, false);
        hand_over(&output, 0..1).unwrap();
        until("it is written", || output.status().written == 1);
        fs::rename(&path, path.with_extension("moved")).unwrap();
        make(&path);
        if by_signal {
            output.reopen();
        } else {
            hand_over(&output, 1..3).unwrap();
        }
        until("nobody reads", || lacks_reader(&output));
        make_anew(&path);
        if by_signal {
            output.reopen();
            hand_over(&output, 1..3).unwrap();
        }
        assert_eq!(read(&mut reader(&path), 2), [1, 2]);
        let status = output.close(LONG);
        assert_eq!((status.written, status.all_lost()), (3, 0));
        assert!(status.reopened > 0);
        assert_eq!(numbers_in(&path.with_extension("moved")), [0]);
    }
}

#[test]
fn who_may_lose_nothing_waits_for_the_first_reader_and_ends_without_the_last() {
    let path = scratch("lossless").join("out");
    make(&path);
    let output = start_at(&path, true);
    hand_over(&output, 0..3).unwrap();
    until("nobody reads", || lacks_reader(&output));
    let mut only = reader(&path);
    assert_eq!(read(&mut only, 3), [0, 1, 2]);
    RecordWriter::flush(&mut output.clone()).unwrap();
    drop(only);
    let error = (3..).find_map(|number| hand_over(&output, number..number + 1).err()).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(RecordWriter::flush(&mut output.clone()).is_err());
}

#[test]
fn a_reader_that_leaves_for_good_is_missed_without_a_record() {
    for ends_with_reader in [true, false] {
        let (mut reader, writer) = io::pipe().unwrap();
        let stream = StandardStream::new(writer.as_fd(), b"").unwrap();
        drop(writer);
        let limits = OutputLimits { ends_with_reader, stall_ns: 0, ..limits(false) };
        let output = start(stream, limits);
        hand_over(&output, 0..1).unwrap();
        let mut text = vec![0; records(0..1).bytes.len()];
        reader.read_exact(&mut text).unwrap();
        until("it is written", || output.status().written == 1);
        let flush = || RecordWriter::flush(&mut output.clone());
        flush().unwrap();
        drop(reader);
        until("it is missed", || output.status().is_stalled && output.status().trouble.is_some());
        match flush() {
            Err(error) if ends_with_reader => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            result => assert!(result.is_ok() && !ends_with_reader),
        }
        let status = output.close(LONG);
        assert_eq!((status.written, status.all_lost()), (1, 0));
    }
}

#[test]
fn an_output_that_is_held_says_so_until_it_goes_on() {
    let path = scratch("held").join("out");
    let limits = OutputLimits { stall_ns: 0, ..limits(false) };
    let output = start(OutputFile::open(&path, OPTIONS).unwrap(), limits);
    assert!(!output.status().is_held);
    output.hold(u64::MAX);
    hand_over(&output, 0..3).unwrap();
    let status = output.status();
    assert_eq!((status.is_held, status.written, status.made()), (true, 0, 3));
    output.reopen();
    until("all is written", || output.status().written == 3);
    assert!(!output.status().is_held);
    output.hold(0);
    assert!(!output.status().is_held, "it is over");
    assert_eq!(output.close(LONG).all_lost(), 0);
}
