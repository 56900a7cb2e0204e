//! Whether a packet's time stamp is believed that lies far from the one before it.
//!
//! A capture may be silent for long, or begin anew at another time because captures were joined;
//! and now and then a stamp is plain wrong: 0, the year 2106, a month off. What comes next tells
//! them apart. Where time goes on from the packet, it is true; where it goes on without it, it is
//! stray.

/// How many packets of flows are looked at behind one in doubt: more wrong stamps in a row are
/// believed.
pub(super) const LOOK: usize = 8;

/// Before this nothing was captured: the stamps of clocks that were never set lie in 1970.
const FIRST_NS: u64 = 365 * 86_400 * 1_000_000_000;
/// Beyond this nothing is captured for long: the year 2100.
const LAST_NS: u64 = 4_102_444_800 * 1_000_000_000;

/// Whether time stamps lie more than `far_ns` apart.
pub(super) fn is_far(a: u64, b: u64, far_ns: u64) -> bool {
    a.abs_diff(b) > far_ns
}

/// Whether two stamps say the same of what time it was. Equal ones do only where a clock can have
/// made them: packets that were never stamped are equal too.
fn agrees(a: u64, b: u64, far_ns: u64) -> bool {
    !is_far(a, b, far_ns) && (a != b || (FIRST_NS..LAST_NS).contains(&a))
}

/// Whether a stamp that lies far from `level`, the time so far, is stray. `later` are the stamps of
/// up to [`LOOK`] packets behind it, fewer only where the capture ends.
pub(super) fn is_stray(level: u64, ts: u64, later: &[u64], far_ns: u64) -> bool {
    let is_ahead = ts > level;
    for &next in later {
        if agrees(next, ts, far_ns) {
            return false;
        }
        let is_back = next.saturating_add(far_ns) >= level;
        if is_back && (!is_ahead || next < ts) {
            return true;
        }
    }
    if is_ahead {
        return later.is_empty() && level < LAST_NS && ts >= LAST_NS;
    }
    later.len() < LOOK && later.iter().all(|&next| next == ts)
}

/// When a capture begins whose first packet is stamped `ts`, if that is stray: then the time of the
/// first packet behind it that another one agrees with.
pub(super) fn mended_start(ts: u64, later: &[u64], far_ns: u64) -> Option<u64> {
    if later.iter().any(|&next| agrees(next, ts, far_ns)) {
        return None;
    }
    let others = |at: usize| later.iter().enumerate().filter(move |other| other.0 != at);
    let is_agreed =
        |&(at, &next): &(usize, &u64)| others(at).any(|(_, &other)| agrees(next, other, far_ns));
    let base = match later.iter().enumerate().find(is_agreed) {
        Some((_, &base)) => base,
        // Nothing says what is true but that a packet was not stamped at all.
        None if ts == 0 => *later.iter().find(|&&next| next != 0)?,
        None => return None,
    };
    // Captures that were joined may be silent for years, so an early first packet is mostly true.
    let is_true = ts < base && (ts >= FIRST_NS || base < FIRST_NS) && ts != 0;
    (is_far(ts, base, far_ns) && !is_true).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const T: u64 = 1_700_000_000 * S;
    const FAR: u64 = 120 * S;

    #[test]
    fn time_that_goes_on_without_a_stamp_makes_it_stray() {
        for ts in [0, 1, T - 121 * S, T + 121 * S, T + 40_000_000 * S, u64::MAX] {
            assert!(is_stray(T, ts, &[T + 1, T + 2], FAR), "{ts}");
            let other = ts ^ (1 << 50);
            assert!(is_stray(T, ts, &[other, T + 1], FAR), "{ts}: another wrong one");
        }
        for ts in [0, 1, u64::MAX] {
            assert!(is_stray(T, ts, &[ts, ts, T + 1], FAR), "{ts}: not stamped, three times");
        }
        assert!(is_stray(T, 5, &[T + 1000 * S, T + 1001 * S], FAR), "and then it was silent");
        assert!(is_stray(T, 5, &[], FAR), "the last packet");
        assert!(is_stray(T, u64::MAX, &[], FAR));
    }

    #[test]
    fn time_that_goes_on_from_a_stamp_makes_it_true() {
        for ts in [S, T - 86_400 * S, T + 300 * S, T + 86_400 * S] {
            assert!(!is_stray(T, ts, &[ts + 1, ts + 2], FAR), "{ts}");
            assert!(!is_stray(T, ts, &[ts + 1], FAR), "{ts}: a capture of two packets");
            let is_set = ts > FIRST_NS;
            assert_eq!(is_stray(T, ts, &[ts, T + 5], FAR), !is_set, "{ts}: at one time");
            assert!(!is_stray(T, ts, &[ts + 1, T + 5], FAR), "{ts}: and then another capture");
        }
        let hourly: Vec<u64> = (2..10).map(|hour| T + hour * 3600 * S).collect();
        assert!(!is_stray(T, T + 3600 * S, &hourly, FAR), "a packet an hour");
        assert!(!is_stray(T, T + 3600 * S, &[], FAR), "the last one came late");
        assert!(!is_stray(T, T + 400 * 86_400 * S, &[], FAR), "the last one of joined captures");
        assert!(!is_stray(T, 0, &[0; LOOK], FAR), "from here on nothing is stamped");
    }

    #[test]
    fn the_first_packet_is_judged_by_what_follows() {
        assert_eq!(mended_start(0, &[T, T + 1], FAR), Some(T));
        assert_eq!(mended_start(0, &[0, 0, T, T + 1], FAR), Some(T));
        assert_eq!(mended_start(0, &[T], FAR), Some(T));
        assert_eq!(mended_start(u64::MAX, &[T, T + 1], FAR), Some(T));
        assert_eq!(mended_start(T, &[0, T + 1, T + 2], FAR), None, "the second one is stray");
        assert_eq!(mended_start(0, &[u64::MAX, T, T + 1], FAR), Some(T), "so is the second one");
        assert_eq!(mended_start(T, &[T + 1], FAR), None);
        assert_eq!(mended_start(T, &[T + 3600 * S, T + 3601 * S], FAR), None, "it was silent");
        assert_eq!(mended_start(0, &[S, 2 * S], FAR), None, "time counts from the start");
        assert_eq!(mended_start(9 * S, &[T, T + 1], FAR), Some(T), "its clock was set then");
        assert_eq!(mended_start(9 * S, &[300 * S, 301 * S], FAR), None);
        let years = 10 * 365 * 86_400 * S;
        assert_eq!(mended_start(T - years, &[T, T + 1], FAR), None, "captures that were joined");
        assert_eq!(mended_start(T, &[], FAR), None);
        // Captures that were joined, the first of which is short.
        for second in [T, T + 1] {
            let later = [second, T - 5000 * S, T - 4999 * S, T - 4998 * S];
            assert_eq!(mended_start(T, &later, FAR), None, "{second}");
        }
    }
}
