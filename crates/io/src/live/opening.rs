//! Opens interfaces: a ring of each for each worker.

use super::attach::{Attacher, Inbox};
use super::bpf::{self, Instruction};
use super::fanout::{FanoutRules, FirstHeader, symmetric};
use super::feed::Feed;
use super::filter::{self, FilterError};
use super::order::Head;
use super::ring::{Ring, RxMode};
use super::socket::RingError;
use super::{
    BLOCK_LATE_NS, Closing, FRAME_LATE_NS, InterfaceCounters, LiveConfig, LiveError, LiveRefusal,
    LiveSource, QUIET_NS, Tap,
};
use crate::quiet::LastSeen;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What listens to interfaces.
#[derive(Debug)]
pub struct Opened {
    /// A source for each worker.
    pub sources: Vec<LiveSource>,
    /// What the kernel counts.
    pub counters: Arc<Vec<InterfaceCounters>>,
    /// Listens to interfaces that come later, where they are waited for.
    pub attacher: Option<Attacher>,
}

/// Opens the interfaces. Setting `stop` ends the sources, once every frame is read that came
/// before.
///
/// # Errors
/// When an interface cannot be opened, or the filter is none. One that is not there is no error if
/// it is waited for.
pub fn open(config: &LiveConfig, stop: &Arc<AtomicBool>) -> Result<Opened, LiveError> {
    let counters = config.interfaces.iter().map(|name| InterfaceCounters {
        name: name.clone(),
        is_waited_for: config.waits,
        ..InterfaceCounters::default()
    });
    let counters = Arc::new(counters.collect::<Vec<_>>());
    let mut feeds: Vec<Vec<(usize, Feed)>> = (0..config.workers).map(|_| Vec::new()).collect();
    let (mut numbers, mut filters) = (Vec::new(), Vec::new());
    for (index, interface) in config.interfaces.iter().enumerate() {
        match open_closed(config, interface) {
            Ok((number, opened, filter)) => {
                counters[index].meter(&opened);
                let opened = opened.into_iter().map(|feed| (index, feed));
                feeds.iter_mut().zip(opened).for_each(|(feeds, feed)| feeds.push(feed));
                numbers.push(Some(number));
                filters.push(Some(filter));
            }
            Err(error) if config.waits && error.is_missing() => {
                // What is wrong with the filter should not come out when the interface comes.
                check_filter(config, interface)?;
                counters[index].is_gone.store(true, Ordering::Relaxed);
                numbers.push(None);
                filters.push(None);
            }
            Err(error) => return Err(error),
        }
    }
    // All at once, or what a worker gets would depend on who is there already.
    for (index, feed) in feeds.iter().flatten() {
        if let Some(filter) = &filters[*index] {
            let name = &config.interfaces[*index];
            feed.let_in(filter).map_err(|error| refused(name, LiveRefusal::Ring(error)))?;
        }
    }
    let inboxes: Vec<Arc<Inbox>> = (0..config.workers).map(|_| Arc::default()).collect();
    let sources = feeds.into_iter().zip(&inboxes).enumerate().map(|(worker, (feeds, inbox))| {
        let inbox = config.waits.then(|| Arc::clone(inbox));
        source(config, worker, feeds, &counters, stop, inbox)
    });
    let sources = sources.collect();
    let attacher = || Attacher::new(config.clone(), Arc::clone(&counters), inboxes, numbers);
    let attacher = config.waits.then(attacher);
    Ok(Opened { sources, counters, attacher })
}

fn refused(interface: &str, why: LiveRefusal) -> LiveError {
    LiveError { interface: interface.to_owned(), why }
}

/// A worker's source.
fn source(
    config: &LiveConfig,
    worker: usize,
    feeds: Vec<(usize, Feed)>,
    counters: &Arc<Vec<InterfaceCounters>>,
    stop: &Arc<AtomicBool>,
    inbox: Option<Arc<Inbox>>,
) -> LiveSource {
    let (wait_ms, late_ns) = match config.shape.rx_mode {
        RxMode::Blocks { wait_ms } => (wait_ms, BLOCK_LATE_NS),
        RxMode::Frames { .. } => (0, FRAME_LATE_NS),
    };
    LiveSource {
        heads: vec![Head::default(); feeds.len()],
        taps: feeds.into_iter().map(tap).collect(),
        turn: 0,
        counters: Arc::clone(counters),
        stop: Arc::clone(stop),
        wait_ms,
        // A block is filled for as long as it may wait, and then handed over.
        lag_ns: 2 * u64::from(wait_ms) * 1_000_000 + late_ns,
        spin_ns: config.spin_ns,
        now: config.now,
        gap_ns: QUIET_NS,
        read_at: 0,
        last: LastSeen::default(),
        asked_at: 0,
        tells: worker == 0,
        hurried: false,
        closing: Closing::Open,
        inbox,
        name: config.interfaces.join(", "),
    }
}

pub(super) fn tap((interface, feed): (usize, Feed)) -> Tap {
    Tap { feed, interface, gone: None, taken: 0 }
}

/// What brings each worker the frames of an interface, and lets in what the filter keeps; with its
/// number.
pub(super) fn open_feeds(
    config: &LiveConfig,
    interface: &str,
) -> Result<(libc::c_int, Vec<Feed>), LiveError> {
    let (number, feeds, filter) = open_closed(config, interface)?;
    for feed in &feeds {
        feed.let_in(&filter).map_err(|error| refused(interface, LiveRefusal::Ring(error)))?;
    }
    Ok((number, feeds))
}

/// The same, but nothing is let in yet; with what is to be.
fn open_closed(
    config: &LiveConfig,
    interface: &str,
) -> Result<(libc::c_int, Vec<Feed>, Vec<Instruction>), LiveError> {
    let feeds = open_interface(config, interface);
    let feeds = feeds.map_err(|error| refused(interface, LiveRefusal::Ring(error)))?;
    let filter = filter_of(config, interface);
    let filter = filter.map_err(|error| refused(interface, LiveRefusal::Filter(error)))?;
    let number = feeds.first().map_or(0, |feed| feed.socket().interface());
    Ok((number, feeds, filter))
}

/// Whether the filter is one, for an interface that is not there.
fn check_filter(config: &LiveConfig, interface: &str) -> Result<(), LiveError> {
    let Some(text) = &config.filter else { return Ok(()) };
    let checked = filter::check(text, FirstHeader::Ethernet);
    checked.map(drop).map_err(|error| refused(interface, LiveRefusal::Filter(error)))
}

/// What brings each worker the frames of an interface; none come yet.
fn open_interface(config: &LiveConfig, interface: &str) -> Result<Vec<Feed>, RingError> {
    if !config.xdp {
        return Ok(open_rings(config, interface)?.into_iter().map(Feed::Ring).collect());
    }
    let is_plain = config.filter.is_none() && !config.hardware_time;
    assert!(
        config.workers == 1 && is_plain,
        "AF_XDP knows one worker, no filter, no hardware time"
    );
    #[cfg(feature = "xdp")]
    return Ok(vec![Feed::Port(super::xdp::Port::open(config, interface)?)]);
    #[cfg(not(feature = "xdp"))]
    unreachable!("AF_XDP is configured only in a program built with the feature `xdp`");
}

/// A ring of an interface for each worker, none of which takes frames yet.
fn open_rings(config: &LiveConfig, interface: &str) -> Result<Vec<Ring>, RingError> {
    let open = |_| Ring::open(interface, config.shape, config.promiscuous, config.hardware_time);
    let rings = (0..config.workers).map(open).collect::<Result<Vec<_>, _>>()?;
    if let [first, rest @ ..] = rings.as_slice()
        && !rest.is_empty()
    {
        let group = first.socket().begin_group()?;
        let rules = FanoutRules {
            first: first.socket().first(),
            inner_keys: config.inner_keys,
            seed: config.seed,
        };
        first.socket().share_by(&symmetric(&rules))?;
        rest.iter().try_for_each(|ring| ring.socket().join_group(group))?;
    }
    Ok(rings)
}

fn filter_of(config: &LiveConfig, interface: &str) -> Result<Vec<Instruction>, FilterError> {
    match &config.filter {
        Some(text) => Ok(bpf::with_snap(filter::compile(text, interface)?, config.snap_bytes)),
        None => Ok(bpf::everything(config.snap_bytes)),
    }
}
