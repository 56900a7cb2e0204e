//! Why rows of a label table match no flow: found by comparing the two tables.
//!
//! A sample of the rows proposes explanations: for each row, the flows between the same two hosts
//! are looked up at the row's time as each clock would have it, in each time zone, and what else
//! differs is noted. Flows of the very same five-tuple also vote for the difference of their times.
//! The few explanations with most votes are then counted over all rows, exactly, by looking up the
//! row as it would be; the one that explains most is taken, its rows are left out, and so on.

mod difference;
#[cfg(test)]
mod tests;

use difference::ZONE_US;
pub use difference::{ClockOffset, Difference, Entry, FileDifference, PortDifference};
pub use difference::{grouped, stem};

use serveflow_core::key::FlowKey;
use serveflow_core::verdict::FiveTuple;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A row meets a flow whose first packet came within so many microseconds: stamps are rounded.
pub(super) const MEETS_US: u64 = 1;
/// Rows that propose explanations.
const SAMPLE: usize = 256;
/// Flows that a row is compared with for one reading of its time, and by five-tuple.
const NEIGHBOURS: usize = 64;
const SAME_TUPLE: usize = 256;
/// Explanations that are counted.
const COUNTED: usize = 32;
/// Explanations that are told, and the share of the rows without a flow that each must explain.
const TOLD: usize = 4;
const LEAST_SHARE: f64 = 0.02;
/// An explanation that is simpler is preferred if it explains this share of what the best one does.
const NEARLY: f64 = 0.98;
/// Time zones reach from -12 to +14 hours; a table and a capture may be in any two of them.
const ZONES: i64 = 26 * 4;

/// The rows of a label table and the flows of its captures.
#[derive(Clone, Copy, Debug)]
pub struct DiagnosisInput<'a> {
    /// The captures that rows and flows name by index; some may be none that was read.
    pub files: &'a [PathBuf],
    /// The rows.
    pub rows: &'a [Entry],
    /// All flows of the captures that were read.
    pub flows: &'a [Entry],
}

/// Why some rows match no flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What would have to be otherwise.
    pub difference: Difference,
    /// Rows that would match a flow then.
    pub rows: usize,
    /// One of these rows, and its flow.
    pub example: (Entry, Entry),
}

impl Cause {
    /// The explanation, after "would match a flow if"; `name` says how the table names a capture.
    #[must_use]
    pub fn words(&self, name: &dyn Fn(usize) -> String) -> String {
        self.difference.words(&self.example.0, &self.example.1, name)
    }
}

/// What comparing the tables gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Rows that match a flow.
    pub met: usize,
    /// Flows that no row matches.
    pub unlabelled: usize,
    /// Why the other rows do not, the one that explains most first.
    pub causes: Vec<Cause>,
    /// What can be said of rows that no cause explains.
    pub unexplained: Unexplained,
}

/// Rows that match no flow and would not by any simple change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unexplained {
    /// Rows of captures that gave no flow: they are not there, or could not be read.
    pub no_capture: usize,
    /// Rows between two hosts that have no flow with each other.
    pub no_hosts: usize,
    /// Rows whose five-tuple has flows at other times alone.
    pub other_time: usize,
    /// The rest: other ports or another protocol, at other times.
    pub other_ports: usize,
}

/// A flow as it is looked up: when, where, which.
type Spot = (u64, usize, usize);

/// The flows without a row, by what they can be looked up by.
struct Index<'a> {
    files: &'a [PathBuf],
    flows: &'a [Entry],
    by_key: HashMap<FlowKey, Vec<Spot>>,
    /// By addresses and protocol.
    by_ends: HashMap<FlowKey, Vec<Spot>>,
    by_hosts: HashMap<[IpAddr; 2], Vec<Spot>>,
    /// The capture of the same name, for files that are none.
    alike: Vec<Option<usize>>,
}

/// Compares the tables.
#[must_use]
pub fn diagnose(tables: DiagnosisInput<'_>) -> Diagnosis {
    let (unmet, free) = apart(tables);
    let (met, unlabelled) = (tables.rows.len() - unmet.len(), free.len());
    if unmet.is_empty() {
        return Diagnosis { met, unlabelled, ..Diagnosis::default() };
    }
    let index = Index::new(tables, &free);
    let counted: Vec<(Difference, Vec<Option<usize>>)> = proposed(&index, &unmet)
        .into_iter()
        .map(|difference| {
            let matches = unmet.iter().map(|row| index.lookup(&difference, row)).collect();
            (difference, matches)
        })
        .collect();
    let mut is_open = vec![true; unmet.len()];
    let mut causes = Vec::new();
    let least = ((unmet.len() as f64 * LEAST_SHARE).ceil() as usize).max(1);
    while causes.len() < TOLD {
        let open = |matches: &[Option<usize>]| {
            matches.iter().zip(&is_open).filter(|(flow, open)| flow.is_some() && **open).count()
        };
        let counts: Vec<usize> = counted.iter().map(|(_, matches)| open(matches)).collect();
        let enough = |at: &usize| counts[*at] >= least.max(counted[*at].0.least_rows());
        let most = (0..counted.len()).filter(enough).map(|at| counts[at]).max().unwrap_or(0);
        let nearly = |at: &usize| enough(at) && counts[*at] as f64 >= most as f64 * NEARLY;
        let simplest = |at: &usize| (counted[*at].0.weight(), std::cmp::Reverse(counts[*at]));
        let Some(best) = (0..counted.len()).filter(nearly).min_by_key(simplest) else { break };
        let (difference, matches) = &counted[best];
        let mut example = None;
        for (at, flow) in matches.iter().enumerate() {
            let Some(flow) = flow.filter(|_| is_open[at]) else { continue };
            is_open[at] = false;
            example.get_or_insert((*unmet[at], index.flows[flow]));
        }
        let Some(example) = example else { break };
        causes.push(Cause { difference: *difference, rows: counts[best], example });
    }
    let rest = unmet.iter().zip(&is_open).filter(|(_, open)| **open).map(|(row, _)| *row);
    let unexplained = unexplained(tables, rest);
    Diagnosis { met, unlabelled, causes, unexplained }
}

/// Rows that meet no flow, and indices of flows that no row meets.
fn apart(tables: DiagnosisInput<'_>) -> (Vec<&Entry>, Vec<usize>) {
    let times = |entries: &[Entry]| {
        let mut times: HashMap<(usize, FlowKey), Vec<u64>> = HashMap::new();
        for entry in entries {
            times.entry((entry.file, key(&entry.flow))).or_default().push(entry.first_us);
        }
        times.values_mut().for_each(|own| own.sort_unstable());
        times
    };
    let meets = |times: &HashMap<(usize, FlowKey), Vec<u64>>, entry: &Entry| {
        times.get(&(entry.file, key(&entry.flow))).is_some_and(|own| {
            let at = own.partition_point(|&us| us < entry.first_us.saturating_sub(MEETS_US));
            own.get(at).is_some_and(|&us| us <= entry.first_us.saturating_add(MEETS_US))
        })
    };
    let (of_rows, of_flows) = (times(tables.rows), times(tables.flows));
    let unmet = tables.rows.iter().filter(|row| !meets(&of_flows, row)).collect();
    let free = (0..tables.flows.len()).filter(|&at| !meets(&of_rows, &tables.flows[at]));
    (unmet, free.collect())
}

/// A flow's key; label tables know nothing of VLANs.
fn key(flow: &FiveTuple) -> FlowKey {
    FiveTuple { vlan: None, ..*flow }.key().0
}

/// The key of addresses and protocol.
fn ends(flow: &FiveTuple) -> FlowKey {
    key(&FiveTuple { src_port: 0, dst_port: 0, ..*flow })
}

/// The two hosts, however their addresses are written.
fn hosts(flow: &FiveTuple) -> [IpAddr; 2] {
    let (src, dst) = (flow.src.to_canonical(), flow.dst.to_canonical());
    if src <= dst { [src, dst] } else { [dst, src] }
}

/// The part of a sorted list that lies within a time.
fn within(spots: &[Spot], at_us: u64, tolerance_us: u64) -> &[Spot] {
    let from = at_us.saturating_sub(tolerance_us);
    let to = at_us.saturating_add(tolerance_us);
    let begin = spots.partition_point(|spot| spot.0 < from);
    let end = spots.partition_point(|spot| spot.0 <= to);
    &spots[begin..end]
}

impl<'a> Index<'a> {
    fn new(tables: DiagnosisInput<'a>, free: &[usize]) -> Self {
        let mut index = Self {
            files: tables.files,
            flows: tables.flows,
            by_key: HashMap::new(),
            by_ends: HashMap::new(),
            by_hosts: HashMap::new(),
            alike: alike(tables),
        };
        let mut free: Vec<Spot> =
            free.iter().map(|&at| (tables.flows[at].first_us, tables.flows[at].file, at)).collect();
        free.sort_unstable();
        for spot in free {
            let flow = &tables.flows[spot.2].flow;
            index.by_key.entry(key(flow)).or_default().push(spot);
            index.by_ends.entry(ends(flow)).or_default().push(spot);
            index.by_hosts.entry(hosts(flow)).or_default().push(spot);
        }
        index
    }

    /// The flow that a row would match with this difference.
    fn lookup(&self, difference: &Difference, row: &Entry) -> Option<usize> {
        let mut flow = row.flow;
        if difference.mapped {
            (flow.src, flow.dst) = (flow.src.to_canonical(), flow.dst.to_canonical());
            if (flow.src, flow.dst) == (row.flow.src, row.flow.dst) {
                return None;
            }
        }
        if let Some((listed, seen)) = difference.proto {
            if flow.proto != listed {
                return None;
            }
            flow.proto = seen;
        }
        let stamp = difference.clock.microseconds(row.first_us)?;
        let at_us = stamp.checked_add_signed(difference.offset_us)?;
        let spots = match difference.ports {
            PortDifference::None => self.by_key.get(&key(&flow)),
            PortDifference::Swapped => {
                (flow.src_port, flow.dst_port) = (flow.dst_port, flow.src_port);
                self.by_key.get(&key(&flow))
            }
            PortDifference::Superfluous | PortDifference::Absent | PortDifference::Other => {
                self.by_ends.get(&ends(&flow))
            }
        };
        let found = within(spots?, at_us, difference.clock.tolerance_us());
        let is_so = |spot: &&Spot| {
            self.file(row, spot.1) == difference.file
                && ports(&row.flow, &self.flows[spot.2].flow) == difference.ports
        };
        let mut found = found.iter().filter(is_so);
        let first = found.next()?;
        // One flow may be in several captures: the one that is meant has the nearest path.
        let nearer = |a, b| if self.nearness(row, b) > self.nearness(row, a) { b } else { a };
        Some(found.fold(first, nearer).2)
    }

    /// How near the path of a flow's capture is to the one that a row has: its name, its folders.
    fn nearness(&self, row: &Entry, spot: &Spot) -> (bool, usize) {
        let (own, other) = (&self.files[row.file], &self.files[spot.1]);
        (stem(own) == stem(other), common_folders(own, other))
    }

    fn file(&self, row: &Entry, file: usize) -> FileDifference {
        match file {
            file if file == row.file => FileDifference::None,
            file if self.alike[row.file] == Some(file) => FileDifference::Spelling,
            _ => FileDifference::Other,
        }
    }

    /// How a row differs from a flow between the same hosts, but for the time.
    fn difference(&self, row: &Entry, spot: &Spot) -> Difference {
        let flow = &self.flows[spot.2].flow;
        let is_v6 = |flow: &FiveTuple| (flow.src.is_ipv6(), flow.dst.is_ipv6());
        Difference {
            file: self.file(row, spot.1),
            mapped: is_v6(&row.flow) != is_v6(flow),
            proto: (row.flow.proto != flow.proto).then_some((row.flow.proto, flow.proto)),
            ports: ports(&row.flow, flow),
            ..Difference::default()
        }
    }
}

/// How the ports of a row differ from those of a flow between the same hosts.
fn ports(row: &FiveTuple, flow: &FiveTuple) -> PortDifference {
    let own = |flow: &FiveTuple| {
        let ends = (flow.src.to_canonical(), flow.dst.to_canonical());
        let ports = (flow.src_port, flow.dst_port);
        // In the order of the addresses; two ports of one host have none.
        match ends.0.cmp(&ends.1) {
            std::cmp::Ordering::Less => ports,
            std::cmp::Ordering::Greater => (ports.1, ports.0),
            std::cmp::Ordering::Equal => (ports.0.min(ports.1), ports.0.max(ports.1)),
        }
    };
    match (own(row), own(flow)) {
        (row, flow) if row == flow => PortDifference::None,
        (row, flow) if row == (flow.1, flow.0) => PortDifference::Swapped,
        (_, (0, 0)) => PortDifference::Superfluous,
        ((0, 0), _) => PortDifference::Absent,
        _ => PortDifference::Other,
    }
}

/// For each file without flows, the one capture whose name is the same but for folders, ending and
/// case.
fn alike(tables: DiagnosisInput<'_>) -> Vec<Option<usize>> {
    let mut is_read = vec![false; tables.files.len()];
    tables.flows.iter().for_each(|flow| is_read[flow.file] = true);
    let mut by_stem: HashMap<String, Vec<usize>> = HashMap::new();
    for (file, path) in tables.files.iter().enumerate().filter(|(file, _)| is_read[*file]) {
        by_stem.entry(stem(path)).or_default().push(file);
    }
    let own = |file: usize| {
        let path = &tables.files[file];
        let named = by_stem.get(&stem(path)).filter(|_| !is_read[file])?;
        let common = |other: &usize| common_folders(path, &tables.files[*other]);
        let most = named.iter().map(common).max()?;
        let mut nearest = named.iter().filter(|other| common(other) == most);
        let first = nearest.next()?;
        // Two that are as near are none: which one is meant is anybody's guess.
        nearest.next().is_none().then_some(*first)
    };
    (0..tables.files.len()).map(own).collect()
}

/// Folders that two paths share, from their ends.
fn common_folders(a: &Path, b: &Path) -> usize {
    let folders = |path: &Path| {
        let text = path.to_string_lossy().replace('\\', "/").to_lowercase();
        let mut parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        parts.pop();
        parts.reverse();
        parts
    };
    folders(a).iter().zip(&folders(b)).take_while(|(a, b)| a == b).count()
}

/// The explanations that a sample of the rows speaks for, by votes.
fn proposed(index: &Index<'_>, unmet: &[&Entry]) -> Vec<Difference> {
    let mut votes: BTreeMap<Difference, usize> = BTreeMap::new();
    let step = unmet.len().div_ceil(SAMPLE).max(1);
    for row in unmet.iter().step_by(step) {
        let mut own = HashSet::new();
        nearby(index, row, &mut own);
        same_tuple(index, row, &mut own);
        own.into_iter().for_each(|difference| *votes.entry(difference).or_default() += 1);
    }
    // Where rows are few, each is sampled, and each explanation needs its rows.
    votes.retain(|difference, votes| *votes >= difference.least_rows());
    let mut all: Vec<(Difference, usize)> = votes.into_iter().collect();
    all.sort_by_key(|(difference, votes)| (std::cmp::Reverse(*votes), difference.weight()));
    all.truncate(COUNTED);
    all.into_iter().map(|(difference, _)| difference).collect()
}

/// Flows between a row's hosts at its time, as each clock and each zone would have it.
fn nearby(index: &Index<'_>, row: &Entry, own: &mut HashSet<Difference>) {
    let Some(spots) = index.by_hosts.get(&hosts(&row.flow)) else { return };
    for clock in ClockOffset::ALL {
        let Some(stamp) = clock.microseconds(row.first_us) else { continue };
        for zone in -ZONES..=ZONES {
            let offset_us = zone * ZONE_US;
            let Some(at_us) = stamp.checked_add_signed(offset_us) else { continue };
            for spot in within(spots, at_us, clock.tolerance_us()).iter().take(NEIGHBOURS) {
                let found = Difference { clock, offset_us, ..index.difference(row, spot) };
                // A time that says little is no proof of another port or protocol.
                let is_sharp = clock.is_exact() && offset_us == 0;
                let is_vague =
                    matches!(found.ports, PortDifference::Absent | PortDifference::Other)
                        || found.proto.is_some();
                if is_sharp || !is_vague {
                    own.insert(found);
                }
            }
        }
    }
}

/// Flows of a row's own five-tuple at any time: the difference may be the same for other rows.
fn same_tuple(index: &Index<'_>, row: &Entry, own: &mut HashSet<Difference>) {
    let Some(spots) = index.by_key.get(&key(&row.flow)) else { return };
    for spot in spots.iter().take(SAME_TUPLE) {
        for clock in ClockOffset::ALL.into_iter().filter(|clock| clock.is_exact()) {
            let Some(stamp) = clock.microseconds(row.first_us) else { continue };
            let Some(offset_us) = spot.0.checked_signed_diff(stamp) else { continue };
            own.insert(Difference { clock, offset_us, ..index.difference(row, spot) });
        }
    }
}

/// What is to be said of rows that nothing explains.
fn unexplained<'a>(
    tables: DiagnosisInput<'_>,
    rows: impl Iterator<Item = &'a Entry>,
) -> Unexplained {
    let captures: HashSet<usize> = tables.flows.iter().map(|flow| flow.file).collect();
    let pairs: HashSet<[IpAddr; 2]> = tables.flows.iter().map(|flow| hosts(&flow.flow)).collect();
    let keys: HashSet<FlowKey> = tables.flows.iter().map(|flow| key(&flow.flow)).collect();
    let mut found = Unexplained::default();
    for row in rows {
        let count = match row {
            row if !captures.contains(&row.file) => &mut found.no_capture,
            row if !pairs.contains(&hosts(&row.flow)) => &mut found.no_hosts,
            row if keys.contains(&key(&row.flow)) => &mut found.other_time,
            _ => &mut found.other_ports,
        };
        *count += 1;
    }
    found
}
