//! Requests and their answers.

use super::loader::{BundleLoad, NotLoaded, Pending};
use super::log;
use super::metrics::page;
use super::readiness::NotReady;
use super::shadow::Comparison;
use super::{Refused, Service};
use serde_json::{Map, Value, json};
use serveflow_model::drift::What;
use serveflow_output::LossReason;
use std::path::PathBuf;
use std::sync::Arc;

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code of HTTP.
    pub status: u16,
    /// What the body is.
    pub kind: &'static str,
    /// The body.
    pub body: String,
}

/// What may be read.
const PAGES: [&str; 4] = ["/metrics", "/healthz", "/readyz", "/status"];
/// What changes something.
const ORDERS: [&str; 6] = ["/reload", "/rollback", "/shadow", "/shadow/end", "/promote", "/stop"];
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl HttpAnswer {
    fn text(status: u16, body: impl Into<String>) -> Self {
        let mut body = body.into();
        body.push('\n');
        Self { status, kind: TEXT, body }
    }

    fn refused(refused: &Refused) -> Self {
        Self::text(422, format!("refused, and the bundle before is served on: {refused}"))
    }
}

/// What a request comes to: an answer, or one that comes when a bundle is read.
#[derive(Debug)]
pub enum Reply {
    /// The answer.
    Now(HttpAnswer),
    /// A bundle is being read.
    DeferredAnswer(DeferredAnswer),
}

/// An answer that comes when a bundle is read.
#[derive(Debug)]
pub struct DeferredAnswer {
    pending: Pending,
    is_shadow: bool,
}

impl DeferredAnswer {
    /// Waits until the bundle is read.
    pub async fn answer(self) -> HttpAnswer {
        match (self.pending.await, self.is_shadow) {
            (Ok(Ok(loaded)), false) => {
                HttpAnswer::text(200, format!("bundle {} is served", loaded.id))
            }
            (Ok(Ok(loaded)), true) => {
                HttpAnswer::text(200, format!("bundle {} is in the shadow", loaded.id))
            }
            (Ok(Err(refused)), false) => HttpAnswer::text(
                422,
                format!("refused, and the bundle before is served on: {refused}"),
            ),
            (Ok(Err(refused)), true) => HttpAnswer::text(422, format!("refused: {refused}")),
            (Err(_), _) => HttpAnswer::text(
                500,
                "refused: the thread that read the bundle ended without a result",
            ),
        }
    }
}

/// Replies to a request. What changes anything is only done where `may_control`.
#[must_use]
pub fn reply(
    service: &Arc<Service>,
    may_control: bool,
    method: &str,
    path: &str,
    body: &str,
) -> Reply {
    match (method, path) {
        ("POST", "/reload") if may_control => {
            let path = Some(body.trim()).filter(|path| !path.is_empty()).map(PathBuf::from);
            later(service, BundleLoad::Serve { path })
        }
        ("POST", "/shadow") if may_control => match shadow_of(body) {
            Some(load) => later(service, load),
            None => Reply::Now(HttpAnswer::text(
                400,
                "expected a share of the flows, above 0 and up to 1, on the first line, and a \
                 bundle on the second",
            )),
        },
        _ => Reply::Now(answer(service, may_control, method, path)),
    }
}

/// Begins to read a bundle.
fn later(service: &Arc<Service>, load: BundleLoad) -> Reply {
    let is_shadow = matches!(load, BundleLoad::Shadow { .. });
    match service.start_load(load) {
        Ok(pending) => Reply::DeferredAnswer(DeferredAnswer { pending, is_shadow }),
        Err(why @ NotLoaded::Busy { .. }) => Reply::Now(HttpAnswer::text(409, why.to_string())),
        Err(why) => Reply::Now(HttpAnswer::text(500, why.to_string())),
    }
}

/// What is answered at once. HEAD is GET without its body, which whoever writes the answer leaves
/// out.
fn answer(service: &Arc<Service>, may_control: bool, method: &str, path: &str) -> HttpAnswer {
    let method = if method == "HEAD" { "GET" } else { method };
    match (method, path) {
        ("GET", "/metrics") => match page(service) {
            Ok(body) => HttpAnswer { status: 200, kind: METRICS, body },
            Err(error) => HttpAnswer::text(500, format!("the metrics cannot be written: {error}")),
        },
        // Whether it should be started anew, which helps when a worker hangs; systemd's watchdog
        // sees to that.
        ("GET", "/healthz") => HttpAnswer::text(200, "alive"),
        ("GET", "/readyz") => ready(service),
        ("GET", "/status") => HttpAnswer { status: 200, kind: JSON, body: status(service) },
        ("POST", _) if ORDERS.contains(&path) && !may_control => {
            HttpAnswer::text(403, "changes are taken by the control socket alone (service.control)")
        }
        ("POST", "/rollback") => match service.roll_back() {
            Ok(Some(loaded)) => {
                HttpAnswer::text(200, format!("bundle {} is served again", loaded.id))
            }
            Ok(None) => HttpAnswer::text(
                409,
                "expected a bundle before this one, found none: there is one after a reload or \
                 a promotion, and none after a rollback",
            ),
            Err(refused) => HttpAnswer::refused(&refused),
        },
        ("POST", "/shadow/end") => match service.end_shadow() {
            Some(loaded) => {
                HttpAnswer::text(200, format!("bundle {} is no shadow any more", loaded.id))
            }
            None => HttpAnswer::text(409, "expected a bundle in the shadow, found none"),
        },
        ("POST", "/promote") => match service.promote() {
            Ok(Some(loaded)) => HttpAnswer::text(200, format!("bundle {} is served", loaded.id)),
            Ok(None) => HttpAnswer::text(409, "expected a bundle in the shadow, found none"),
            Err(refused) => HttpAnswer::refused(&refused),
        },
        ("POST", "/stop") => {
            service.stop();
            HttpAnswer::text(200, "stopping")
        }
        (_, known) if ORDERS.contains(&known) || PAGES.contains(&known) => {
            HttpAnswer::text(405, format!("expected another method, found {method}"))
        }
        _ => HttpAnswer::text(
            404,
            format!(
                "expected {}, or on the control socket {}; found {path}",
                PAGES.join(", "),
                ORDERS.join(", ")
            ),
        ),
    }
}

/// The bundle of a shadow: its share of the flows stands on the first line, its path on the second.
fn shadow_of(body: &str) -> Option<BundleLoad> {
    let (share, path) = body.split_once('\n')?;
    let share = share.trim().parse().ok().filter(|share| *share > 0.0 && *share <= 1.0)?;
    let path = path.trim();
    (!path.is_empty()).then(|| BundleLoad::Shadow { path: PathBuf::from(path), share })
}

/// How the shadow compares; null without one.
fn shadow(service: &Service, comparison: &Comparison) -> Option<Value> {
    let plan = service.shadow().0?;
    let differences = comparison.differences.iter();
    let differences = differences.map(
        |((served, shadow), count)| json!({ "served": served, "shadow": shadow, "flows": count }),
    );
    let compared = (comparison.agreed + comparison.differed).max(1) as f64;
    let mean = |[served, shadow]: [u128; 2]| {
        let micros = |sum: u128| sum as f64 / 1e3 / compared;
        json!({ "served": micros(served), "shadow": micros(shadow) })
    };
    Some(json!({
        "id": plan.loaded.id, "path": plan.loaded.path, "share": plan.share,
        "agreed": comparison.agreed, "differed": comparison.differed,
        "unmatched": comparison.unmatched,
        "differences": differences.collect::<Vec<_>>(),
        "mean_compute_us": mean(comparison.compute_ns),
        "mean_collection_us": mean(comparison.collection_ns),
        "worker_seconds": comparison.wall_ns as f64 / 1e9,
    }))
}

/// Whether traffic is served, or each reason why not on a line of its own.
fn ready(service: &Service) -> HttpAnswer {
    match &service.readiness()[..] {
        [] => HttpAnswer::text(200, "ready"),
        reasons => HttpAnswer::text(503, lines(reasons).join("\n")),
    }
}

/// The reasons as text.
fn lines(reasons: &[NotReady]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

/// What became of the records that were handed to the output.
fn output(service: &Service) -> Value {
    let status = service.output();
    let lost = LossReason::ALL.into_iter().zip(status.lost);
    let lost = lost.map(|(why, count)| (why.name().to_owned(), count.into()));
    json!({ "written": status.written, "buffered": status.buffered,
            "buffered_bytes": status.buffered_bytes, "lost": lost.collect::<Map<_, _>>(),
            "stalled": status.is_stalled, "held": status.is_held, "trouble": status.trouble,
            "reopened": status.reopened, "rotated": status.rotated,
            "log_lines_dropped": log::dropped() })
}

/// What an operator asks first, as JSON.
fn status(service: &Service) -> String {
    let totals = service.board.totals();
    let (serving, version) = service.switch.serving();
    let accounts = &totals.sum.accounts;
    let interfaces = service.interfaces();
    let interfaces = interfaces.iter().map(|one| {
        json!({ "name": one.name, "received": one.received, "dropped": one.dropped,
                "downs": one.downs, "removed": one.is_gone,
                "waited_for": one.is_gone && one.is_waited_for, "attached": one.attached })
    });
    let drift = service.drift.stages().into_iter().map(|one| {
        let own = one.standing;
        json!({ "stage": one.stage, "alarm": own.is_alarmed, "score": own.score, "flows": own.flows,
                "window": one.window, "windows": own.windows, "over": own.over,
                "alarms": own.alarms,
                "worst": own.worst.map(What::name), "alarmed_by": own.alarmed_by.map(What::name) })
    });
    let previous = service.switch.previous().map(|previous| previous.id.clone());
    let age = &totals.sum.tally.age;
    let micros = |share| age.quantile_ns(share).map(|ns| ns / 1000);
    let reading = service
        .loader
        .reading()
        .map(|(path, since)| json!({ "path": path, "seconds": since.as_secs_f64() }));
    let status = json!({
        "shadow": shadow(service, &totals.sum.comparison),
        "bundle": { "id": serving.id, "path": serving.path, "changes": version,
                    "previous": previous, "pending": service.board.version() < version,
                    "reading": reading },
        "packets": { "seen": accounts.packets.seen, "recorded": accounts.packets.recorded,
                     "ignored": accounts.packets.ignored,
                     "after_close": accounts.packets.after_close,
                     "filtered": accounts.packets.filtered,
                     "rejected": accounts.rejected() },
        "flows": { "seen": accounts.flows.seen, "decided": accounts.verdicts(),
                   "collecting": accounts.flows.collecting,
                   "in_inference": accounts.flows.in_inference },
        "degradation": { "level": totals.sum.degradation,
                         "changes": totals.sum.degradation_changes },
        "verdict_delay_us": { "p50": micros(0.5), "p99": micros(0.99) },
        "interfaces": interfaces.collect::<Vec<_>>(),
        "drift": drift.collect::<Vec<_>>(),
        "not_ready": lines(&service.readiness()),
        "output": output(service),
        "stopping": service.is_stopping(),
    });
    format!("{status:#}\n")
}
