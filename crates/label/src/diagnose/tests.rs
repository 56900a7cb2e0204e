//! True labels, distorted: the diagnosis names the distortion and counts its rows.

use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A time in 2023, with digits in each place.
const START_US: u64 = 1_700_000_123_456_789;

/// Flows of three captures among six hosts, at times that are far from one another and from any
/// round one.
fn flows(count: usize, seed: u64) -> Vec<Entry> {
    let mut state = seed | 1;
    let mut next = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let host = |number: u64| IpAddr::V4(Ipv4Addr::new(10, 0, 0, number as u8));
    (0..count as u64)
        .map(|at| {
            let (src, dst) = (1 + next(3), 4 + next(3));
            let proto = if next(2) == 0 { 6 } else { 17 };
            let flow = FiveTuple {
                src: host(src),
                dst: host(dst),
                src_port: 20_000 + (at as u16) * 3,
                dst_port: [443, 53, 8080][next(3) as usize],
                proto,
                vlan: None,
            };
            // Between 1 and 998 us behind a millisecond, and no two flows within 40 s.
            let first_us = (START_US / 1_000 + at * 47_913) * 1_000 + 2 + next(900);
            Entry { file: next(3) as usize, flow, first_us }
        })
        .collect()
}

fn files() -> Vec<PathBuf> {
    ["d/a.pcap", "d/b.pcap", "d/c.pcap", "d/x/a.pcapng", "d/x/b.pcapng", "d/x/c.pcapng", "d/none"]
        .map(PathBuf::from)
        .to_vec()
}

/// A distortion of one row, and what it is to be called.
type Distortion = (Difference, fn(&mut Entry, i64));

/// Distortions of the time stamp.
fn of_time(number: i64) -> Vec<(Distortion, i64)> {
    let none = Difference::default();
    let clock = |clock| Difference { clock, ..none };
    let zone = (number % 104).max(1) * ZONE_US;
    let other = 1_000_003 * (number + 3) + 7;
    vec![
        ((clock(ClockOffset::MillisecondsCut), |row, _| row.first_us /= 1_000), 0),
        ((clock(ClockOffset::SecondsCut), |row, _| row.first_us /= 1_000_000), 0),
        ((clock(ClockOffset::Nanoseconds), |row, _| row.first_us = row.first_us * 1_000 + 999), 0),
        (
            (clock(ClockOffset::MicrosecondsToMillisecond), |row, _| {
                row.first_us = (row.first_us + 500) / 1_000 * 1_000;
            }),
            0,
        ),
        (
            (clock(ClockOffset::MicrosecondsToSecond), |row, _| {
                row.first_us = row.first_us / 1_000_000 * 1_000_000;
            }),
            0,
        ),
        ((Difference { offset_us: zone, ..none }, add), -zone),
        ((Difference { offset_us: -zone, ..none }, add), zone),
        ((Difference { offset_us: other, ..none }, add), -other),
        (
            (
                Difference { offset_us: zone, clock: ClockOffset::MillisecondsCut, ..none },
                |row, by| {
                    row.first_us = row.first_us.strict_add_signed(by) / 1_000;
                },
            ),
            -zone,
        ),
    ]
}

/// Distortions of file, addresses, ports, and of several at once.
fn of_the_rest() -> Vec<(Distortion, i64)> {
    let none = Difference::default();
    vec![
        ((Difference { file: FileDifference::Spelling, ..none }, |row, _| row.file += 3), 0),
        (
            (Difference { file: FileDifference::Other, ..none }, |row, _| {
                row.file = (row.file + 1) % 3;
            }),
            0,
        ),
        (
            (Difference { ports: PortDifference::Swapped, ..none }, |row, _| {
                (row.flow.src_port, row.flow.dst_port) = (row.flow.dst_port, row.flow.src_port);
            }),
            0,
        ),
        (
            (Difference { ports: PortDifference::Absent, ..none }, |row, _| {
                (row.flow.src_port, row.flow.dst_port) = (0, 0);
            }),
            0,
        ),
        ((Difference { ports: PortDifference::Other, ..none }, |row, _| row.flow.src_port += 1), 0),
        (
            (Difference { mapped: true, ..none }, |row, _| {
                let mapped = |addr| match addr {
                    IpAddr::V4(v4) => IpAddr::V6(Ipv4Addr::to_ipv6_mapped(&v4)),
                    v6 => v6,
                };
                (row.flow.src, row.flow.dst) = (mapped(row.flow.src), mapped(row.flow.dst));
            }),
            0,
        ),
        (
            (
                Difference {
                    file: FileDifference::Spelling,
                    clock: ClockOffset::MillisecondsCut,
                    ..none
                },
                |row, _| {
                    row.file += 3;
                    row.first_us /= 1_000;
                },
            ),
            0,
        ),
    ]
}

fn add(row: &mut Entry, by: i64) {
    row.first_us = row.first_us.strict_add_signed(by);
}

fn reversed(entry: &Entry) -> Entry {
    let FiveTuple { src, dst, src_port, dst_port, .. } = entry.flow;
    let (src, dst, src_port, dst_port) = (dst, src, dst_port, src_port);
    Entry { flow: FiveTuple { src, dst, src_port, dst_port, ..entry.flow }, ..*entry }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_distortion_of_a_table_is_named_and_counted(
        count in 6usize..60, seed: u64, number in 0i64..5_000, wrong in 3usize..60,
    ) {
        let (flows, files) = (flows(count, seed), files());
        let wrong = wrong.min(count);
        for ((expected, distort), by) in of_time(number).into_iter().chain(of_the_rest()) {
            let mut rows: Vec<Entry> = flows.iter().map(reversed).collect();
            rows.iter_mut().take(wrong).for_each(|row| distort(row, by));
            let found = diagnose(DiagnosisInput { files: &files, rows: &rows, flows: &flows });
            prop_assert_eq!(found.met, count - wrong, "{:?}", expected);
            prop_assert_eq!(found.unlabelled, wrong, "{:?}", expected);
            prop_assert_eq!(found.causes.len(), 1, "{:?}: {:?}", expected, found.causes);
            let cause = &found.causes[0];
            prop_assert_eq!((cause.difference, cause.rows), (expected, wrong));
            prop_assert_eq!(found.unexplained, Unexplained::default());
            prop_assert!(!cause.words(&|file| files[file].display().to_string()).is_empty());
        }
    }

    #[test]
    fn a_table_that_is_right_or_of_flows_that_are_not_there_has_no_cause(
        count in 1usize..60, seed: u64, kept in 0usize..60,
    ) {
        let (flows, files) = (flows(count, seed), files());
        // Labels that are off by a microsecond are met; flows without a label are no fault of a
        // row.
        let mut rows: Vec<Entry> = flows.iter().take(kept).map(reversed).collect();
        rows.iter_mut().step_by(2).for_each(|row| row.first_us += 1);
        let found = diagnose(DiagnosisInput { files: &files, rows: &rows, flows: &flows });
        prop_assert_eq!((found.met, &found.causes[..]), (rows.len(), &[][..]));
        prop_assert_eq!(found.unlabelled, count - rows.len());
        // The flows of the rows are gone: what is left of the capture explains none of them.
        let flows = &flows[rows.len()..];
        let found = diagnose(DiagnosisInput { files: &files, rows: &rows, flows });
        prop_assert_eq!(found.causes, vec![]);
        let Unexplained { no_capture, no_hosts, other_time, other_ports } = found.unexplained;
        prop_assert_eq!(no_capture + no_hosts + other_time + other_ports, rows.len());
    }

    #[test]
    fn two_faults_of_two_parts_are_both_named(count in 20usize..60, seed: u64) {
        let (flows, files) = (flows(count, seed), files());
        let mut rows = flows.clone();
        let half = count / 3;
        rows[..half].iter_mut().for_each(|row| row.first_us /= 1_000);
        rows[half..].iter_mut().for_each(|row| add(row, -3_600_000_000));
        let found = diagnose(DiagnosisInput { files: &files, rows: &rows, flows: &flows });
        let named: Vec<(ClockOffset, i64, usize)> = found
            .causes
            .iter()
            .map(|cause| (cause.difference.clock, cause.difference.offset_us, cause.rows))
            .collect();
        prop_assert_eq!(named, vec![
            (ClockOffset::Microseconds, 3_600_000_000, count - half),
            (ClockOffset::MillisecondsCut, 0, half),
        ]);
    }
}

#[test]
fn ports_of_protocols_without_ports_and_other_protocols_are_named() {
    let files = files();
    let flow = |proto, src_port, dst_port| FiveTuple {
        src: IpAddr::V6(Ipv6Addr::LOCALHOST),
        dst: IpAddr::V4(Ipv4Addr::LOCALHOST),
        src_port,
        dst_port,
        proto,
        vlan: None,
    };
    let entry = |flow| Entry { file: 0, flow, first_us: START_US };
    for (row, seen, expected) in [
        (flow(1, 8, 0), flow(1, 0, 0), "both ports were 0: flows of protocol 1 have none here"),
        (flow(132, 7, 8), flow(132, 0, 0), "both ports were 0: flows of protocol 132"),
        (flow(6, 1, 2), flow(17, 1, 2), "`proto` were 17 in place of 6"),
        (flow(17, 0, 0), flow(17, 5, 53), "the ports were those of the flow (5 and 53)"),
        (flow(6, 8, 443), flow(17, 0, 443), ""),
    ] {
        let (rows, flows) = ([entry(row)], [entry(seen)]);
        let found = diagnose(DiagnosisInput { files: &files, rows: &rows, flows: &flows });
        let words = found.causes.first().map(|cause| cause.words(&|_| String::new()));
        let words = words.unwrap_or_default();
        assert!(words.starts_with(expected) || expected.is_empty(), "{words}");
        assert_eq!((found.met, found.unlabelled), (0, 1));
    }
}

#[test]
fn exact_milliseconds_are_to_be_multiplied() {
    let files = files();
    let mut flows = flows(30, 5);
    flows.iter_mut().for_each(|flow| flow.first_us = flow.first_us / 1_000 * 1_000);
    let mut rows = flows.clone();
    rows.iter_mut().for_each(|row| row.first_us /= 1_000);
    let found = diagnose(DiagnosisInput { files: &files, rows: &rows, flows: &flows });
    assert_eq!(found.causes[0].difference.clock, ClockOffset::Milliseconds);
    let words = found.causes[0].words(&|_| String::new());
    assert_eq!((found.causes.len(), found.causes[0].rows), (1, 30));
    assert_eq!(words, "`first_ts_us` held milliseconds: multiply it by 1,000");
}
