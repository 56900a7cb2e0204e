//! What a contender says of each template when nothing presses.

use super::contender::Contender;
use super::queue::Stamps;
use serveflow_core::engine::Engine;
use serveflow_io::Memory;
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_train::traffic::fresh::number_of;
use serveflow_train::traffic::generator::{Arrivals, Generator, Recipe, shuffled};
use serveflow_train::traffic::template::TemplateSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The answer to each template: every one is cloned once and served without any hurry.
///
/// # Errors
/// When a thread cannot be started.
///
/// # Panics
/// When there is no template.
pub fn answers(
    contender: &Contender,
    templates: &TemplateSet,
    seed: u64,
) -> io::Result<Vec<Option<u16>>> {
    let count = templates.flows().len();
    let recipe = Recipe {
        flows_per_s: 1000.0,
        arrivals: Arrivals::Constant,
        flows: count as u64,
        seed,
        worker: 0,
        stop: Arc::default(),
    };
    let mut sink = Memory::default();
    let outcome = Worker {
        engine: &mut Engine::new(Arc::clone(&contender.cascade), contender.engine),
        lanes: &mut contender.lanes(|| 0, &Stamps::default())?,
        sink: &mut sink,
        wall: &mut || 0,
        batch_frames: 256,
        when_full: WhenFull::Wait,
        flush_ns: u64::MAX,
    }
    .run(&mut Generator::new(templates.clone(), recipe), &mut |_, _| ControlFlow::Continue(()));
    outcome.expect("a sink in memory never fails");
    let order = shuffled(count, seed);
    let mut answers = vec![None; count];
    for verdict in sink.verdicts.iter().filter(|verdict| verdict.is_final) {
        if let Some(number) = number_of(&verdict.flow) {
            answers[order[number as usize] as usize] = verdict.answer.map(|answer| answer.label);
        }
    }
    Ok(answers)
}
