//! `serveflow control`: sends an order to a running service.

use super::Session;
use super::serve_args::{ControlArgs, Order};
use anyhow::Context;
use serveflow_serve::service::{ask, log};
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn control(session: &Session, args: &ControlArgs) -> anyhow::Result<ExitCode> {
    let socket = args.socket.as_ref().or(session.typed.service.control.as_ref());
    let socket = socket
        .context("expected a control socket, by --socket or service.control, found neither")?;
    let (method, path, body) = request(&args.order)?;
    let (status, answer) = ask(socket, method, path, &body).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no service at {}: expected a running `serveflow run` whose service.control is this \
             socket ({error})",
            socket.display()
        ),
        _ => error.into(),
    })?;
    if status == 200 {
        match args.order {
            Order::Status => super::print_as_is(&log::shown_json(&answer))?,
            _ => super::print(&answer)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("{}", answer.trim_end());
}

/// Method, path and body of an order.
fn request(order: &Order) -> anyhow::Result<(&'static str, &'static str, String)> {
    // The service may have another working directory.
    let absolute = |bundle: &Path| -> anyhow::Result<String> {
        Ok(std::path::absolute(bundle)?.display().to_string())
    };
    let plain = |method, path| Ok((method, path, String::new()));
    match order {
        Order::Status => plain("GET", "/status"),
        Order::Metrics => plain("GET", "/metrics"),
        Order::Reload { bundle } => {
            let bundle = bundle.as_deref().map(absolute).transpose()?;
            Ok(("POST", "/reload", bundle.unwrap_or_default()))
        }
        Order::Rollback => plain("POST", "/rollback"),
        Order::Shadow { bundle: Some(bundle), share, .. } => {
            Ok(("POST", "/shadow", format!("{share}\n{}", absolute(bundle)?)))
        }
        Order::Shadow { bundle: None, .. } => plain("POST", "/shadow/end"),
        Order::Promote => plain("POST", "/promote"),
        Order::Stop => plain("POST", "/stop"),
    }
}
