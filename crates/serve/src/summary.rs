//! What a run says at its end: where every packet and every flow went.

use crate::lanes::StageTally;
use crate::remote::NodeStatus;
use crate::workers::Failure;
use serveflow_core::counters::Counters;
use serveflow_core::parse::Reject;
use serveflow_core::verdict::Reason;
use serveflow_io::InputCounts;
use serveflow_output::{LossReason, OutputStatus};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// The accounts in words, a line each for packets, rejects, flows and verdicts.
#[must_use]
pub fn accounts(accounts: &Counters) -> String {
    let (packets, flows) = (&accounts.packets, &accounts.flows);
    let mut text = format!(
        "packets: {} seen = {} recorded + {} ignored + {} after close + {} rejected + {} \
         filtered\n",
        packets.seen,
        packets.recorded,
        packets.ignored,
        packets.after_close,
        accounts.rejected(),
        packets.filtered
    );
    let rejects = Reject::ALL.map(Reject::name).into_iter().zip(packets.rejected);
    list(&mut text, "rejected", rejects);
    let _ = writeln!(
        text,
        "flows:   {} seen = {} verdicts + {} collecting + {} in inference",
        flows.seen,
        accounts.verdicts(),
        flows.collecting,
        flows.in_inference
    );
    list(&mut text, "verdicts", Reason::ALL.map(Reason::name).into_iter().zip(flows.verdicts));
    let extra = [
        ("flows_evicted_decided", accounts.evicted_decided),
        ("flows_evicted_undecided", accounts.evicted_undecided),
        ("inference_shed", accounts.inference_shed),
        ("inference_failures", accounts.inference_failures),
        ("clock_restarts", accounts.clock_restarts),
        ("packets_out_of_order", accounts.packets_out_of_order),
        ("stray_timestamps", accounts.stray_timestamps),
    ];
    list(&mut text, "notes", extra.into_iter());
    text
}

/// Verdicts of flows that a model should have answered for and did not: its lane had no room, or it
/// failed.
#[must_use]
pub fn lost(accounts: &Counters) -> u64 {
    LOST.iter().map(|&reason| accounts.flows.verdicts[reason as usize]).sum()
}

/// Reasons of verdicts that rest on less than they should.
const LOST: [Reason; 2] = [Reason::Shed, Reason::Failed];

/// The same in words.
#[must_use]
pub fn lost_answers(accounts: &Counters) -> String {
    let counts = LOST.map(|reason| (reason.name(), accounts.flows.verdicts[reason as usize]));
    let mut text = format!("lost: {} flows kept an earlier label, or none\n", lost(accounts));
    list(&mut text, "verdicts", counts.into_iter());
    text
}

/// Workers that failed, a line each.
#[must_use]
pub fn failures(failures: &[Failure]) -> String {
    let line = |Failure { worker, why, open_flows }: &Failure| {
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        format!(
            "error: worker {worker} failed: {why}\n  its counts end with its last whole batch, \
             what came to it since then is unknown; {open_flows} open flows have no verdict\n"
        )
    };
    failures.iter().map(line).collect()
}

/// What became of captures that were read as one, in a line.
#[must_use]
pub fn inputs(counts: Option<&InputCounts>) -> String {
    counts.map_or_else(String::new, |counts| format!("{counts}\n"))
}

/// What batch lanes did, a line for each stage that came to one; nothing where none did.
#[must_use]
pub fn batches(stages: &BTreeMap<String, StageTally>) -> String {
    let mut text = String::new();
    for (name, tally) in stages.iter().filter(|(_, tally)| tally.was_used()) {
        let StageTally { batches, rows, largest, .. } = tally;
        let _ =
            write!(text, "batch:   {name}: {rows} rows in {batches} batches, largest {largest}");
        let extra = [
            ("jobs_late", tally.late),
            ("inference_failures", tally.failed),
            ("breaker_opened", tally.opened),
            ("jobs_turned_away", tally.turned_away),
        ];
        for (what, count) in extra.into_iter().filter(|&(_, count)| count > 0) {
            let _ = write!(text, ", {what} {count}");
        }
        text.push('\n');
    }
    text
}

/// What became of the records that were handed to the output.
#[must_use]
pub fn records(status: &OutputStatus) -> String {
    let (made, written, lost) = (status.made(), status.written, status.all_lost());
    let mut text = format!("records: {made} made = {written} written + {lost} lost\n");
    let lost = LossReason::ALL.map(LossReason::name).into_iter().zip(status.lost);
    list(&mut text, "lost", lost);
    text
}

/// A line of the counts that are not 0; none when all are.
fn list(text: &mut String, title: &str, counts: impl Iterator<Item = (&'static str, u64)>) {
    let counts = counts.filter(|&(_, count)| count > 0);
    let words: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    if !words.is_empty() {
        let _ = writeln!(text, "  {title}: {}", words.join(", "));
    }
}

/// What the servers of remote models did, a line each; nothing where there are none.
#[must_use]
pub fn remote(servers: &[NodeStatus]) -> String {
    let mut text = String::new();
    for server in servers {
        let NodeStatus { model, endpoint, requests, failures, retries, in_flight, .. } = server;
        let state = if server.is_ready { "ready" } else { "out" };
        let _ = write!(
            text,
            "remote:  {model} on {endpoint}: {state}, {requests} requests, {failures} failed, \
             {retries} retries, {in_flight} in flight"
        );
        let trouble = &server.trouble;
        let _ =
            if trouble.is_empty() { writeln!(text) } else { writeln!(text, "; last: {trouble}") };
    }
    text
}

/// The speed of a run in words.
#[must_use]
pub fn speed(accounts: &Counters, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(1e-9);
    format!(
        "took {seconds:.3} s: {:.0} packets/s, {:.0} flows/s\n",
        accounts.packets.seen as f64 / seconds,
        accounts.flows.seen as f64 / seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_came_to_no_batch_lane_has_no_line() {
        let plain = StageTally { batches: 2, rows: 9, largest: 8, ..StageTally::default() };
        let broken = StageTally { late: 1, failed: 2, opened: 3, turned_away: 4, ..plain };
        let told = [("tree@1", StageTally::default()), ("net@5", plain), ("far@9", broken)];
        let expected = "batch:   far@9: 9 rows in 2 batches, largest 8, jobs_late 1, \
                        inference_failures 2, breaker_opened 3, jobs_turned_away 4\nbatch:   \
                        net@5: 9 rows in 2 batches, largest 8\n";
        let told = told.map(|(stage, tally)| (stage.to_owned(), tally));
        assert_eq!(batches(&BTreeMap::from(told)), expected);
    }

    #[test]
    fn a_server_has_a_line_that_says_what_went_wrong_last() {
        let server = NodeStatus {
            model: "cnn".to_owned(),
            endpoint: "grpc://a:1".to_owned(),
            is_ready: false,
            in_flight: 0,
            requests: 5,
            failures: 2,
            retries: 1,
            trouble: "Unavailable".to_owned(),
        };
        assert_eq!(
            remote(&[server]),
            "remote:  cnn on grpc://a:1: out, 5 requests, 2 failed, 1 retries, 0 in flight; last: \
             Unavailable\n"
        );
        assert_eq!(remote(&[]), "");
    }
}
