//! What a start refuses, a check refuses with the same sentence.

use super::kit::{LIMIT, bundle, scratch, serveflow};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a command says on standard error, and its exit code. One that does not end is no refusal.
fn ended(command: &mut Command) -> (Option<i32>, String) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ran = child.wait_with_output().unwrap();
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

/// What a start says on the way out, without the time that the log of a service puts before it.
fn sentence(said: &str) -> &str {
    said.split_once("error: ").map_or(said, |(_, sentence)| sentence)
}

fn start(what: &str, config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serveflow"));
    command.args([what, "--config", config.to_str().unwrap()]);
    command
}

/// Sections `[live]`, `[service]` and others of a configuration that is refused, and a word of the
/// refusal.
fn wrong(dir: &Path, taken: &str) -> Vec<([String; 3], String)> {
    let missing = dir.join("missing/control").display().to_string();
    let long = dir.join("x".repeat(120)).display().to_string();
    let here = dir.display().to_string();
    let control = dir.join("control").display().to_string();
    let live =
        |text: &str, word: &str| ([text.to_owned(), String::new(), String::new()], word.to_owned());
    let service = |text: String, word: &str| {
        (["interfaces = [\"lo\"]".to_owned(), text, String::new()], word.to_owned())
    };
    let other = |text: &str, word: &str| {
        (["interfaces = [\"lo\"]".to_owned(), String::new(), text.to_owned()], word.to_owned())
    };
    let mut all = vec![
        live("interfaces = [\"no-such-one\"]", "live.interfaces"),
        live("interfaces = [\"\"]", "live.interfaces"),
        live("interfaces = [\"abcdefghijklmnopqrstuvwxyz\"]", "live.interfaces"),
        live("interfaces = [\"a/b\"]", "live.interfaces"),
        live("interfaces = [\"a\\u0000\"]", "live.interfaces"),
        live("interfaces = [\"lo\", \"lo\"]", "live.interfaces"),
        live("interfaces = [\"lo\", \"no-such-one\"]", "live.interfaces"),
        live("interfaces = [\"lo\"]\nfilter = \"tcp port\"", "live.filter"),
        live("interfaces = [\"lo\"]\nring_mb = 0", "live.ring_mb"),
        live("interfaces = [\"lo\"]\nblock_kb = 100", "live.block_kb"),
        live("interfaces = [\"lo\"]\nsnap_bytes = 0", "live.snap_bytes"),
        live("interfaces = [\"lo\"]\nrx_mode = \"bock\"", "live.rx_mode"),
        live("interfaces = [\"lo\"]\ntimestamps = \"gps\"", "live.timestamps"),
        live("interfaces = 7", "live.interfaces"),
        live("no_such = 7", "live.no_such"),
        service("user = \"no such user\"".to_owned(), "service.user"),
        service("user = \"4294967295\"".to_owned(), "service.user"),
        service("metrics = \"9464\"".to_owned(), "service.metrics"),
        service("metrics = \"203.0.113.7:9464\"".to_owned(), "service.metrics"),
        service(format!("metrics = {taken:?}"), "service.metrics"),
        service(format!("control = {missing:?}"), "service.control"),
        service(format!("control = {long:?}"), "service.control"),
        service(format!("control = {here:?}"), "service.control"),
        service("control_mode = \"999\"".to_owned(), "service.control_mode"),
        service("control_group = \"wheel\"".to_owned(), "service.control_group"),
        service("shutdown_timeout_ms = 0".to_owned(), "service.shutdown_timeout_ms"),
        service("log = \"xml\"".to_owned(), "service.log"),
        service("bundle = \"/nonexistent\"".to_owned(), "SHA256SUMS"),
    ];
    let group = format!("control = {control:?}\ncontrol_group = \"no such group\"");
    all.push(service(group, "service.control_group"));
    all.extend([
        other("[flows]\ncapacity = 0", "flows.capacity"),
        other("[flows]\ntunnels = \"both\"", "flows.tunnels"),
        other("[limits]\nworkers = 2000", "limits.workers"),
        other("[lanes]\ndefault = \"gpu\"", "lanes.default"),
        other("[lanes.stages]\n\"no@1\" = \"thread\"", "no@1"),
        other("[input]\nshare = 2", "input.share"),
        other("[degradation]\nhigh_watermark = 2.0", "degradation.high_watermark"),
        other("[output]\nformat = \"xml\"", "output.format"),
        other("[models]\nonnxruntime = \"no/such.so\"", "models.onnxruntime"),
        other("[output", "s.toml:"),
    ]);
    all
}

/// Writes a configuration whose bundle is the sample's, unless it names another one.
fn put(path: &Path, [live, service, other]: &[String; 3]) {
    let bundle = bundle();
    let named =
        if service.contains("bundle") { String::new() } else { format!("bundle = {bundle:?}\n") };
    let text = format!("[live]\nring_mb = 1\n{live}\n[service]\n{named}{service}\n{other}\n");
    let text = if live.contains("ring_mb") { text.replacen("ring_mb = 1\n", "", 1) } else { text };
    std::fs::write(path, text).unwrap();
}

#[test]
fn what_a_start_refuses_a_check_refuses_with_the_same_sentence() {
    let dir = scratch("refusals");
    let config = dir.join("s.toml");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    // Where this user may not capture, that is what both refuse first, and the law holds all the
    // same.
    put(&config, &["interfaces = [\"lo\"]".to_owned(), String::new(), String::new()]);
    let may_capture = ended(&mut start("check", &config)).0 == Some(0);
    let wrong = wrong(&dir, &taken);
    assert!(wrong.len() > 30);
    for (sections, word) in wrong {
        put(&config, &sections);
        let (code, checked) = ended(&mut start("check", &config));
        assert_eq!(code, Some(1), "{sections:?}: {checked}");
        let (code, ran) = ended(&mut start("run", &config));
        assert_eq!(code, Some(1), "{sections:?}: {ran}");
        assert_eq!(sentence(&checked), sentence(&ran), "{sections:?}");
        assert_eq!(checked.lines().count(), 1, "{checked}");
        let says = checked.contains(&word) || checked.contains("CAP_NET_RAW") && !may_capture;
        assert!(says, "{word}: {checked}");
        assert!(!dir.join("control").exists(), "{sections:?}");
    }
}

/// A limit of the system that is too low is refused by both, and says which one it is and how much
/// it takes.
#[test]
fn a_limit_of_the_system_that_is_too_low_is_refused_by_both() {
    let dir = scratch("limits");
    let config = dir.join("s.toml");
    put(&config, &["interfaces = [\"lo\"]".to_owned(), String::new(), String::new()]);
    for (limit, word) in [("ulimit -v 400000", "ulimit -v"), ("ulimit -n 14", "ulimit -n")] {
        let mut said = Vec::new();
        for what in ["check", "run"] {
            let line = format!("{limit}; exec \"$0\" {what} --config \"$1\"");
            let mut command = Command::new("sh");
            command.args(["-c", &line, env!("CARGO_BIN_EXE_serveflow"), config.to_str().unwrap()]);
            let (code, text) = ended(&mut command);
            assert_eq!(code, Some(1), "{what}: {text}");
            assert!(text.contains(word) && text.contains("expected at least"), "{text}");
            // How much is in use already differs by a little.
            said.push(sentence(&text).replace(|digit: char| digit.is_ascii_digit(), ""));
        }
        assert_eq!(said[0], said[1]);
    }
}

/// The limit of threads binds the user that the process becomes, also where it is started as root.
#[test]
fn a_limit_of_threads_that_is_too_low_for_the_user_is_refused_by_both() {
    let dir = scratch("threads");
    let config = dir.join("s.toml");
    // Where this user may not become another one, that is what both refuse first.
    put(
        &config,
        &["interfaces = [\"lo\"]".to_owned(), "user = \"61237\"".to_owned(), String::new()],
    );
    let may = ended(&mut start("check", &config)).0 == Some(0);
    for most in [1, 3, 7] {
        for what in ["check", "run"] {
            let line = format!("ulimit -u {most}; exec \"$0\" {what} --config \"$1\"");
            let mut command = Command::new("bash");
            command.args(["-c", &line, env!("CARGO_BIN_EXE_serveflow"), config.to_str().unwrap()]);
            let (code, text) = ended(&mut command);
            assert_eq!(code, Some(1), "{what}: {text}");
            let says = text.contains("ulimit -u") && text.contains("expected at least");
            assert!(says || !may, "{what}: {text}");
        }
    }
}

/// A check beside a service that runs does not touch what is in use, and says what the service
/// costs.
#[test]
fn a_check_beside_the_service_leaves_its_sockets_alone() {
    let dir = scratch("beside");
    let mut running = super::kit::Running::start(&dir, &bundle(), 1);
    let config = dir.join("serveflow.toml");
    let config = config.to_str().unwrap();
    let taken = serveflow(&["check", "--config", config]);
    let said = String::from_utf8(taken.stderr).unwrap();
    assert!(taken.status.code() == Some(1) && said.contains("service.metrics"), "{said}");
    let beside = serveflow(&["check", "--config", config, "--running"]);
    let said = String::from_utf8([beside.stdout, beside.stderr].concat()).unwrap();
    assert!(beside.status.success(), "{said}");
    for word in ["memory:", "a shadow adds", "each further bundle", "shutdown:", "TimeoutStopSec="]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(running.ask("GET", "/healthz", "").0, 200, "the socket is still there");
    running.feed(&super::kit::pcap(&super::kit::traffic(1)));
    running.end();
}
