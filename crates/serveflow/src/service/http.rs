//! Requests and their answers.

use super::Service;
use super::exposition::page;
use serde_json::json;
use serveflow_model::drift::What;
use std::path::Path;
use std::sync::Arc;

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code of HTTP.
    pub status: u16,
    /// What the body is.
    pub kind: &'static str,
    /// The body.
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Answer {
    fn text(status: u16, body: impl Into<String>) -> Self {
        let mut body = body.into();
        body.push('\n');
        Self { status, kind: TEXT, body }
    }
}

/// Answers a request. What changes anything is only done where `may_control`.
#[must_use]
pub fn answer(
    service: &Arc<Service>,
    may_control: bool,
    method: &str,
    path: &str,
    body: &str,
) -> Answer {
    match (method, path) {
        ("GET", "/metrics") => match page(service) {
            Ok(body) => Answer { status: 200, kind: METRICS, body },
            Err(error) => Answer::text(500, format!("the metrics cannot be written: {error}")),
        },
        // Whether it should be started anew, which helps when a worker hangs; systemd's watchdog sees to that.
        ("GET", "/healthz") => Answer::text(200, "alive"),
        ("GET", "/readyz") => ready(service),
        ("GET", "/status") => Answer { status: 200, kind: JSON, body: status(service) },
        ("POST", "/reload" | "/rollback" | "/stop") if !may_control => {
            Answer::text(403, "changes are taken by the control socket alone (service.control)")
        }
        ("POST", "/reload") => {
            let path = Some(body.trim()).filter(|path| !path.is_empty());
            match service.reload(path.map(Path::new)) {
                Ok(loaded) => Answer::text(200, format!("bundle {} is served", loaded.id)),
                Err(refused) => Answer::text(
                    422,
                    format!("refused, and the bundle before is served on: {refused}"),
                ),
            }
        }
        ("POST", "/rollback") => match service.roll_back() {
            Some(loaded) => Answer::text(200, format!("bundle {} is served again", loaded.id)),
            None => Answer::text(409, "expected a bundle before this one, found none"),
        },
        ("POST", "/stop") => {
            service.stop();
            Answer::text(200, "stopping")
        }
        (
            _,
            "/metrics" | "/healthz" | "/readyz" | "/status" | "/reload" | "/rollback" | "/stop",
        ) => Answer::text(405, format!("expected another method, found {method}")),
        _ => Answer::text(
            404,
            format!(
                "expected /metrics, /healthz, /readyz, /status, or on the control socket /reload, /rollback, /stop; found {path}"
            ),
        ),
    }
}

/// Whether traffic is served: every worker turns, and none has ended.
fn ready(service: &Service) -> Answer {
    let turns = service.board.turns();
    let started = turns.iter().filter(|(turns, is_done)| *turns > 0 && !is_done).count();
    if service.is_stopping() {
        return Answer::text(503, "stopping");
    }
    match started == turns.len() {
        true => Answer::text(200, "ready"),
        false => Answer::text(503, format!("{started} of {} workers serve", turns.len())),
    }
}

/// What an operator asks first, as JSON.
fn status(service: &Service) -> String {
    let totals = service.board.totals();
    let (serving, version) = service.switch.serving();
    let accounts = &totals.sum.accounts;
    let interfaces = service.interfaces();
    let interfaces = interfaces.iter().map(|one| {
        json!({ "name": one.name, "received": one.received, "dropped": one.dropped, "downs": one.downs })
    });
    let drift = service.drift.stages().into_iter().map(|one| {
        let own = one.standing;
        json!({ "stage": one.stage, "alarm": own.is_alarmed, "score": own.score, "flows": own.flows,
                "window": one.window, "windows": own.windows, "over": own.over, "alarms": own.alarms,
                "worst": own.worst.map(What::name), "alarmed_by": own.alarmed_by.map(What::name) })
    });
    let previous = service.switch.previous().map(|previous| previous.id.clone());
    let age = &totals.sum.tally.age;
    let micros = |share| age.quantile_ns(share).map(|ns| ns / 1000);
    let status = json!({
        "bundle": { "id": serving.id, "path": serving.path, "changes": version, "previous": previous,
                    "pending": service.board.version() < version },
        "packets": { "seen": accounts.packets.seen, "recorded": accounts.packets.recorded,
                     "not_wanted": accounts.packets.not_wanted, "rejected": accounts.rejected() },
        "flows": { "seen": accounts.flows.seen, "decided": accounts.verdicts(),
                   "waiting": accounts.flows.waiting, "asked": accounts.flows.asked },
        "verdict_age_us": { "p50": micros(0.5), "p99": micros(0.99) },
        "interfaces": interfaces.collect::<Vec<_>>(),
        "drift": drift.collect::<Vec<_>>(),
        "stopping": service.is_stopping(),
    });
    format!("{status:#}\n")
}
