//! `serveflow control`: a word with a running service.

use super::Session;
use super::args::{ControlArgs, Order};
use anyhow::Context;
use serveflow_serve::service::{ask, log};
use std::io::ErrorKind;
use std::process::ExitCode;

pub(crate) fn control(session: &Session, args: &ControlArgs) -> anyhow::Result<ExitCode> {
    let socket = args.socket.as_ref().or(session.typed.service.control.as_ref());
    let socket = socket
        .context("expected a control socket, by --socket or service.control, found neither")?;
    let (method, path) = match args.what {
        Order::Status => ("GET", "/status"),
        Order::Metrics => ("GET", "/metrics"),
        Order::Reload => ("POST", "/reload"),
        Order::Rollback => ("POST", "/rollback"),
        Order::Shadow => ("POST", "/shadow"),
        Order::Unshadow => ("POST", "/shadow/end"),
        Order::Promote => ("POST", "/promote"),
        Order::Stop => ("POST", "/stop"),
    };
    // The service may stand in another directory.
    let bundle = args.bundle.as_ref().map(std::path::absolute).transpose()?;
    let bundle = bundle.map(|bundle| bundle.display().to_string());
    let body = match (args.what, bundle) {
        (Order::Reload, bundle) => bundle.unwrap_or_default(),
        (Order::Shadow, Some(bundle)) => format!("{}\n{bundle}", args.share),
        (Order::Shadow, None) => {
            anyhow::bail!("expected the bundle of the shadow by --bundle, found none")
        }
        (_, Some(_)) => anyhow::bail!("expected --bundle with reload and shadow alone"),
        (_, None) => String::new(),
    };
    let (status, answer) = ask(socket, method, path, &body).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no service answers at {}: expected a running `serveflow run` whose service.control \
             is this socket ({error})",
            socket.display()
        ),
        _ => error.into(),
    })?;
    if status == 200 {
        match args.what {
            Order::Status => super::print_as_is(&log::shown_json(&answer))?,
            _ => super::print(&answer)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("{}", answer.trim_end());
}
