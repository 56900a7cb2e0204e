//! The accounts, from outside and to the unit, while traffic runs.

use super::kit::{Among, Running, bundle, pcap, samples, scratch, sum, traffic};

/// Holds the metrics of one moment to what must be so at every moment.
fn balance(page: &str) -> (u64, u64) {
    assert!(page.ends_with("# EOF\n"), "{page}");
    let samples = samples(page);
    let of = |name: &str| sum(&samples, name);
    let seen = of("packets_seen_total");
    let parts = [
        "packets_recorded_total",
        "packets_ignored_total",
        "packets_after_close_total",
        "packets_filtered_total",
        "packets_rejected_total",
    ];
    assert_eq!(seen, parts.map(of).iter().sum::<f64>(), "{page}");
    let decided = of("flows_decided_total");
    assert_eq!(
        of("flows_seen_total"),
        decided + of("flows_collecting") + of("flows_in_inference"),
        "{page}"
    );
    assert_eq!(decided, of("verdicts_total"), "{page}");
    assert_eq!(decided, of("collection_seconds_count"), "{page}");
    assert_eq!(samples["serveflow_compute_seconds_bucket{le=\"+Inf\"}"], decided);
    (seen as u64, decided as u64)
}

#[test]
fn accounts_balance_to_the_unit_while_traffic_runs() {
    for workers in [1, 3] {
        let dir = scratch(&format!("accounts-{workers}"));
        let mut running = Running::start(&dir, &bundle(), workers);
        let frames = traffic(6);
        let bytes = pcap(&frames);
        assert_eq!(running.ask_openly("GET", "/healthz").0, 200);
        let mut moments = 0;
        for chunk in bytes.chunks(bytes.len() / 40 + 1) {
            running.feed(chunk);
            let (status, page) = running.ask_openly("GET", "/metrics");
            assert_eq!(status, 200);
            let (seen, _) = balance(&page);
            assert!(seen <= frames.len() as u64);
            moments += u64::from(seen > 0 && seen < frames.len() as u64);
        }
        assert!(moments > 5, "the traffic ran while it was looked at, in {moments} moments");
        let seen = || balance(&running.ask_openly("GET", "/metrics").1).0;
        // What fills no block of the reader comes at the end of the input.
        running.wait("nearly all packets", || seen() > 0);
        assert_eq!(running.ask_openly("GET", "/readyz").0, 200);
        let status = running.status();
        assert_eq!(status["packets"]["rejected"], 0);
        assert_eq!(status["not_ready"], serde_json::json!([]));
        let (verdicts, log) = running.end();
        assert!(log.contains(&format!("packets: {} seen", frames.len())), "{log}");
        assert!(log.contains(&format!("flows:   {} seen = {0} verdicts", verdicts.len())), "{log}");
    }
}

#[test]
fn what_may_be_asked_where_is_told() {
    let dir = scratch("pages");
    let mut running = Running::start(&dir, &bundle(), 1);
    running.feed(&pcap(&traffic(1)));
    for order in ["/reload", "/rollback", "/shadow", "/promote", "/stop"] {
        let (status, text) = running.ask_openly("POST", order);
        assert_eq!(status, 403, "{text}");
        assert!(text.contains("service.control"), "{text}");
    }
    assert_eq!(running.ask_openly("POST", "/metrics").0, 405);
    assert_eq!(running.ask_openly("GET", "/reload").0, 405);
    let (status, text) = running.ask_openly("GET", "/");
    assert!(status == 404 && text.contains("/metrics") && text.contains("/reload"), "{text}");
    assert_eq!(running.ask("POST", "/rollback", "").0, 409);
    assert_eq!(running.ask("POST", "/promote", "").0, 409);
    assert_eq!(running.ask("POST", "/shadow", "2\n/x").0, 400);
    let (verdicts, _) = running.end();
    assert!(!verdicts.is_empty());
}

#[test]
fn a_taken_address_or_socket_is_named() {
    let dir = scratch("taken");
    let mut running = Running::start(&dir, &bundle(), 1);
    for (key, value) in
        [("metrics", running.metrics.clone()), ("control", running.socket.display().to_string())]
    {
        let config = dir.join(format!("{key}.toml"));
        std::fs::write(&config, format!("[service]\n{key} = {value:?}\n")).unwrap();
        let bundle = bundle();
        let args = [
            "run",
            "-",
            "--config",
            config.to_str().unwrap(),
            "--bundle",
            bundle.to_str().unwrap(),
        ];
        let ran = super::kit::serveflow(&args);
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{err}");
        assert!(err.contains(&format!("service.{key}")) && err.contains(&value), "{err}");
    }
    running.feed(&pcap(&traffic(1)));
    running.end();
}

#[test]
fn systemd_is_told_of_the_start_of_life_and_of_the_end() {
    let dir = scratch("systemd");
    let path = dir.join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(super::kit::LIMIT)).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "800000")];
    let among = Among { environment: &environment, ..Among::default() };
    let mut running = Running::start_among(&dir, &bundle(), 2, among);
    let next = || {
        let mut text = [0; 256];
        let len = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..len].to_vec()).unwrap().trim().to_owned()
    };
    assert_eq!(next(), "READY=1");
    assert_eq!([next(), next()], ["WATCHDOG=1"; 2], "its workers turn though nothing comes");
    running.feed(&pcap(&traffic(1)));
    running.end();
    let last = std::iter::repeat_with(next).find(|text| text != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
}

/// A manager that does not read holds up neither answers nor the end, and is told once it reads.
#[test]
fn a_manager_that_does_not_read_is_not_waited_for() {
    let dir = scratch("systemd-full");
    let path = dir.join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(super::kit::LIMIT)).unwrap();
    let filler = std::os::unix::net::UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"FILLER=1", &path).is_ok() {}
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "800000")];
    let among = Among { environment: &environment, ..Among::default() };
    let mut running = Running::start_among(&dir, &bundle(), 1, among);
    // Longer than between two looks, so that it has tried.
    for _ in 0..3 {
        assert_eq!(running.ask("GET", "/healthz", "").0, 200);
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let next = || {
        let mut text = [0; 256];
        let len = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..len].to_vec()).unwrap()
    };
    let mut told = std::iter::repeat_with(next).filter(|text| text != "FILLER=1");
    assert!(told.by_ref().take(4).any(|text| text == "READY=1"));
    while filler.send_to(b"FILLER=1", &path).is_ok() {}
    running.feed(&pcap(&traffic(1)));
    running.end();
}
