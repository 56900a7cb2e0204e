//! Embeds the engine: a bundle and captures in, flows by label out.
//!
//! ```text
//! cargo run --release --example embed [BUNDLE CAPTURE...]
//! ```
//!
//! Without arguments it takes the sample of this repository.

use serveflow::{
    Batch, Bundle, Driver, End, Engine, EngineConfig, FileSource, InlineLane, Lane, LoadOptions,
    Source, StageLanes,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Reads what the command line names.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let named: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol");
    let (bundle, captures) = match &named[..] {
        [bundle, captures @ ..] if !captures.is_empty() => (bundle.clone(), captures.to_vec()),
        _ => (sample.join("bundle"), vec![sample.join("test/dns.pcap.zst")]),
    };
    for (label, flows) in flows_by_label(&bundle, captures)? {
        println!("{flows:>8}  {label}");
    }
    Ok(())
}

/// Flows of captures, by the label that the bundle's models give them.
fn flows_by_label(
    bundle: &Path,
    captures: Vec<PathBuf>,
) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    // All stages are scored on this thread, whatever the bundle's plan says.
    let options = LoadOptions::default().with_lanes(StageLanes::all_in(0));
    let bundle = Bundle::open(bundle, &options)?;
    let config = EngineConfig { flows: bundle.flow_config(), ..EngineConfig::default() };
    let mut engine = Engine::new(bundle.cascade.clone(), config);
    let mut lanes: Vec<Box<dyn Lane>> = vec![Box::new(InlineLane::new(bundle.models.clone()))];
    let mut driver = Driver::new(&mut engine, &mut lanes);
    let (mut source, mut batch) = (FileSource::new(captures), Batch::new());
    let mut flows = BTreeMap::new();
    let mut count = |driver: &mut Driver<'_>| {
        for verdict in driver.drain() {
            let label = verdict
                .answer
                .map(|answer| bundle.cascade.labels()[answer.label as usize].as_str());
            *flows.entry(label.unwrap_or("no model was asked").to_owned()).or_insert(0) += 1;
        }
    };
    while source.fill(&mut batch, 1024)? > 0 {
        driver.serve(batch.iter());
        count(&mut driver);
    }
    driver.finish(End::Silence);
    count(&mut driver);
    // Every flow has exactly one verdict, and every packet stands in one place.
    assert_eq!(flows.values().sum::<u64>(), engine.accounts().flows.seen);
    assert!(engine.accounts().balance());
    Ok(flows)
}
