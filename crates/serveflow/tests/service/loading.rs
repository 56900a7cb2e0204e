//! Bundles that take long to be read, or for ever: everything else goes on.

use super::kit::{Running, bundle, pcap, scratch, traffic};
use serveflow_model::LoadOptions;
use serveflow_model::bundle::{Bundle, BundleError};
use serveflow_serve::clock;
use serveflow_serve::config::{ServiceLimits, Typed};
use serveflow_serve::lanes::LaneMaker;
use serveflow_serve::service::{BundleSwap, Control, Listeners, LoadedBundle, Service, ask};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Bundles wait for this to be read; those of a directory `never` come after no time at all.
static MAY_COME: AtomicBool = AtomicBool::new(false);

fn slow(path: &Path, options: &LoadOptions) -> Result<Bundle, BundleError> {
    while path.ends_with("never") || !MAY_COME.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(2));
    }
    Bundle::open(path, options)
}

struct Slow {
    service: Arc<Service>,
    control: Control,
    socket: PathBuf,
    reload: Arc<AtomicBool>,
}

impl Slow {
    /// A service without workers, whose later bundles are slow to be read.
    fn start(name: &str) -> Self {
        let path = bundle();
        let options = LoadOptions::default();
        let loaded = Bundle::open(&path, &options).unwrap();
        let typed = Typed::default();
        let config = typed.check_for(&loaded).unwrap();
        let loaded = LoadedBundle::new(loaded, &path, &config).unwrap();
        let stop = Arc::default();
        let maker = LaneMaker::new(&config, 0, false, clock::now_ns, &stop);
        let switch = BundleSwap::new(loaded, config, typed, maker, options).reading_by(slow);
        let service = Arc::new(Service::new(switch, 0, None, stop));
        let socket = scratch(name).join("control");
        let limits = ServiceLimits { control: Some(socket.clone()), ..ServiceLimits::default() };
        let listeners = Listeners::open(&limits).unwrap();
        let reload = Arc::new(AtomicBool::new(false));
        let control = Control::start(&service, listeners, &limits, Arc::clone(&reload)).unwrap();
        Self { service, control, socket, reload }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        ask(&self.socket, method, path, body).unwrap()
    }

    /// Asks without waiting for the answer.
    fn order(&self, path: &'static str, body: &str) -> Receiver<(u16, String)> {
        let (socket, body, (tell, told)) = (self.socket.clone(), body.to_owned(), channel());
        std::thread::spawn(move || {
            if let Ok(answer) = ask(&socket, "POST", path, &body) {
                let _ = tell.send(answer);
            }
        });
        told
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Service) -> bool) {
        let began = std::time::Instant::now();
        while !is_so(&self.service) {
            assert!(began.elapsed() < super::kit::LIMIT, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// While a bundle is being read, pages answer, other loads are refused with the path that is read,
/// a signal waits for its turn, a rollback stops what is being read from being served, and an end
/// waits for nothing.
#[test]
fn while_a_bundle_is_read_everything_else_goes_on() {
    MAY_COME.store(false, Ordering::Relaxed);
    let slow = Slow::start("slow");
    let path = bundle().canonicalize().unwrap().display().to_string();
    let told = slow.order("/reload", &path);
    slow.wait_for("the load", |service| service.loader.reading().is_some());
    for page in ["/healthz", "/metrics", "/status"] {
        assert_eq!(slow.ask("GET", page, "").0, 200, "{page}");
    }
    let status = slow.ask("GET", "/status", "").1;
    assert!(status.contains("\"reading\"") && status.contains(&path), "{status}");
    for (order, body) in [("/reload", path.clone()), ("/shadow", format!("1\n{path}"))] {
        let (status, text) = slow.ask("POST", order, &body);
        assert_eq!(status, 409, "{text}");
        assert!(text.contains("is being read") && text.contains(&path), "{text}");
    }
    slow.reload.store(true, Ordering::Relaxed);
    MAY_COME.store(true, Ordering::Relaxed);
    let (status, text) = told.recv_timeout(super::kit::LIMIT).unwrap();
    assert_eq!(status, 200, "{text}");
    // The signal came meanwhile: its load follows, and finds what is served.
    slow.wait_for("the signal's load", |service| {
        !slow.reload.load(Ordering::Relaxed) && service.loader.reading().is_none()
    });
    let versions = slow.service.switch.version();

    let told = slow.order("/reload", "/nowhere/never");
    slow.wait_for("the load", |service| service.loader.reading().is_some());
    assert_eq!(slow.ask("POST", "/rollback", "").0, 409, "nothing stands before this bundle");
    assert!(slow.service.loader.reading().is_none(), "a rollback gives up what is being read");
    assert_eq!(slow.service.switch.version(), versions);
    let (status, _) = slow.ask("POST", "/shadow", &format!("1\n{path}"));
    assert_eq!(status, 200, "after that the next one is read");
    drop(slow.control);
    assert!(told.try_recv().is_err(), "the one that never comes kept nobody");
}

/// A file that never comes, in a bundle of a whole process: it answers, and ends as if nothing
/// were.
#[test]
fn a_file_that_never_comes_keeps_nobody() {
    let dir = scratch("fifo");
    let hung = dir.join("hung");
    std::fs::create_dir_all(&hung).unwrap();
    let fifo = hung.join("SHA256SUMS");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut running = Running::start(&dir, &bundle(), 2);
    let (socket, body) = (running.socket.clone(), hung.display().to_string());
    let order = std::thread::spawn(move || ask(&socket, "POST", "/reload", &body));
    for _ in 0..20 {
        assert_eq!(running.ask_openly("GET", "/healthz").0, 200);
        assert_eq!(running.ask("GET", "/metrics", "").0, 200);
    }
    running.feed(&pcap(&traffic(1)));
    let (verdicts, _) = running.end();
    assert!(!verdicts.is_empty());
    let answer = order.join().unwrap();
    assert!(answer.map_or(true, |(status, _)| status == 422), "it is never served");
}
