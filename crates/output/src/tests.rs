//! Outputs that stall, fail, write in parts and recover, by seeds: nothing is lost without being
//! counted, and what is written is whole and in order.

mod pipes;

use super::buffer::{Buffer, LossReason};
use super::delivery::{Delivery, Transport};
use super::{
    Existing, FileOptions, Lines, Output, OutputFile, OutputLimits, RecordWriter, Refusal,
};
use super::{OutputStatus, Rotation};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// What a fake transport did: the text of each target, the last one being written to.
type Targets = Arc<Mutex<Vec<Vec<u8>>>>;

/// A transport that fails, writes parts and changes its target as its seed says.
struct Fake {
    targets: Targets,
    random: Random,
    /// Of a thousand calls, how many fail; of a thousand writes, how many write a part.
    fails: u64,
    parts: u64,
    can_take_back: bool,
}

impl Fake {
    fn fails(&mut self) -> io::Result<()> {
        if self.random.below(1000) >= self.fails {
            return Ok(());
        }
        let kinds = [
            io::ErrorKind::StorageFull,
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::Interrupted,
            io::ErrorKind::NotFound,
        ];
        Err(kinds[self.random.below(4) as usize].into())
    }
}

impl Transport for Fake {
    fn most_bytes(&self) -> usize {
        64
    }

    fn prepare(&mut self, _: usize, reopen: bool) -> io::Result<bool> {
        self.fails()?;
        if reopen || self.random.below(50) == 0 {
            self.targets.lock().unwrap().push(Vec::new());
            return Ok(true);
        }
        Ok(false)
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.fails()?;
        let mut count = text.len();
        if self.random.below(1000) < self.parts {
            count = 1 + self.random.below(count as u64) as usize;
        }
        let mut targets = self.targets.lock().unwrap();
        targets.last_mut().unwrap().extend_from_slice(&text[..count]);
        Ok(count)
    }

    fn take_back(&mut self, bytes: usize) -> bool {
        let mut targets = self.targets.lock().unwrap();
        let last = targets.last_mut().unwrap();
        if self.can_take_back {
            last.truncate(last.len() - bytes);
        }
        self.can_take_back
    }
}

fn start(transport: impl Transport + 'static, limits: OutputLimits) -> Output {
    let output = Output::new(limits);
    output.write_to(transport, "test").unwrap();
    output
}

/// Records with these numbers, of different lengths.
fn records(numbers: std::ops::Range<u64>) -> Lines {
    let mut lines = Lines::default();
    for number in numbers {
        let filler = "x".repeat((number * 7 % 40) as usize);
        lines.bytes.extend_from_slice(format!("{number} {filler}\n").as_bytes());
        lines.end_record();
    }
    lines
}

/// The numbers of whole records in all targets. Each record is as it was made; the last line of a
/// target may be cut off.
fn numbers(targets: &[Vec<u8>]) -> Vec<u64> {
    let mut found = Vec::new();
    for target in targets {
        let text = std::str::from_utf8(target).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for line in whole.split_inclusive('\n') {
            let number = line.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(line.as_bytes(), records(number..number + 1).bytes);
            found.push(number);
        }
    }
    found
}

/// The state machine without threads: each call of the caller and each step of the writer in an
/// order that the seed says.
fn simulate(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let targets: Targets = Arc::new(Mutex::new(vec![Vec::new()]));
    let fake = Fake {
        targets: Arc::clone(&targets),
        fails: [0, 20, 300][random.below(3) as usize],
        parts: [0, 100, 900][random.below(3) as usize],
        can_take_back: random.below(2) == 0,
        random: Random(seed + 77),
    };
    let (mut buffer, mut delivery) = (Buffer::new(400), Delivery::new(fake));
    let mut made = 0;
    for turn in 1..=2000 {
        if random.below(3) == 0 {
            let count = random.below(8);
            let mut lines = records(made..made + count);
            made += count;
            buffer.put_what_fits(&mut lines, LossReason::Slow);
            assert!(lines.is_empty());
        } else if !delivery.is_done() {
            let _ = delivery.step(random.below(40) == 0);
            let (bytes, records) = delivery.left();
            buffer.left(bytes, records);
        } else if buffer.is_waiting() {
            delivery.clear();
            buffer.take_out(&mut delivery.lines);
        }
        assert!(buffer.bytes() <= 400, "the buffer holds what it may");
        let lost: u64 = buffer.lost.iter().sum();
        assert_eq!(made, buffer.written + buffer.records() + lost, "seed {seed}");
        if turn % 100 != 0 {
            continue;
        }
        let found = numbers(&targets.lock().unwrap());
        assert_eq!(found.len() as u64, buffer.written, "seed {seed}");
        assert!(found.is_sorted_by(|a, b| a < b), "in order, each once; seed {seed}");
    }
}

#[test]
fn records_made_are_written_buffered_or_lost_to_the_unit() {
    (0..60).for_each(simulate);
}

static NOW: AtomicU64 = AtomicU64::new(1);

fn now() -> u64 {
    NOW.fetch_add(1, Ordering::Relaxed)
}

fn limits(is_lossless: bool) -> OutputLimits {
    let buffer_bytes = 2000;
    OutputLimits { buffer_bytes, is_lossless, ends_with_reader: true, stall_ns: u64::MAX, now }
}

fn hand_over(output: &Output, numbers: std::ops::Range<u64>) -> io::Result<()> {
    let mut lines = records(numbers);
    let result = output.clone().take(&mut lines);
    assert!(lines.is_empty());
    result
}

const LONG: Duration = Duration::from_secs(60);

/// The same with the thread, and callers on others.
#[test]
fn callers_on_several_threads_lose_nothing_uncounted() {
    for (seed, is_lossless) in [(1, true), (2, false), (3, true), (4, false)] {
        let targets: Targets = Arc::new(Mutex::new(vec![Vec::new()]));
        let fails = if is_lossless { 0 } else { 100 };
        let random = Random(seed);
        let fake =
            Fake { targets: Arc::clone(&targets), random, fails, parts: 300, can_take_back: true };
        let output = start(fake, limits(is_lossless));
        let (callers, each) = (3, 2000);
        std::thread::scope(|scope| {
            for caller in 0..callers {
                let mut output = output.clone();
                scope.spawn(move || {
                    let start = caller * each;
                    for number in (start..start + each).step_by(4) {
                        hand_over(&output, number..number + 4).unwrap();
                    }
                    RecordWriter::flush(&mut output).unwrap();
                });
            }
        });
        output.reopen();
        let status = output.close(LONG);
        assert_eq!(status.made(), callers * each, "{status:?}");
        assert_eq!(status.buffered, 0);
        let found = numbers(&targets.lock().unwrap());
        assert_eq!(found.len() as u64, status.written);
        for caller in 0..callers {
            let own = caller * each..(caller + 1) * each;
            let own: Vec<u64> = found.iter().copied().filter(|at| own.contains(at)).collect();
            assert!(own.is_sorted_by(|a, b| a < b));
        }
        if is_lossless {
            assert_eq!(status.written, callers * each);
        }
    }
}

/// A transport whose reader stands still until it is let go.
struct Gate(Arc<Mutex<Vec<u8>>>, Arc<Mutex<()>>);

impl Transport for Gate {
    fn most_bytes(&self) -> usize {
        64
    }

    fn prepare(&mut self, _: usize, _: bool) -> io::Result<bool> {
        Ok(false)
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let _gate = self.1.lock().unwrap();
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn take_back(&mut self, _: usize) -> bool {
        false
    }
}

#[test]
fn a_reader_that_stands_still_holds_up_nobody_and_is_seen() {
    let (written, gate) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<()>>::default());
    let closed = gate.lock().unwrap();
    let fake = Gate(Arc::clone(&written), Arc::clone(&gate));
    let limits = OutputLimits { stall_ns: 0, ..limits(false) };
    let output = start(fake, limits);
    for number in 0..1000 {
        hand_over(&output, number..number + 1).unwrap();
    }
    while !output.status().is_stalled {
        std::thread::yield_now();
    }
    let status = output.status();
    assert_eq!((status.made(), status.written), (1000, 0));
    assert_eq!(status.all_lost(), status.lost[LossReason::Slow as usize]);
    assert!(status.buffered_bytes <= 2000 && status.buffered > 0 && status.all_lost() > 0);
    // It ends within the time that it is given, whether the reader goes on or not.
    let left = status.buffered;
    let ended = output.close(Duration::from_millis(1));
    assert_eq!(ended.lost[LossReason::Shutdown as usize], left);
    assert_eq!((ended.made(), ended.written, ended.buffered), (1000, 0, 0));
    drop(closed);
    hand_over(&output, 0..1).unwrap();
    assert_eq!(output.status().lost[LossReason::Shutdown as usize], left + 1);
}

/// A disk that has room for part of a record takes it each time, and no record ever.
#[test]
fn a_disk_without_room_for_a_record_stalls() {
    struct Nearly(bool);
    impl Transport for Nearly {
        fn most_bytes(&self) -> usize {
            64
        }
        fn prepare(&mut self, _: usize, _: bool) -> io::Result<bool> {
            Ok(false)
        }
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0 = !self.0;
            if self.0 { Ok(1) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
        fn take_back(&mut self, _: usize) -> bool {
            true
        }
    }
    let stall_ns = 1_000_000;
    let output = start(Nearly(false), OutputLimits { stall_ns, ..limits(false) });
    hand_over(&output, 0..9).unwrap();
    // Time goes on with each look.
    let is_out = |status: &OutputStatus| status.is_stalled && status.trouble.is_some();
    while !is_out(&output.status()) {
        NOW.fetch_add(1000, Ordering::Relaxed);
    }
    let status = output.close(Duration::from_millis(1));
    assert_eq!((status.written, status.lost[LossReason::Shutdown as usize]), (0, 9));
}

#[test]
fn an_output_that_may_lose_nothing_ends_with_the_first_error() {
    struct Full;
    impl Transport for Full {
        fn most_bytes(&self) -> usize {
            64
        }
        fn prepare(&mut self, _: usize, _: bool) -> io::Result<bool> {
            Ok(false)
        }
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn take_back(&mut self, _: usize) -> bool {
            true
        }
    }
    let output = start(Full, limits(true));
    let error = (0..).find_map(|number| hand_over(&output, number..number + 1).err()).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(RecordWriter::flush(&mut output.clone()).is_err());
    let status = output.close(LONG);
    assert_eq!((status.written, status.buffered), (0, 0));
    assert_eq!(status.all_lost(), status.lost[LossReason::DiskFull as usize]);
}

#[test]
fn a_thread_that_panics_leaves_nobody_waiting() {
    struct Broken;
    impl Transport for Broken {
        fn most_bytes(&self) -> usize {
            64
        }
        fn prepare(&mut self, _: usize, _: bool) -> io::Result<bool> {
            Ok(false)
        }
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("as the test wants")
        }
        fn take_back(&mut self, _: usize) -> bool {
            true
        }
    }
    let output = start(Broken, limits(true));
    let error = (0..).find_map(|number| hand_over(&output, number..number + 1).err()).unwrap();
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(output.close(LONG).trouble.is_some());
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("serveflow-output-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

const OPTIONS: FileOptions = FileOptions {
    existing: Existing::Append,
    rotation: Rotation::NEVER,
    heading: b"",
    is_like: |_| true,
    epoch: now,
};

/// Clocks that a test moves on.
static MOVED: AtomicU64 = AtomicU64::new(1);
static AGED: AtomicU64 = AtomicU64::new(1);

/// Writes records straight into a file.
fn write_to(file: &mut OutputFile, numbers: std::ops::Range<u64>, reopen: bool) {
    let lines = records(numbers);
    file.prepare(lines.bytes.len(), reopen).unwrap();
    assert_eq!(file.write(&lines.bytes).unwrap(), lines.bytes.len());
}

fn numbers_in(path: &Path) -> Vec<u64> {
    numbers(&[fs::read(path).unwrap()])
}

#[test]
fn what_is_there_is_left_alone_added_to_or_emptied_by_word() {
    let path = scratch("existing").join("out");
    let refused = |options| match OutputFile::open(&path, options) {
        Err(error) => (error.to_string(), error.why),
        Ok(_) => panic!("expected a refusal"),
    };
    fs::write(&path, records(0..3).bytes).unwrap();
    let (text, why) = refused(FileOptions { existing: Existing::Refuse, ..OPTIONS });
    assert!(matches!(why, Refusal::NotEmpty { .. }) && text.contains("--append"), "{text}");
    let (_, why) = refused(FileOptions { is_like: |_| false, ..OPTIONS });
    assert!(matches!(why, Refusal::OtherFormat));
    assert_eq!(numbers_in(&path), [0, 1, 2]);
    let mut file = OutputFile::open(&path, OPTIONS).unwrap();
    // A second process, and a second output of the same one.
    for existing in [Existing::Append, Existing::Overwrite] {
        let (text, why) = refused(FileOptions { existing, ..OPTIONS });
        assert!(matches!(why, Refusal::Locked), "{text}");
    }
    write_to(&mut file, 3..4, false);
    assert_eq!(numbers_in(&path), [0, 1, 2, 3]);
    drop(file);
    let options = FileOptions { existing: Existing::Overwrite, ..OPTIONS };
    write_to(&mut OutputFile::open(&path, options).unwrap(), 9..10, false);
    assert_eq!(numbers_in(&path), [9]);
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    let fresh = path.with_extension("fresh");
    drop(OutputFile::open(&fresh, OPTIONS).unwrap());
    assert_eq!(mode(&fresh) & 0o137, 0, "nobody else may read who talks to whom");
}

#[test]
fn a_heading_stands_once_above_each_file_and_half_a_line_is_ended() {
    let path = scratch("heading").join("out");
    let options = FileOptions { heading: b"heading\n", ..OPTIONS };
    let mut file = OutputFile::open(&path, options).unwrap();
    file.prepare(0, false).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"heading\n", "also where no record comes");
    write_to(&mut file, 0..1, false);
    drop(file);
    let mut cut = fs::read(&path).unwrap();
    cut.extend_from_slice(b"half a li");
    fs::write(&path, &cut).unwrap();
    let mut file = OutputFile::open(&path, options).unwrap();
    file.prepare(0, false).unwrap();
    assert_eq!(fs::read(&path).unwrap(), cut, "nothing is added before a record comes");
    write_to(&mut file, 1..2, false);
    write_to(&mut file, 2..3, false);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[2], lines.len()), ("heading", "half a li", 5));
    // Cut by another process: the heading comes anew, and no zeros stand in the gap.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    write_to(&mut file, 5..6, false);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("heading\n5 ") && text.lines().count() == 2, "{text:?}");
    let mut status = OutputStatus::default();
    file.tell(&mut status);
    assert_eq!(status.truncated, 1);
}

#[test]
fn files_that_are_moved_or_deleted_are_followed() {
    let dir = scratch("moved");
    let (path, moved) = (dir.join("out"), dir.join("moved"));
    let options = FileOptions { epoch: || MOVED.load(Ordering::Relaxed), ..OPTIONS };
    let mut file = OutputFile::open(&path, options).unwrap();
    write_to(&mut file, 0..1, false);
    fs::rename(&path, &moved).unwrap();
    // Whoever moved it is about to put another one there.
    write_to(&mut file, 1..2, false);
    assert!(!path.exists());
    fs::write(&path, "").unwrap();
    write_to(&mut file, 2..3, false);
    assert_eq!((numbers_in(&moved), numbers_in(&path)), (vec![0, 1], vec![2]));
    fs::rename(&path, &moved).unwrap();
    write_to(&mut file, 3..4, true);
    assert_eq!((numbers_in(&moved), numbers_in(&path)), (vec![2], vec![3]), "by a signal, at once");
    fs::remove_file(&path).unwrap();
    write_to(&mut file, 4..5, false);
    assert_eq!(numbers_in(&path), [4]);
    fs::rename(&path, &moved).unwrap();
    write_to(&mut file, 5..6, false);
    MOVED.fetch_add(3_000_000_000, Ordering::Relaxed);
    write_to(&mut file, 6..7, false);
    assert_eq!((numbers_in(&moved), numbers_in(&path)), (vec![4, 5], vec![6]));
    // A directory that is gone is an error until it is there again.
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(file.prepare(1, false).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::create_dir_all(&dir).unwrap();
    write_to(&mut file, 7..8, false);
    assert_eq!(numbers_in(&path), [7]);
}

#[test]
fn a_file_is_written_on_whose_place_cannot_be_looked_at() {
    let dir = scratch("unseen");
    let (there, moved) = (dir.join("there"), dir.join("moved"));
    fs::create_dir(&there).unwrap();
    let mut file = OutputFile::open(&there.join("out"), OPTIONS).unwrap();
    write_to(&mut file, 0..1, false);
    fs::rename(&there, &moved).unwrap();
    // Root may look anywhere, but neither through a link to itself nor below a file.
    std::os::unix::fs::symlink(&there, &there).unwrap();
    write_to(&mut file, 1..2, false);
    // A signal cannot be obeyed, and costs no record.
    write_to(&mut file, 2..3, true);
    let mut status = OutputStatus::default();
    file.tell(&mut status);
    assert!(status.rotation_trouble.is_some() && status.reopened == 0);
    fs::remove_file(&there).unwrap();
    fs::write(&there, "").unwrap();
    write_to(&mut file, 3..4, false);
    fs::remove_file(&there).unwrap();
    fs::create_dir(&there).unwrap();
    write_to(&mut file, 4..5, true);
    assert_eq!(numbers_in(&moved.join("out")), [0, 1, 2, 3]);
    assert_eq!(numbers_in(&there.join("out")), [4]);
    // Deleted, and nobody may look there: what is written would be lost.
    fs::remove_file(there.join("out")).unwrap();
    fs::remove_dir(&there).unwrap();
    fs::write(&there, "").unwrap();
    assert!(file.prepare(1, false).is_err());
}

#[test]
fn own_rotation_keeps_so_many_files_and_loses_nothing_of_them() {
    let path = scratch("rotation").join("out");
    let rotation = Rotation { most_bytes: Some(100), most_age_ns: None, keep: 3 };
    let options = FileOptions { rotation, heading: b"heading\n", ..OPTIONS };
    let mut file = OutputFile::open(&path, options).unwrap();
    let mut delivery_of = |numbers| write_to(&mut file, numbers, false);
    (0..40).for_each(|number| delivery_of(number..number + 1));
    let mut found = Vec::new();
    for name in ["out.3", "out.2", "out.1", "out"] {
        let text = fs::read(path.with_file_name(name)).unwrap();
        assert!(text.len() <= 108, "{name} has {} bytes", text.len());
        let records = text.strip_prefix(b"heading\n").expect("each file has a heading");
        found.extend(numbers(&[records.to_vec()]));
    }
    assert!(!path.with_file_name("out.4").exists());
    let first = found[0];
    assert_eq!(found, (first..40).collect::<Vec<_>>(), "in order, none is missing");
    // By age: with the next record, since an empty file needs no successor.
    let rotation = Rotation { most_bytes: None, most_age_ns: Some(1_000_000_000), keep: 1 };
    let path = path.with_file_name("aged");
    let options = FileOptions { rotation, epoch: || AGED.load(Ordering::Relaxed), ..OPTIONS };
    let mut file = OutputFile::open(&path, options).unwrap();
    write_to(&mut file, 0..1, false);
    write_to(&mut file, 1..2, false);
    AGED.fetch_add(2_000_000_000, Ordering::Relaxed);
    write_to(&mut file, 2..3, false);
    assert_eq!(numbers_in(&path), [2]);
    assert_eq!(numbers_in(&path.with_extension("1")), [0, 1]);
}

#[test]
fn files_behind_the_last_that_is_kept_go_with_the_next_rotation() {
    for (before, keep) in [(5, 3), (5, 1), (3, 3), (2, 3), (0, 1), (12, 2)] {
        let path = scratch(&format!("fewer-{before}-{keep}")).join("out");
        let name = |number: u64| path.with_file_name(format!("out.{number}"));
        (1..=before).for_each(|number| fs::write(name(number), number.to_string()).unwrap());
        // Not from here.
        fs::write(name(2026), "").unwrap();
        fs::create_dir(name(before.max(u64::from(keep)) + 1)).unwrap();
        let rotation = Rotation { most_bytes: Some(1), most_age_ns: None, keep };
        let mut file = OutputFile::open(&path, FileOptions { rotation, ..OPTIONS }).unwrap();
        write_to(&mut file, 0..1, false);
        write_to(&mut file, 1..2, false);
        assert_eq!((numbers_in(&name(1)), numbers_in(&path)), (vec![0], vec![1]));
        let kept = (before + 1).min(u64::from(keep));
        for number in 2..=kept {
            assert_eq!(fs::read_to_string(name(number)).unwrap(), (number - 1).to_string());
        }
        let foreign = [2026, before.max(u64::from(keep)) + 1];
        assert!(foreign.iter().all(|&number| name(number).exists()));
        let left = fs::read_dir(path.parent().unwrap()).unwrap().count() as u64;
        assert_eq!(
            left,
            3 + kept,
            "the file, what is kept, and what is not ours; {before} before, {keep} kept"
        );
    }
}
