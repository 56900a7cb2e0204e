//! `serveflow control`: a word with a running service.

use super::Session;
use super::args::{ControlArgs, Order};
use anyhow::Context;
use serveflow::service::ask;
use std::process::ExitCode;

pub(crate) fn control(session: &Session, args: &ControlArgs) -> anyhow::Result<ExitCode> {
    let socket = args.socket.as_ref().or(session.typed.service.control.as_ref());
    let socket = socket
        .context("expected a control socket, by --socket or service.control, found neither")?;
    anyhow::ensure!(
        args.bundle.is_none() || args.what == Order::Reload,
        "expected --bundle with reload alone"
    );
    let (method, path) = match args.what {
        Order::Status => ("GET", "/status"),
        Order::Metrics => ("GET", "/metrics"),
        Order::Reload => ("POST", "/reload"),
        Order::Rollback => ("POST", "/rollback"),
        Order::Stop => ("POST", "/stop"),
    };
    // The service may stand in another directory.
    let bundle = args.bundle.as_ref().map(std::path::absolute).transpose()?;
    let body = bundle.map_or_else(String::new, |bundle| bundle.display().to_string());
    let (status, answer) = ask(socket, method, path, &body)?;
    if status == 200 {
        super::print(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("{}", answer.trim_end());
}
