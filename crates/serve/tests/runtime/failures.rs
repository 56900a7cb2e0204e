//! A worker that panics: the others serve on, all that was counted is told, and it is seen from
//! outside.

use super::kit::{bundle, bundle_dir, captures, config, run, shared, sources};
use serveflow_io::{Batch, FileSource, Source, SourceError};
use serveflow_model::LoadOptions;
use serveflow_serve::clock;
use serveflow_serve::config::Typed;
use serveflow_serve::lanes::LaneMaker;
use serveflow_serve::service::{BundleSwap, LoadedBundle, NotReady, Service, page};
use std::sync::Arc;

/// A source that panics at a fill.
struct Panics {
    inner: Box<dyn Source>,
    fills: u32,
}

impl Source for Panics {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        self.fills = self.fills.checked_sub(1).expect("a source, on purpose");
        self.inner.fill(batch, max_frames)
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}

#[test]
fn a_worker_that_panics_ends_alone_and_is_counted_up_to_its_last_whole_batch() {
    let (bundle, config) = (bundle(), config("", 3));
    let (whole, all) = run(&bundle, &config, sources(&config), &Arc::default(), None);
    assert!(whole.failures.is_empty());
    for fills in [0, 1, 2] {
        let mut shares = shared(Box::new(FileSource::new(captures())), &config);
        let inner = shares.remove(1);
        shares.insert(1, Box::new(Panics { inner, fills }));
        let (served, kept) = run(&bundle, &config, shares, &Arc::default(), None);
        let failure = &served.failures[..];
        assert!(matches!(failure, [failure] if failure.worker == 1), "{failure:?}");
        assert!(failure[0].why.contains("on purpose"));
        assert!(served.outcome.is_ok(), "the others serve on");
        let accounts = served.accounts;
        assert!(accounts.balance(), "{accounts:?}");
        let open = accounts.flows.collecting + accounts.flows.in_inference;
        assert_eq!(open, failure[0].open_flows, "none is open but the failed worker's");
        // Every verdict that was counted was written, and is one of a run that is whole.
        let (told, expected) = (kept.told(), all.told());
        assert_eq!(told.len() as u64, accounts.verdicts());
        assert!(told.iter().all(|verdict| expected.binary_search(verdict).is_ok()));
        assert!(told.len() < expected.len() && told.len() > expected.len() / 3);
    }
}

#[test]
fn a_failed_worker_is_not_ready_and_stands_in_metrics_and_status() {
    let (bundle, config) = (bundle(), config("", 2));
    let stop = Arc::default();
    let maker = LaneMaker::new(&config, 2, false, clock::now_ns, &stop);
    let loaded = LoadedBundle::new(super::kit::bundle(), &bundle_dir(), &config).unwrap();
    let switch =
        BundleSwap::new(loaded, config.clone(), Typed::default(), maker, LoadOptions::default());
    let service = Arc::new(Service::new(switch, 2, None, Arc::clone(&stop)));
    let mut shares = shared(Box::new(FileSource::new(captures())), &config);
    let inner = shares.remove(0);
    shares.insert(0, Box::new(Panics { inner, fills: 1 }));
    let (served, _) = run(&bundle, &config, shares, &stop, Some(&service));
    assert_eq!(served.failures.len(), 1);
    let reasons = service.readiness();
    let failed = NotReady::WorkerFailed { worker: 0, why: "a source, on purpose".to_owned() };
    assert!(reasons.contains(&failed), "{reasons:?}");
    assert!(reasons.contains(&NotReady::WorkerEnded { worker: 1 }), "{reasons:?}");
    let page = page(&service).unwrap();
    assert!(page.contains("serveflow_workers_failed 1"), "{page}");
    assert!(page.contains("serveflow_workers_done 2"), "{page}");
    let sum = service.board.totals().sum;
    assert!(sum.accounts.balance(), "what it posted last stands");
}
