//! Many clients at once: whoever is idle or slow keeps nobody out.

use super::kit::{Running, bundle, pcap, scratch, traffic};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

const CLIENTS: usize = 1_000;

/// A thousand clients that sit idle, and as many that drip a header, on each socket: every probe is
/// answered.
#[test]
fn idle_and_dripping_clients_keep_no_probe_out() {
    let dir = scratch("crowd");
    let mut running = Running::start(&dir, &bundle(), 1);
    let mut open: Vec<TcpStream> = Vec::new();
    let mut local: Vec<UnixStream> = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = TcpStream::connect(&running.metrics).unwrap();
        let mut control = UnixStream::connect(&running.socket).unwrap();
        if number % 2 == 0 {
            // Those that were closed meanwhile cannot be written to.
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nA: ");
            let _ = control.write_all(b"GET /sta");
        }
        open.push(stream);
        local.push(control);
        if number % 50 == 0 {
            open.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
            assert_eq!(running.ask_openly("GET", "/healthz").0, 200, "after {number} clients");
            assert_eq!(running.ask_openly("GET", "/metrics").0, 200, "after {number} clients");
            assert_eq!(running.ask("GET", "/status", "").0, 200, "after {number} clients");
        }
    }
    for _ in 0..20 {
        assert_eq!(running.ask_openly("GET", "/readyz").0, 200);
    }
    drop((open, local));
    running.feed(&pcap(&traffic(1)));
    running.end();
}

#[test]
fn head_is_get_without_its_body() {
    let dir = scratch("head");
    let mut running = Running::start(&dir, &bundle(), 1);
    for page in ["/metrics", "/healthz", "/readyz", "/status"] {
        running.wait(page, || running.ask_openly("GET", page).0 == 200);
        let (status, body) = running.ask_openly("HEAD", page);
        assert_eq!((status, body.as_str()), (200, ""), "{page}");
    }
    assert_eq!(running.ask_openly("HEAD", "/reload").0, 405);
    assert_eq!(running.ask_openly("HEAD", "/nowhere").0, 404);
    running.feed(&pcap(&traffic(1)));
    running.end();
}
