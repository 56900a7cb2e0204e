//! The metrics page, in the text format of OpenMetrics, which Prometheus reads.

use super::Service;
use super::log;
use super::verdict_stats::{BOUNDS, Histogram};
use super::worker_state::Totals;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use serveflow_core::parse::Reject;
use serveflow_core::verdict::Reason;
use serveflow_model::drift::Standing;
use serveflow_output::LossReason;
use std::fmt;
use std::sync::Arc;

/// The whole page.
///
/// # Errors
/// When it cannot be written into memory.
pub fn page(service: &Arc<Service>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("serveflow");
    registry.register_collector(Box::new(Scrape(Arc::clone(service))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// One reading of everything.
#[derive(Debug)]
struct Scrape(Arc<Service>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let service = &self.0;
        let totals = service.board.totals();
        packets(&mut encoder, &totals)?;
        kernel(&mut encoder, service)?;
        flows(&mut encoder, &totals)?;
        load(&mut encoder, service, &totals)?;
        let tally = &totals.sum.tally;
        for (name, help, times) in [
            (
                "collection",
                "Packet time from a flow's first packet until its deciding stage is called",
                &tally.collection,
            ),
            (
                "compute",
                "Wall time of inference, queueing included, over all stages of a flow",
                &tally.compute,
            ),
            (
                "verdict_delay",
                "From the kernel's time stamp of the packet that decided until the verdict was \
                 written",
                &tally.age,
            ),
        ] {
            histogram(&mut encoder, name, help, times)?;
        }
        output(&mut encoder, service)?;
        drift(&mut encoder, service)?;
        bundle(&mut encoder, service, &totals)
    }
}

/// A family of counters: one for each set of labels.
fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in counts {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    let mut one = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    one.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    times: &Histogram,
) -> fmt::Result {
    let bounds = BOUNDS.iter().map(|&bound| bound as f64 / 1e9).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(times.counts).collect();
    let mut one =
        encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    one.encode_histogram::<NoLabelSet>(times.sum_ns as f64 / 1e9, times.count(), &buckets, None)
}

fn packets(encoder: &mut DescriptorEncoder<'_>, totals: &Totals) -> fmt::Result {
    let packets = &totals.sum.accounts.packets;
    counter(
        encoder,
        "packets_seen",
        "Packets that came to a worker; the sum of the five below",
        packets.seen,
    )?;
    counter(
        encoder,
        "packets_recorded",
        "Packets kept for a flow that wanted them",
        packets.recorded,
    )?;
    counter(
        encoder,
        "packets_ignored",
        "Packets of flows that were decided or had enough",
        packets.ignored,
    )?;
    counter(
        encoder,
        "packets_after_close",
        "Packets of flows that TCP had closed",
        packets.after_close,
    )?;
    let filtered = "Packets of flows that [input] leaves out";
    counter(encoder, "packets_filtered", filtered, packets.filtered)?;
    let rejected =
        Reject::ALL.map(|reason| [("reason", reason.name())]).into_iter().zip(packets.rejected);
    counters(encoder, "packets_rejected", "Packets that belong to no flow, by reason", rejected)
}

fn kernel(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let counts = service.interfaces();
    let of = |pick: fn(&crate::live::InterfaceCount) -> u64| {
        let label =
            |one: &crate::live::InterfaceCount| ([("interface", one.name.clone())], pick(one));
        counts.iter().map(label).collect::<Vec<_>>()
    };
    let received = "Packets that the kernel handed over; those in its rings are not seen yet";
    counters(encoder, "kernel_received", received, of(|one| one.received))?;
    counters(encoder, "kernel_dropped", "Packets that found the ring full", of(|one| one.dropped))?;
    counters(encoder, "kernel_ring_full", "Times that a ring was full", of(|one| one.full))?;
    counters(
        encoder,
        "kernel_interface_downs",
        "Times that an interface was found down",
        of(|one| one.downs),
    )?;
    counters(
        encoder,
        "kernel_interface_attached",
        "Times that an interface came late or came back, and was listened to from then on",
        of(|one| one.attached),
    )?;
    let mut there = encoder.encode_descriptor(
        "interface_present",
        "Whether an interface is there: 0 while it is waited for or was removed",
        None,
        MetricType::Gauge,
    )?;
    for (label, present) in of(|one| u64::from(!one.is_gone)) {
        there.encode_family(&label)?.encode_gauge(&(present as f64))?;
    }
    Ok(())
}

fn flows(encoder: &mut DescriptorEncoder<'_>, totals: &Totals) -> fmt::Result {
    let flows = &totals.sum.accounts.flows;
    let seen = "Flows created: verdicts, collecting and in inference together";
    counter(encoder, "flows_seen", seen, flows.seen)?;
    let reasons =
        Reason::ALL.map(|reason| [("reason", reason.name())]).into_iter().zip(flows.verdicts);
    counters(encoder, "flows_decided", "Final verdicts, by reason", reasons)?;
    gauge(encoder, "flows_collecting", "Flows that wait for packets", flows.collecting as f64)?;
    gauge(
        encoder,
        "flows_in_inference",
        "Flows whose features are with a model",
        flows.in_inference as f64,
    )?;
    let verdicts = totals.verdicts.iter().map(|((answer, reason), &count)| {
        let (label, stage) =
            answer.as_ref().map_or(("", ""), |(label, stage)| (&**label, &**stage));
        (
            [
                ("stage", stage.to_owned()),
                ("label", label.to_owned()),
                ("reason", reason.name().to_owned()),
            ],
            count,
        )
    });
    counters(
        encoder,
        "verdicts",
        "Final verdicts made, by stage, label and reason; no model ran where stage and label are \
         empty",
        verdicts,
    )
}

/// What became of packet time.
fn time(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &serveflow_core::counters::Counters,
) -> fmt::Result {
    counter(
        encoder,
        "clock_restarts",
        "Times that packet time started over",
        accounts.clock_restarts,
    )?;
    counter(
        encoder,
        "packets_out_of_order",
        "Packets stamped earlier than one before them that were not put back in order",
        accounts.packets_out_of_order,
    )?;
    counter(
        encoder,
        "stray_timestamps",
        "Packets stamped far from both neighbours, whose time stamp was replaced",
        accounts.stray_timestamps,
    )
}

fn load(encoder: &mut DescriptorEncoder<'_>, service: &Service, totals: &Totals) -> fmt::Result {
    let sum = &totals.sum;
    let accounts = &sum.accounts;
    let evictions =
        [("decided", accounts.evicted_decided), ("undecided", accounts.evicted_undecided)];
    counters(
        encoder,
        "flow_evictions",
        "Flows that left the full table for new ones; those that were decided lost nothing",
        evictions.map(|(state, count)| ([("state", state)], count)),
    )?;
    counter(
        encoder,
        "inference_shed",
        "Jobs that a full lane handed back",
        accounts.inference_shed,
    )?;
    counter(
        encoder,
        "inference_failures",
        "Jobs whose model failed or was too late",
        accounts.inference_failures,
    )?;
    time(encoder, accounts)?;
    gauge(
        encoder,
        "table_flows",
        "Entries of the flow table, those of decided flows included",
        sum.table_flows as f64,
    )?;
    gauge(
        encoder,
        "recorded_packets",
        "Packets kept of undecided flows",
        sum.recorded_packets as f64,
    )?;
    gauge(encoder, "table_bytes", "Bytes of flows and their packets", sum.bytes as f64)?;
    let degradation =
        "How far the gates of any worker are loosened, in steps of the bundle's degradation";
    gauge(encoder, "degradation_level", degradation, f64::from(sum.degradation))?;
    counter(
        encoder,
        "degradation_changes",
        "Times that gates were loosened or tightened",
        sum.degradation_changes,
    )?;
    gauge(encoder, "lane_queue_jobs", "Jobs that are with a lane", sum.jobs as f64)?;
    let batches = service.switch.batches();
    let of = |pick: fn(&crate::lanes::StageTally) -> u64| {
        batches
            .iter()
            .map(|(stage, tally)| ([("stage", stage.clone())], pick(tally)))
            .collect::<Vec<_>>()
    };
    counters(encoder, "batch_calls", "Calls of models in batch lanes", of(|tally| tally.batches))?;
    counters(
        encoder,
        "batch_late",
        "Jobs of batch lanes that passed their deadline",
        of(|tally| tally.late),
    )?;
    counters(
        encoder,
        "batch_breaker_opened",
        "Times that a stage's circuit breaker opened",
        of(|tally| tally.opened),
    )
}

fn output(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let status = service.output();
    let written = "Records that the output took, provisional ones included";
    counter(encoder, "records_written", written, status.written)?;
    let lost = LossReason::ALL.map(|why| [("reason", why.name())]).into_iter().zip(status.lost);
    counters(encoder, "records_lost", "Records that never reached the output, by reason", lost)?;
    let buffered = "Records that wait for the output";
    gauge(encoder, "output_buffered_records", buffered, status.buffered as f64)?;
    let bytes = "Bytes of the records that wait for the output";
    gauge(encoder, "output_buffered_bytes", bytes, status.buffered_bytes as f64)?;
    let stalled = "1 while the output has taken nothing for output.stall_ms although records wait";
    gauge(encoder, "output_stalled", stalled, f64::from(u8::from(status.is_stalled)))?;
    let reopened = "Times that the output's file was reopened";
    counter(encoder, "output_reopened", reopened, status.reopened)?;
    let rotated = "Times that this process set the output's file aside";
    counter(encoder, "output_rotated", rotated, status.rotated)?;
    let lines = "Lines of the log that were dropped because standard error was blocked";
    counter(encoder, "log_lines_dropped", lines, log::dropped())
}

fn drift(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let stages = service.drift.stages();
    let of = |pick: fn(&Standing) -> u64| {
        stages.iter().map(move |own| ([("stage", own.stage.clone())], pick(&own.standing)))
    };
    let flows =
        "Flows whose scores and features were held against those of the calibration, by stage";
    counters(encoder, "drift_flows", flows, of(|own| own.flows))?;
    counters(encoder, "drift_windows", "Windows of flows that were judged", of(|own| own.windows))?;
    let over = "Windows that differ more than chance and captures explain";
    counters(encoder, "drift_windows_over", over, of(|own| own.over))?;
    counters(encoder, "drift_alarms", "Alarms that were raised", of(|own| own.alarms))?;
    for (name, help, pick) in [
        (
            "drift_alarm",
            "1 while an alarm is on in any worker",
            (|own| f64::from(u8::from(own.is_alarmed))) as fn(&Standing) -> f64,
        ),
        (
            "drift_score",
            "Score of the last window, the largest of the workers; above 1 is over the threshold",
            |own| own.score,
        ),
    ] {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for own in &stages {
            let labels = [("stage", own.stage.clone())];
            family.encode_family(&labels)?.encode_gauge(&pick(&own.standing))?;
        }
    }
    Ok(())
}

fn bundle(encoder: &mut DescriptorEncoder<'_>, service: &Service, totals: &Totals) -> fmt::Result {
    let (serving, version) = service.switch.serving();
    let mut info = encoder.encode_descriptor(
        "bundle",
        "The bundle that new flows go by",
        None,
        MetricType::Info,
    )?;
    info.encode_info(&[("id", serving.id.clone()), ("path", serving.path.display().to_string())])?;
    counter(encoder, "bundle_changes", "Times that the bundle was changed", version)?;
    let events = &service.events;
    counter(encoder, "bundle_refused", "Bundles that were refused", events.refused())?;
    let comparison = &totals.sum.comparison;
    let compared = [
        ("agreed", comparison.agreed),
        ("differed", comparison.differed),
        ("unmatched", comparison.unmatched),
    ];
    let compared = compared.map(|(how, count)| ([("how", how)], count));
    counters(
        encoder,
        "shadow_flows",
        "Flows that the bundle in the shadow named too, since it is there",
        compared,
    )?;
    let seconds = comparison.wall_ns as f64 / 1e9;
    gauge(
        encoder,
        "shadow_worker_seconds",
        "Wall time that the shadow took of the workers",
        seconds,
    )?;
    let failed = "Workers that panicked, and serve no more";
    gauge(encoder, "workers_failed", failed, totals.failed as f64)?;
    let workers_done = "Workers that have come to their end";
    gauge(encoder, "workers_done", workers_done, totals.done as f64)?;
    let behind = u64::from(service.board.version() < version);
    gauge(
        encoder,
        "bundle_pending",
        "1 while a worker still sends new flows through an earlier bundle",
        behind as f64,
    )
}
