//! Lanes are made for the stages that use them, before a bundle is served, and a bundle whose lanes
//! cannot be made is refused.

use super::kit::{bundle, bundle_dir, config, run, sources};
use serveflow_model::LoadOptions;
use serveflow_serve::clock;
use serveflow_serve::config::Typed;
use serveflow_serve::lanes::{LaneMaker, LaneParts, Spawn, Task, build};
use serveflow_serve::service::{BundleSwap, LoadedBundle, Service};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn none(_: &str, _: Task) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(11))
}

#[test]
fn no_thread_is_started_for_a_lane_that_no_stage_uses() {
    let mut bundle = bundle();
    let parts = LaneParts { spawn: none, ..LaneParts::new(&bundle.models, 4) };
    assert!(build(&parts, bundle.cascade.stages()).is_ok(), "all stages are inline");
    for (lane, name) in [(1, "thread"), (2, "batch")] {
        bundle.place(&[0, 0, lane]);
        let error = build(&parts, bundle.cascade.stages()).err().unwrap().to_string();
        let expected = format!("lane `{name}`: cannot start a thread: ");
        assert!(error.starts_with(&expected) && error.contains("os error 11"), "{error}");
    }
}

/// A service whose system gives a limited number of threads to lanes.
fn service(text: &str, spawn: Spawn) -> Arc<Service> {
    let config = config(text, 2);
    let typed: Typed = toml::from_str(text).unwrap();
    let stop = Arc::default();
    let maker = LaneMaker::new(&config, 2, false, clock::now_ns, &stop).spawning_by(spawn);
    let loaded = LoadedBundle::new(bundle(), &bundle_dir(), &config).unwrap();
    Arc::new(Service::new(
        BundleSwap::new(loaded, config, typed, maker, LoadOptions::default()),
        2,
        None,
        stop,
    ))
}

/// Threads that are left for the test below.
static LEFT: AtomicUsize = AtomicUsize::new(0);

fn few(_: &str, task: Task) -> io::Result<()> {
    let left = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    left.map_err(|_| io::Error::from_raw_os_error(11))?;
    std::thread::spawn(task);
    Ok(())
}

/// Whatever number of threads is to be had: a change that needs more of them is refused with a
/// sentence, and everything is as before; one that finds as many is made.
#[test]
fn a_change_of_the_bundle_that_lanes_have_no_threads_for_is_refused_and_changes_nothing() {
    let text = "[lanes]\ndefault = \"batch\"\n[lanes.batch]\nthreads = 2\n";
    let service = service(text, few);
    let elsewhere = std::env::temp_dir().join(format!("serveflow-lanes-{}", std::process::id()));
    // The same bundle in another place is another one to serve.
    copy(&bundle_dir(), &elsewhere);
    // Two workers with two threads each.
    for left in 0..4 {
        LEFT.store(left, Ordering::Relaxed);
        let (before, version) = service.switch.serving();
        let error = service.reload(Some(&elsewhere)).unwrap_err().to_string();
        assert!(error.contains("its lanes cannot be made: lane `batch`"), "{error}");
        LEFT.store(left, Ordering::Relaxed);
        assert!(service.begin_shadow(&elsewhere, 0.5).is_err());
        let (after, later) = service.switch.serving();
        assert!(Arc::ptr_eq(&before, &after) && version == later);
        assert!(service.shadow().0.is_none());
    }
    LEFT.store(4, Ordering::Relaxed);
    let loaded = service.reload(Some(&elsewhere)).unwrap();
    assert_eq!(service.switch.serving().1, 1);
    assert!(loaded.take_lanes(0).is_some() && loaded.take_lanes(1).is_some());
    assert!(loaded.take_lanes(0).is_none(), "each worker takes its own, once");
    std::fs::remove_dir_all(&elsewhere).unwrap();
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A start that cannot have what its limits say is an error with a sentence, and no worker has
/// begun.
#[test]
fn limits_that_the_memory_cannot_hold_end_the_start_with_a_sentence() {
    let bundle = bundle();
    let mut config = config("", 2);
    config.engine.flows.capacity = 1 << 46;
    let (served, kept) = run(&bundle, &config, sources(&config), &Arc::default(), None);
    let error = served.outcome.unwrap_err().to_string();
    for word in ["MiB of address space for the flow table", "flows.capacity"] {
        assert!(error.contains(word), "{error}");
    }
    assert!(kept.told().is_empty() && served.failures.is_empty());
}
