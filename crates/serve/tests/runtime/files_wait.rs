//! Files wait: no deadline, breaker or full queue of a lane costs a flow of a capture its answer.

use super::kit::{Mood, bundle, captures, config, moody, run, sources};
use proptest::prelude::*;
use serveflow_core::verdict::Reason;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Limits that live traffic could not keep beside these models, and grace for an end.
const TIGHT: &str = "[lanes.batch]\ndeadline_ms = 1\nbreaker_failures = 1\nbreaker_ms = 60000\n\
    max_rows = 4\n[service]\nshutdown_timeout_ms = 400\n";

/// What an instant model says, on one worker.
fn expected() -> &'static [String] {
    static EXPECTED: OnceLock<Vec<String>> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let (bundle, config) = (bundle(), config("", 1));
        let (served, kept) = run(&bundle, &config, sources(&config), &Arc::default(), None);
        assert!(served.outcome.is_ok_and(|outcome| outcome.damaged.is_empty()));
        let told = kept.told();
        assert!(told.len() > 200 && captures().len() == 3);
        told
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever models sleep, wherever stages are scored, however short the queues are and however
    /// many workers there are: the verdicts of files are those of models that answer at once.
    #[test]
    fn a_model_that_sleeps_changes_no_verdict_of_a_file(
        seed in any::<u64>(),
        lanes in prop::collection::vec(0..3_usize, 3),
        workers in 1..4_usize,
        jobs in 1..4_usize,
        batch_rows in 1..40_usize,
        threads in 1..3_usize,
    ) {
        let mut bundle = moody(Mood::Sleeps, 0, seed >> 8);
        bundle.place(&lanes);
        let text = format!("[limits]\nqueue_depth = {jobs}\nbatch_rows = {batch_rows}\n{TIGHT}");
        let text = text.replace("max_rows = 4", &format!("max_rows = 4\nthreads = {threads}"));
        let config = config(&text, workers);
        let (served, kept) = run(&bundle, &config, sources(&config), &Arc::default(), None);
        prop_assert!(served.outcome.is_ok() && served.failures.is_empty());
        let accounts = served.accounts;
        prop_assert_eq!((accounts.inference_shed, accounts.inference_failures), (0, 0));
        prop_assert!(accounts.balance());
        prop_assert_eq!(kept.told(), expected());
    }
}

/// A model that fails or panics fails, on files too, in every lane; nothing else is lost with it.
#[test]
fn a_model_that_fails_or_panics_fails_its_flows_and_no_others() {
    for (mood, lane) in
        [Mood::Fails, Mood::Panics].into_iter().flat_map(|m| [0, 1, 2].map(|l| (m, l)))
    {
        let mut bundle = moody(mood, 1, 1);
        bundle.place(&[0, lane, lane]);
        let config = config(TIGHT, 2);
        let (served, kept) = run(&bundle, &config, sources(&config), &Arc::default(), None);
        let accounts = served.accounts;
        assert!(served.failures.is_empty(), "a model's panic is no worker's");
        assert!(accounts.inference_failures > 0 && accounts.inference_shed == 0, "{mood:?} {lane}");
        assert!(accounts.balance() && kept.told().len() == expected().len());
        let verdicts = accounts.flows.verdicts;
        assert!(verdicts[Reason::Failed as usize] > 0 && verdicts[Reason::Accepted as usize] > 0);
    }
}

/// A model that hangs for ever holds a run of files up, until it is stopped: then its flows keep
/// what they have, each flow has its verdict, and the run ends.
#[test]
fn a_model_that_hangs_is_waited_for_until_the_run_is_stopped() {
    for (lane, workers) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
        let mut bundle = moody(Mood::HangsAfter(1), 1, 1);
        bundle.place(&[0, lane, lane]);
        let config = config(&format!("[limits]\nqueue_depth = 1\n{TIGHT}"), workers);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            stopping.store(true, Ordering::Relaxed);
        });
        let (served, kept) = run(&bundle, &config, sources(&config), &stop, None);
        assert!(stop.load(Ordering::Relaxed), "it waited");
        stopper.join().unwrap();
        // It may have hung at the end of the input, so whether that was reached says nothing.
        assert!(served.outcome.is_ok() && served.failures.is_empty());
        let accounts = served.accounts;
        assert!(accounts.balance(), "{accounts:?}");
        assert_eq!((accounts.flows.collecting, accounts.flows.in_inference), (0, 0));
        assert_eq!(kept.told().len() as u64, accounts.flows.seen);
        assert!(accounts.flows.verdicts[Reason::Failed as usize] > 0, "{lane} {workers}");
    }
}
