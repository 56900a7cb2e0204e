//! The law of inputs: packets come in the order of time, however they were stored.
//!
//! The twin of all of it is a sort. Each test makes packets with distinct time stamps, stores them
//! in some unordered way, and reads them back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Bytes, Order, drain};
use serveflow_io::inputs::MOST_OPEN;
use serveflow_io::{
    Batch, FileSource, InputSet, OrderCount, OrderRules, Restart, Source, SourceError, Tables,
};

const S: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * S;

/// A splitmix64 generator.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// A packet: its time stamp, and its number in the order of time.
type Stored = (u64, u32);

/// Packets with distinct, growing time stamps, and silences now and then.
fn packets(rng: &mut Rng, count: u32, start: u64) -> Vec<Stored> {
    let mut now = start;
    let next = |number| {
        now += 1 + match rng.below(60) {
            0 => rng.below(600 * S),
            1..4 => rng.below(2 * S),
            _ => rng.below(20_000_000),
        };
        (now, number)
    };
    (0..count).map(next).collect()
}

/// An Ethernet frame with a datagram that carries a number.
fn datagram(number: u32) -> Vec<u8> {
    let mut data = vec![0; 60];
    data[12..15].copy_from_slice(&[8, 0, 0x45]);
    data[16..18].copy_from_slice(&40_u16.to_be_bytes());
    data[23] = 17;
    data[26..30].copy_from_slice(&[10, 0, 0, 1]);
    data[30..34].copy_from_slice(&[10, 0, 0, 2]);
    data[38..40].copy_from_slice(&20_u16.to_be_bytes());
    data[42..46].copy_from_slice(&number.to_be_bytes());
    data
}

fn capture(packets: &[Stored]) -> Vec<u8> {
    let mut bytes = Bytes::new(Order::Little);
    bytes.pcap_header(0xa1b2_3c4d, 1);
    for &(ts, number) in packets {
        let data = datagram(number);
        bytes.record((ts / S) as u32, (ts % S) as u32, data.len() as u32, &data);
    }
    bytes.out
}

/// Shuffles packets no further than so many places and so much time.
fn shuffle_within(rng: &mut Rng, packets: &mut [Stored], places: usize, time_ns: u64) {
    let mut from = 0;
    while from < packets.len() {
        let most = packets.len().min(from + 1 + rng.below(places as u64) as usize);
        let near = |&&(ts, _): &&Stored| ts - packets[from].0 <= time_ns;
        let to = from + packets[from..most].iter().take_while(near).count();
        rng.shuffle(&mut packets[from..to]);
        from = to;
    }
}

/// Parts packets among files: as they are stored, or each to any file.
fn split(rng: &mut Rng, packets: &[Stored], files: usize) -> Vec<Vec<Stored>> {
    let mut parts = vec![Vec::new(); files];
    let is_cut = rng.one_in(2);
    for (at, &packet) in packets.iter().enumerate() {
        let to = if is_cut { at * files / packets.len() } else { rng.below(files as u64) as usize };
        parts[to].push(packet);
    }
    parts
}

/// A directory of its own for a test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("serveflow-order-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes captures under names that say nothing of their order.
    fn write(&self, rng: &mut Rng, parts: &[Vec<Stored>]) -> Vec<PathBuf> {
        let name = |part: &Vec<Stored>| {
            let path = self.0.join(format!("{:x}", rng.next()));
            fs::write(&path, capture(part)).unwrap();
            path
        };
        let mut paths: Vec<PathBuf> = parts.iter().map(name).collect();
        rng.shuffle(&mut paths);
        paths
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a source brought.
#[derive(Debug, Default)]
struct Read {
    packets: Vec<Stored>,
    /// Where flow tables begin anew, by number of packets before.
    restarts: Vec<(usize, Restart)>,
    found: OrderCount,
    errors: Vec<SourceError>,
    /// Whether packets come with a clock of their own.
    is_timed: bool,
}

fn read(source: &mut dyn Source, max_frames: usize) -> Read {
    let (mut batch, mut read) = (Batch::new(), Read::default());
    loop {
        match source.fill(&mut batch, max_frames) {
            Ok(0) => return read,
            Ok(count) => {
                assert!(count <= max_frames, "{count} of {max_frames}");
                if let Some(restart) = batch.restart() {
                    read.restarts.push((read.packets.len(), restart));
                }
                read.found.out_of_order += batch.order().out_of_order;
                read.found.stray_timestamps += batch.order().stray_timestamps;
                read.is_timed |= batch.is_share();
                read.packets.extend(batch.iter().map(|packet| {
                    (packet.ts_ns, u32::from_be_bytes(packet.data[42..46].try_into().unwrap()))
                }));
            }
            Err(error) => read.errors.push(error),
        }
    }
}

const BATCHES: [usize; 4] = [1, 7, 64, 1024];

#[test]
fn packets_come_in_the_order_of_time_however_they_were_stored() {
    let scratch = Scratch::new("stored");
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let count = rng.pick(&[1, 2, 50, 700, 3000]);
        let sorted = packets(&mut rng, count, START);
        let mut stored = sorted.clone();
        if seed % 3 > 0 {
            let places = rng.pick(&[2, 20, 1000]);
            shuffle_within(&mut rng, &mut stored, places, S);
        }
        let files = rng.pick(&[1, 2, 5, 12]);
        let paths = scratch.write(&mut rng, &split(&mut rng_of(seed), &stored, files));
        let max_frames = rng.pick(&BATCHES);
        let sources = [
            FileSource::new(paths.clone()),
            FileSource::of(InputSet::find(&[&scratch.0]).unwrap(), OrderRules::default()),
        ];
        for mut source in sources {
            let read = read(&mut source, max_frames);
            let what =
                format!("seed {seed}: {count} packets in {files} files, {max_frames} at once");
            assert!(read.packets == sorted, "{what}");
            assert_eq!(read.found, OrderCount::default(), "{what}");
            assert!(read.restarts.is_empty() && read.errors.is_empty() && !read.is_timed, "{what}");
        }
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}

fn rng_of(seed: u64) -> Rng {
    Rng(seed ^ 0xabcd)
}

/// The written rule of the window, packet by packet: a packet is out of reach if it is stamped more
/// than so long before the latest one, or before one that is out of reach by the whole chunks
/// between.
fn twin(stored: &[Stored], rules: &OrderRules) -> (Vec<Stored>, u64) {
    const CHUNK: usize = 256;
    let (mut latest, mut late, mut turns) = (0, 0, Vec::new());
    for (at, &(ts, number)) in stored.iter().enumerate() {
        let reach = rules.reorder_packets.div_ceil(CHUNK) * CHUNK;
        let before = (at / CHUNK * CHUNK).saturating_sub(reach);
        let passed = stored[..before].iter().map(|packet| packet.0).max().unwrap_or(0);
        let is_off = rules.reorder_ns == 0 || rules.reorder_packets == 0;
        let is_late = ts < latest && (is_off || ts < passed || latest - ts > rules.reorder_ns);
        late += u64::from(is_late);
        let earliest =
            if is_off { latest } else { passed.max(latest - latest.min(rules.reorder_ns)) };
        turns.push((if is_late { earliest } else { ts }, (ts, number)));
        latest = latest.max(ts);
    }
    turns.sort_by_key(|turn| turn.0);
    (turns.into_iter().map(|turn| turn.1).collect(), late)
}

/// Whether no packet overtook one that is stored before it and is not later: a flow whose packets
/// are stored in order must not be disordered because others are late.
fn keeps_order(stored: &[Stored], read: &[Stored]) -> bool {
    let mut place_of = vec![0; stored.len()];
    for (place, packet) in read.iter().enumerate() {
        place_of[packet.1 as usize] = place;
    }
    let pairs = (1..40).flat_map(|gap| stored.iter().zip(stored.iter().skip(gap)));
    pairs.into_iter().all(|(first, second)| {
        first.0 > second.0 || place_of[first.1 as usize] < place_of[second.1 as usize]
    })
}

#[test]
fn what_is_out_of_reach_is_counted_whatever_the_batches() {
    let scratch = Scratch::new("reach");
    let (mut in_reach, mut out_of_reach) = (0, 0);
    for seed in 0..60 {
        let mut rng = Rng(1000 + seed);
        let mut stored = packets(&mut rng, 3000, START);
        let places = rng.pick(&[5, 300, 1500]);
        shuffle_within(&mut rng, &mut stored, places, 20 * S);
        let rules = OrderRules {
            reorder_ns: rng.pick(&[0, 1_000_000, S, 60 * S]),
            reorder_packets: rng.pick(&[0, 1, 100, 256, 1000]),
            ..OrderRules::default()
        };
        let (expected, late) = twin(&stored, &rules);
        let paths = scratch.write(&mut rng, &[stored.clone()]);
        for max_frames in [1, 100, 1024] {
            let read = read(&mut FileSource::with(paths.clone(), rules), max_frames);
            assert!(read.packets == expected, "seed {seed}, {rules:?}, {max_frames}");
            assert_eq!(read.found.out_of_order, late, "seed {seed}, {rules:?}, {max_frames}");
            assert!(keeps_order(&stored, &read.packets), "seed {seed}, {rules:?}, {max_frames}");
        }
        in_reach += u64::from(late == 0);
        out_of_reach += late;
        fs::remove_file(&paths[0]).unwrap();
    }
    assert!(in_reach > 5 && out_of_reach > 5000, "{in_reach} {out_of_reach}");
}

#[test]
fn stray_time_stamps_change_nothing_but_their_count() {
    let scratch = Scratch::new("stray");
    // Two that agree would be a capture of their own.
    let absurd = [0, 7_000_000 * S, START - 200 * S, START + 400 * 86_400 * S, 4_294_967_295 * S];
    for seed in 0..120 {
        let mut rng = Rng(2000 + seed);
        let count = rng.pick(&[12, 300, 2500]);
        let mut sorted = packets(&mut rng, count, START);
        // Long silence beside a wrong stamp could be anything.
        let mut silence = 0;
        for at in 1..sorted.len() {
            let gap = sorted[at].0 - silence - sorted[at - 1].0;
            silence += gap.saturating_sub(100 * S);
            sorted[at].0 -= silence;
        }
        let mut stored = sorted.clone();
        let (mut at, mut strays) = (0, 0);
        while at + 6 < stored.len() {
            let mut left = absurd.to_vec();
            for packet in &mut stored[at..at + rng.pick(&[1, 1, 1, 2, 3])] {
                packet.0 = rng.pick(&left);
                // Two equal ones agree as well, but for 0.
                left.retain(|&other| other == 0 || other != packet.0);
                strays += 1;
            }
            if at == 0 {
                // Long silence behind the first packet is none of this.
                stored[0].0 = rng.pick(&[0, 4_294_967_295 * S]);
            }
            at += 8 + rng.below(200) as usize;
        }
        let numbers =
            |packets: &[Stored]| packets.iter().map(|packet| packet.1).collect::<Vec<_>>();
        let paths = scratch.write(&mut rng, &[stored.clone()]);
        let max_frames = rng.pick(&BATCHES);
        let read = read(&mut FileSource::new(paths.clone()), max_frames);
        let what = format!("seed {seed}, {max_frames} at once");
        assert!(numbers(&read.packets) == numbers(&sorted), "{what}");
        assert_eq!(read.found, OrderCount { out_of_order: 0, stray_timestamps: strays }, "{what}");
        assert!(read.restarts.is_empty(), "{what}: {:?}", read.restarts);
        // What is stray has its neighbour's time.
        for (index, (packet, truth)) in read.packets.iter().zip(&sorted).enumerate() {
            let is_stray = stored[index].0 != truth.0;
            let neighbours = &sorted[index.saturating_sub(4)..sorted.len().min(index + 4)];
            let is_neighbours = neighbours.iter().any(|other| other.0 == packet.0);
            assert!(if is_stray { is_neighbours } else { packet == truth }, "{what}, {index}");
        }
        fs::remove_file(&paths[0]).unwrap();
    }
}

#[test]
fn a_capture_that_steps_back_for_good_begins_a_flow_table_at_that_packet() {
    let scratch = Scratch::new("steps");
    for seed in 0..60 {
        let mut rng = Rng(3000 + seed);
        let (mut stored, mut begins): (Vec<Stored>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut start = START;
        for _ in 0..rng.pick(&[2, 3, 9]) {
            let count = rng.pick(&[3, 5, 400]);
            let mut era = packets(&mut rng, count, start);
            era.iter_mut().for_each(|packet| packet.1 += stored.len() as u32);
            start = era[0].0 - (130 + rng.below(100_000)) * S;
            begins.push(stored.len());
            stored.extend(era);
        }
        begins.remove(0);
        let paths = scratch.write(&mut rng, &[stored.clone()]);
        let max_frames = rng.pick(&BATCHES);
        let by_time = read(&mut FileSource::new(paths.clone()), max_frames);
        let what = format!("seed {seed}, {max_frames} at once");
        assert!(by_time.packets == stored, "{what}");
        let found: Vec<usize> = by_time.restarts.iter().map(|restart| restart.0).collect();
        assert_eq!(found, begins, "{what}");
        for (at, restart) in by_time.restarts {
            assert_eq!(restart, Restart { before_ns: u64::MAX, now_ns: stored[at].0 }, "{what}");
        }
        assert_eq!(by_time.found, OrderCount::default(), "{what}");
        // One table that is insisted on goes on, by a clock that never steps back.
        let rules = OrderRules { tables: Tables::One, ..OrderRules::default() };
        let one = read(&mut FileSource::with(paths.clone(), rules), max_frames);
        assert!(one.packets == stored && one.restarts.is_empty() && one.is_timed, "{what}");
        assert!(one.found.out_of_order > 0, "{what}");
        fs::remove_file(&paths[0]).unwrap();
    }
}

#[test]
fn each_capture_has_a_table_of_its_own_where_that_is_asked_for() {
    let scratch = Scratch::new("own");
    let mut rng = Rng(4000);
    let sorted = packets(&mut rng, 900, START);
    let parts: Vec<Vec<Stored>> =
        (0..3).map(|file| sorted.iter().skip(file).step_by(3).copied().collect()).collect();
    let paths = scratch.write(&mut rng, &parts);
    let rules = OrderRules { tables: Tables::PerCapture, ..OrderRules::default() };
    let mut source = FileSource::with(paths, rules);
    let read = read(&mut source, 64);
    assert_eq!(read.packets, parts.concat());
    let found: Vec<usize> = read.restarts.iter().map(|restart| restart.0).collect();
    assert_eq!(found, [300, 600]);
    assert_eq!(
        source.counts().to_string(),
        "inputs:  3 captures in the order of time, 3 flow tables; 0 packets out of order, 0 stray \
         time stamps"
    );
}

#[test]
fn damage_ends_its_own_capture_only() {
    let scratch = Scratch::new("damage");
    let mut rng = Rng(5000);
    let sorted = packets(&mut rng, 2000, START);
    let parts = split(&mut Rng(1), &sorted, 4);
    let paths = scratch.write(&mut rng, &parts);
    let mut cut = fs::read(&paths[0]).unwrap();
    cut.truncate(cut.len() / 2);
    fs::write(&paths[0], cut).unwrap();
    let (whole, errors) = drain(&mut FileSource::new(paths[..1].to_vec()), 64);
    assert_eq!(errors.len(), 1);
    let mut source = FileSource::new(paths.clone());
    let read = read(&mut source, 100);
    assert!(read.packets.is_sorted());
    let lost = 2000 - read.packets.len();
    let part = parts.iter().find(|part| part[0].0 == whole[0].ts_ns).unwrap();
    assert_eq!(lost, part.len() - whole.len());
    let [SourceError::Truncated { at, .. }] = &read.errors[..] else { panic!("{:?}", read.errors) };
    assert_eq!(at.path, paths[0]);
    let told = source.counts().to_string();
    assert!(told.contains("4 captures in the order of time, 4 overlap and were merged"), "{told}");
}

#[test]
fn more_captures_than_may_be_open_are_named_and_those_that_follow_are_none_of_them() {
    let scratch = Scratch::new("open");
    let mut rng = Rng(6000);
    let many = MOST_OPEN + 3;
    let at = |file: usize, step: u64| (START + step * S + file as u64, file as u32);
    let overlapping: Vec<Vec<Stored>> =
        (0..many).map(|file| vec![at(file, 0), at(file, 1)]).collect();
    let paths = scratch.write(&mut rng, &overlapping);
    let read_all = |paths: Vec<PathBuf>| read(&mut FileSource::new(paths), 1024);
    let found = read_all(paths.clone());
    assert_eq!((found.packets.len(), found.errors.len()), (2 * MOST_OPEN, 3));
    for error in &found.errors {
        assert!(matches!(error, SourceError::TooManyOpen { most: MOST_OPEN, .. }), "{error}");
    }
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    let in_sequence: Vec<Vec<Stored>> =
        (0..many).map(|file| vec![at(0, 2 * file as u64), at(0, 2 * file as u64 + 1)]).collect();
    let found = read_all(scratch.write(&mut rng, &in_sequence));
    assert_eq!((found.packets.len(), found.errors.len()), (2 * many, 0));
}
