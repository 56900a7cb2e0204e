//! Which of several rings gives the next frame.
//!
//! The kernel hands a frame over with its block, up to a block's wait after it came, and each
//! ring's blocks at other moments. So the frames of a flow whose directions come by two interfaces
//! would be read in another order than they came in: all that a block of the one holds, then all of
//! the other's. Therefore a frame waits here until no other ring can still bring an earlier one.

/// A ring as it is seen: its first frame, and what is known of the block that holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// When its next frame was captured, nanoseconds since the epoch; none is there.
    pub(super) ts_ns: Option<u64>,
    /// When the frame's block was first seen, by the wall clock: its frames were captured before.
    pub(super) seen_at: u64,
    /// Whether all frames of the other rings that were captured before `seen_at` have been seen.
    pub(super) is_settled: bool,
}

/// The ring whose frame is next, if one may go. Rings without a frame were looked into at
/// `looked_at` or later; `lag_ns` after it came, each frame is seen.
pub(super) fn next(heads: &mut [Head], looked_at: u64, lag_ns: u64) -> Option<usize> {
    let with_frame = heads.iter().enumerate().filter_map(|(at, head)| Some((head.ts_ns?, at)));
    let (_, at) = with_frame.min()?;
    if !heads[at].is_settled {
        // One that still has a frame is known to bring no earlier one.
        let all_there = heads.iter().all(|head| head.ts_ns.is_some());
        if !all_there && looked_at < heads[at].seen_at.saturating_add(lag_ns) {
            return None;
        }
        // What was not seen by now was captured after the block's last frame.
        heads[at].is_settled = !all_there;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(ts_ns: impl Into<Option<u64>>, seen_at: u64) -> Head {
        Head { ts_ns: ts_ns.into(), seen_at, is_settled: false }
    }

    #[test]
    fn the_earliest_goes_first_where_all_rings_have_one() {
        assert_eq!(next(&mut [head(7, 10), head(5, 90), head(6, 10)], 0, 1000), Some(1));
        assert_eq!(next(&mut [head(None, 0), head(None, 0)], 5000, 10), None);
        assert_eq!(next(&mut [], 5000, 10), None);
    }

    #[test]
    fn a_frame_waits_for_a_ring_that_may_bring_an_earlier_one() {
        let mut heads = [head(7, 100), head(None, 0)];
        assert_eq!(next(&mut heads, 109, 10), None);
        assert_eq!(next(&mut heads, 110, 10), Some(0));
        // All of that block may go now, whatever the clock says.
        heads[0].ts_ns = Some(9);
        assert_eq!(next(&mut heads, 0, 10), Some(0));
        // The next block waits anew.
        heads[0] = head(120, 125);
        assert_eq!(next(&mut heads, 126, 10), None);
        heads[1] = head(119, 126);
        assert_eq!(next(&mut heads, 126, 10), Some(1));
    }

    /// Blocks of random sizes that are handed over at random moments come out as one ordered
    /// stream.
    #[test]
    fn whatever_blocks_are_handed_over_when_the_order_is_that_of_capture() {
        const LAG: u64 = 50;
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        // Frames of three rings: when captured, and when handed over, at most so much later.
        let mut rings: Vec<Vec<(u64, u64)>> = Vec::new();
        for _ in 0..3 {
            let (mut now, mut frames) = (0, Vec::new());
            while now < 20_000 {
                now += random(200);
                let block: Vec<u64> = (0..=random(6)).map(|step| now + step * 3).collect();
                now = block[block.len() - 1] + random(LAG - 20);
                frames.extend(block.into_iter().map(|ts| (ts, now)));
            }
            rings.push(frames);
        }
        let total: usize = rings.iter().map(Vec::len).sum();
        let mut heads = [Head::default(); 3];
        let (mut at, mut out, mut now) = ([0; 3], Vec::new(), 0);
        while out.len() < total {
            assert!(now < 100_000, "frames are not held for ever");
            let looked_at = now;
            loop {
                for (ring, head) in heads.iter_mut().enumerate() {
                    if let Some(&(ts, over)) = rings[ring].get(at[ring])
                        && head.ts_ns.is_none()
                        && over <= now
                    {
                        let is_new = at[ring] == 0 || rings[ring][at[ring] - 1].1 != over;
                        let fresh = Head { ts_ns: None, seen_at: now, is_settled: false };
                        *head = Head { ts_ns: Some(ts), ..if is_new { fresh } else { *head } };
                    }
                }
                let Some(ring) = next(&mut heads, looked_at, LAG) else { break };
                out.extend(heads[ring].ts_ns.take());
                at[ring] += 1;
            }
            now += 1 + random(7);
        }
        assert!(out.is_sorted());
    }
}
