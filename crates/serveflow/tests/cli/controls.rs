//! `control`: each order becomes one request on the socket, and options of another order are
//! refused.

use super::kit::{Ran, scratch, serveflow, text};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Sends an order to a socket that answers anything with `done`, and hands back the request.
fn sent(socket: &Path, order: &[&str]) -> (Ran, String) {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut bytes = [0; 4096];
        // The request says how long its body is.
        loop {
            let read = stream.read(&mut bytes).unwrap();
            request.extend_from_slice(&bytes[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.rsplit_once(": ").unwrap().1.parse::<usize>().unwrap();
            if body.len() >= length {
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\ndone\n").unwrap();
                return text;
            }
        }
    });
    let ran = serveflow(&[&["control"], order, &["--socket", text(socket)]].concat());
    (ran, answer.join().unwrap())
}

#[test]
fn each_order_is_one_request() {
    let dir = scratch("controls");
    let socket = dir.join("s");
    let bundle = dir.join("bundle");
    let named = ["--bundle", text(&bundle)];
    let with = |order: &'static str, more: &[&'static str]| [&[order], &named[..], more].concat();
    for (order, start, body) in [
        (vec!["status"], "GET /status ", String::new()),
        (vec!["metrics"], "GET /metrics ", String::new()),
        (vec!["reload"], "POST /reload ", String::new()),
        (with("reload", &[]), "POST /reload ", bundle.display().to_string()),
        (vec!["rollback"], "POST /rollback ", String::new()),
        (with("shadow", &[]), "POST /shadow ", format!("0.1\n{}", bundle.display())),
        (
            with("shadow", &["--share", "0.5"]),
            "POST /shadow ",
            format!("0.5\n{}", bundle.display()),
        ),
        (vec!["shadow", "--stop"], "POST /shadow/end ", String::new()),
        (vec!["promote"], "POST /promote ", String::new()),
        (vec!["stop"], "POST /stop ", String::new()),
    ] {
        let (ran, request) = sent(&socket, &order);
        assert_eq!(ran.exits(0).out, "done\n", "{order:?}");
        assert!(request.starts_with(start), "{order:?}: {request}");
        assert_eq!(request.split_once("\r\n\r\n").unwrap().1, body, "{order:?}");
    }
}

#[test]
fn options_of_another_order_are_refused() {
    let refused = |order: &[&str]| serveflow(&[&["control"], order, &["--socket", "s"]].concat());
    refused(&["shadow"]).exits(2).says(&["--bundle"]);
    for order in ["status", "metrics", "rollback", "promote", "stop"] {
        refused(&[order, "--bundle", "b"]).exits(2).says(&["unexpected argument", "--bundle"]);
    }
    for order in ["status", "metrics", "reload", "rollback", "promote", "stop"] {
        refused(&[order, "--stop"]).exits(2).says(&["unexpected argument", "--stop"]);
    }
    refused(&["shadow", "--stop", "--bundle", "b"]).exits(2).says(&["--stop", "--bundle"]);
    refused(&["unshadow"]).exits(2).says(&["unshadow"]);
}

/// The names before the dictionary are gone: nothing was released that had them.
#[test]
fn old_names_are_unknown() {
    for old in ["--join", "--also-features", "--promise", "--promise-of", "--measure"] {
        let args = ["train", "--captures", "x", "--out", "y", old, "1"];
        serveflow(&args).exits(2).says(&["unexpected argument", old]);
    }
    let args = ["train", "--captures", "x", "--out", "y", "--no-honest"];
    serveflow(&args).exits(2).says(&["unexpected argument", "--no-honest"]);
    let args = ["bundle", "add", "x", "--stage", "a", "--model", "m", "--measure", "margin"];
    serveflow(&args).exits(2).says(&["unexpected argument", "--measure"]);
    serveflow(&["inspect", "--example-config"]).exits(2).says(&["--example-config"]);
}
