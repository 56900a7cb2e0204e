//! Building the pool: record, train each candidate, measure it, keep its answers.

use super::external::{Answering, ExternalModel};
use super::meter::{CandidateCost, CostMeter, MeterLoad};
use super::pool::{Answers, Candidate, CandidatePool, CandidateSpec, Flows, POOL_FORMAT, even};
use crate::dataset::DataSummary;
use crate::dataset::{Dataset, record};
use crate::pipeline::{
    Kind, PipelineError, Step, Tier, TierData, TierParams, TrainPlan, check_window, filled,
    parameters, train_tier,
};
use crate::scoring::{score_all, score_cost};
use serveflow_core::features::{FeatureSpec, Mask};
use serveflow_core::gate::Uncertainty;
use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::parse::Header;
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::{FlowPlan, Provenance, sha256};
use serveflow_model::forest::{BoundForest, Forest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Steps of the distribution of computing times.
const SPREAD: usize = 20;
const MILLISECOND: u64 = 1_000_000;

/// Part of the key of models that are kept: raise it with any change after which the same flows and
/// parameters give other models, or a kept model of an older program passes for one of this.
const TRAINER_FORMAT: u32 = 1;

/// Trained models are kept here from run to run, so that a run that was cut short is taken up
/// again.
pub trait ModelCache {
    /// The model of that key, if it was kept.
    fn get(&mut self, key: &str) -> Option<Vec<u8>>;
    /// Keeps a model.
    fn put(&mut self, key: &str, model: &[u8]);
}

/// Keeps nothing.
#[derive(Debug, Default)]
pub struct NoCache;

impl ModelCache for NoCache {
    fn get(&mut self, _: &str) -> Option<Vec<u8>> {
        None
    }
    fn put(&mut self, _: &str, _: &[u8]) {}
}

/// What to put into a pool.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    /// The candidates, the most wanted first.
    pub recipes: Vec<CandidateSpec>,
    /// Sets of encoders that recipes name by index; the first is the plan's own.
    pub features: Vec<Vec<String>>,
    /// Parts of the training captures, each of which is also answered by models that were trained
    /// on the others: these answers make calibration flows of training flows. Below 2 there are
    /// none.
    pub cross_fit: usize,
    /// Wall time after which no further candidate is trained, nanoseconds; the first two always
    /// are.
    pub budget_ns: Option<u64>,
    /// The candidates are the stages that were asked for: each is trained, whatever the budget.
    pub all_wanted: bool,
    /// What candidates are measured under.
    pub load: MeterLoad,
    /// Models of other libraries that are candidates too.
    pub given: Vec<ExternalModel>,
}

/// A pool, its models, and the flows that it was made from.
#[derive(Debug)]
pub struct Built {
    /// The candidates and their answers.
    pub pool: CandidatePool,
    /// Their models, by file name.
    pub models: BTreeMap<String, Vec<u8>>,
    /// What was recorded for the first wait and features, by growing depth.
    pub dataset: Dataset,
}

/// Records once for each wait and set of features, and trains all candidates.
///
/// # Errors
/// When a split has no flow, or a parameter is out of range.
pub fn build(
    book: &LabelBook,
    plan: &TrainPlan,
    wanted: &PoolPlan,
    shelf: &mut dyn ModelCache,
    wall: fn() -> u64,
    progress: &mut dyn FnMut(Step),
) -> Result<Built, PipelineError> {
    let tiers: Vec<_> = wanted.recipes.iter().map(CandidateSpec::tier).collect();
    check_window(plan, &tiers)?;
    let started = wall();
    let mut meter = None;
    let mut candidates = Vec::new();
    let mut models = BTreeMap::new();
    let mut parts: Option<Vec<Vec<usize>>> = None;
    let mut left_out = Vec::new();
    let mut first = None;
    for recording in recordings(&wanted.recipes) {
        let own: Vec<CandidateSpec> = wanted
            .recipes
            .iter()
            .copied()
            .filter(|recipe| Recording::of(recipe) == recording)
            .collect();
        let mut group = Group::record(book, plan, wanted, &own, progress)?;
        group.parts = parts
            .get_or_insert_with(|| by_capture(&group.dataset, &group.train, wanted.cross_fit))
            .clone();
        let meter =
            meter.get_or_insert_with(|| CostMeter::new(book, plan.flows, wanted.load, wall));
        let mut trained: BTreeMap<CandidateSpec, Grown> = BTreeMap::new();
        for recipe in own {
            let is_late =
                !wanted.all_wanted && wanted.budget_ns.is_some_and(|most| wall() - started > most);
            let whole = CandidateSpec { size: None, ..recipe };
            if is_late && candidates.len() >= 2 && !trained.contains_key(&whole) {
                left_out.push(recipe.name(plan.wait_ms, &wanted.features));
                continue;
            }
            let helpers = Helpers { cache: &mut *shelf, progress: &mut *progress };
            let grown = group.grown(plan, recipe, &mut trained, wall, helpers)?;
            let is_whole = trained.get(&whole).is_some_and(|whole| {
                recipe.size.is_some() && whole.forest.trees().len() == grown.forest.trees().len()
            });
            if is_whole {
                continue; // It stopped before so many rounds, and is a candidate already.
            }
            let name = recipe.name(plan.wait_ms, &wanted.features);
            let candidate = group.candidate(recipe, grown.answering(name), meter, wall)?;
            models.insert(candidate.file.clone(), grown.forest.to_json());
            candidates.push(candidate);
        }
        first.get_or_insert(group);
    }
    for (at, given) in wanted.given.iter().enumerate() {
        let recipe = given.recipe(at);
        let group = Group::record(book, plan, wanted, &[recipe], progress)?;
        group.knows(given)?;
        let meter =
            meter.get_or_insert_with(|| CostMeter::new(book, plan.flows, wanted.load, wall));
        candidates.push(group.candidate(recipe, given.answering(), meter, wall)?);
        models.extend(given.files.clone());
        first.get_or_insert(group);
    }
    let (group, mut meter) = first.zip(meter).ok_or(PipelineError::NoTier)?;
    candidates.sort_by_key(|c: &Candidate| (c.recipe.packets, c.recipe.wait_ms, c.recipe));
    let mut pool = group.pool(book, plan, wanted, candidates, left_out, &meter);
    let company = group.company(&pool, &models, recordings(&wanted.recipes)[0], &mut meter);
    pool.spread = company.filter(|spread| !spread.is_empty()).unwrap_or(pool.spread);
    Ok(Built { pool, models, dataset: group.dataset })
}

/// What captures are recorded once for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Recording {
    wait_ms: u64,
    /// Which of the plan's sets of features, by index.
    features: usize,
}

impl Recording {
    fn of(recipe: &CandidateSpec) -> Self {
        Self { wait_ms: recipe.wait_ms, features: recipe.features }
    }
}

/// Each recording once, in the order in which they are wanted.
fn recordings(recipes: &[CandidateSpec]) -> Vec<Recording> {
    let mut seen = BTreeSet::new();
    recipes.iter().map(Recording::of).filter(|recording| seen.insert(*recording)).collect()
}

/// The candidates of one recording.
struct Group {
    dataset: Dataset,
    depths: Vec<u16>,
    train: Vec<usize>,
    val: Vec<usize>,
    test: Vec<usize>,
    params: TierParams,
    wait_ns: u64,
    /// Training flows, parted by capture.
    parts: Vec<Vec<usize>>,
    data: BTreeMap<u16, TierData>,
}

/// A trained model, and those that did not see one part of the training captures each.
#[derive(Clone, Debug)]
struct Grown {
    forest: Forest,
    blind: Vec<Forest>,
    train_ns: u64,
}

impl Grown {
    fn answering(&self, name: String) -> Answering {
        let model = |forest: &Forest| -> Arc<dyn Model> { Arc::new(BoundForest::new(forest)) };
        Answering {
            file: format!("models/{}.json", name.replace(['@', '~', '+'], "_")),
            name,
            given: None,
            model: model(&self.forest),
            blind: self.blind.iter().map(model).collect(),
            train_ns: self.train_ns,
        }
    }
}

/// Parts flows by capture into parts of about one size: the largest capture goes to the smallest
/// part.
fn by_capture(dataset: &Dataset, flows: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut captures: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &flow in flows {
        captures.entry(dataset.flows[flow].capture.number()).or_default().push(flow);
    }
    if count < 2 || captures.len() < count {
        return Vec::new();
    }
    let mut captures: Vec<(u32, Vec<usize>)> = captures.into_iter().collect();
    captures.sort_by_key(|(capture, own)| (std::cmp::Reverse(own.len()), *capture));
    let mut parts = vec![Vec::new(); count];
    for (_, own) in captures {
        let smallest = parts.iter_mut().min_by_key(|part| part.len());
        smallest.expect("there are parts").extend(own);
    }
    parts
}

/// What training needs beside data.
struct Helpers<'a> {
    /// Where models are kept.
    cache: &'a mut dyn ModelCache,
    /// Follows the training.
    progress: &'a mut dyn FnMut(Step),
}

impl Helpers<'_> {
    /// The same once more.
    fn again(&mut self) -> Helpers<'_> {
        Helpers { cache: self.cache, progress: self.progress }
    }
}

impl Group {
    fn record(
        book: &LabelBook,
        plan: &TrainPlan,
        wanted: &PoolPlan,
        own: &[CandidateSpec],
        progress: &mut dyn FnMut(Step),
    ) -> Result<Self, PipelineError> {
        let depths: BTreeSet<u16> = own.iter().map(|recipe| recipe.packets).collect();
        let depths: Vec<u16> = depths.into_iter().collect();
        let features = wanted.features[own[0].features].clone();
        let plan = TrainPlan { features, wait_ms: own[0].wait_ms, ..plan.clone() };
        let files = book.files.len();
        let dataset = record(book, &plan.recording(&depths), &mut |done| {
            progress(Step::Recording(done, files));
        });
        let dataset = dataset.map_err(PipelineError::Record)?;
        let (train, val) = (filled(&dataset, Split::Train)?, filled(&dataset, Split::Val)?);
        let test = dataset.split(Split::Test);
        let params = plan.seeded_params();
        let mut data = BTreeMap::new();
        let is_trained = |packets: u16| {
            own.iter().any(|recipe| recipe.packets == packets && recipe.kind != Kind::Given)
        };
        for (stage, &packets) in depths.iter().enumerate().filter(|(_, p)| is_trained(**p)) {
            let made = TierData::new(&dataset, stage, &train, &val, params.class_weights);
            let tier = own[0].tier();
            let made = made.map_err(|source| PipelineError::Train { tier, source })?;
            data.insert(packets, made);
        }
        let wait_ns = plan.wait_ms.saturating_mul(MILLISECOND);
        let parts = Vec::new();
        Ok(Self { dataset, depths, train, val, test, params, wait_ns, parts, data })
    }

    /// A recipe's models: kept from before, cut from larger ones, or trained.
    fn grown(
        &self,
        plan: &TrainPlan,
        recipe: CandidateSpec,
        trained: &mut BTreeMap<CandidateSpec, Grown>,
        wall: fn() -> u64,
        mut helpers: Helpers<'_>,
    ) -> Result<Grown, PipelineError> {
        let whole = CandidateSpec { size: None, ..recipe };
        let known = trained.get(&whole).map(|grown| Grown { train_ns: 0, ..grown.clone() });
        let grown = match known {
            Some(grown) => grown,
            None => {
                let started = wall();
                let forest = self.forest(plan, whole, None, helpers.again())?;
                let train_ns = wall() - started;
                let blind = (0..self.parts.len())
                    .map(|part| self.forest(plan, whole, Some(part), helpers.again()));
                let grown = Grown { blind: blind.collect::<Result<_, _>>()?, forest, train_ns };
                trained.insert(whole, grown.clone());
                grown
            }
        };
        let Some(size) = recipe.size else { return Ok(grown) };
        let blind = grown.blind.iter().map(|forest| cut(forest, size)).collect();
        Ok(Grown { forest: cut(&grown.forest, size), blind, ..grown })
    }

    /// A model of all training flows, or of those outside of a part.
    fn forest(
        &self,
        plan: &TrainPlan,
        recipe: CandidateSpec,
        part: Option<usize>,
        Helpers { cache, progress }: Helpers<'_>,
    ) -> Result<Forest, PipelineError> {
        let failed = |source| PipelineError::Train { tier: recipe.tier(), source };
        let own: Vec<usize> = match part {
            None => self.train.clone(),
            Some(part) => {
                let others = (0..self.parts.len()).filter(|&other| other != part);
                others.flat_map(|other| self.parts[other].iter().copied()).collect()
            }
        };
        let key = self.key(plan, recipe, &own);
        if let Some(kept) = cache.get(&key).and_then(|json| Forest::from_json(&json).ok()) {
            return Ok(kept);
        }
        let rest;
        let data = match part {
            None => &self.data[&recipe.packets],
            Some(_) => {
                let stage = self.stage(recipe);
                let weights = self.params.class_weights;
                rest = TierData::new(&self.dataset, stage, &own, &self.val, weights);
                rest.as_ref().map_err(|error| failed(error.clone()))?
            }
        };
        let forest = train_tier(recipe.kind, data, &self.params, &mut |done| {
            progress(Step::Training(recipe.tier(), done));
        });
        let forest = forest.map_err(failed)?;
        cache.put(&key, &forest.to_json());
        Ok(forest)
    }

    /// How many times as long answers take in a cascade as the median alone, at equal steps of
    /// their distribution: measured with the best candidate and the best one of those that see
    /// fewest packets. None where they make no cascade.
    fn company(
        &self,
        pool: &CandidatePool,
        models: &BTreeMap<String, Vec<u8>>,
        recording: Recording,
        meter: &mut CostMeter,
    ) -> Option<Vec<f64>> {
        let own = |c: &usize| {
            let recipe = &pool.candidates[*c].recipe;
            // What is given was recorded by itself.
            Recording::of(recipe) == recording && recipe.kind != Kind::Given
        };
        let known: Vec<usize> = (0..pool.candidates.len()).filter(own).collect();
        let by_f1 = |a: &&usize, b: &&usize| pool.val_f1(**a).total_cmp(&pool.val_f1(**b));
        let packets = |c: usize| pool.candidates[c].recipe.packets;
        let &last = known.iter().max_by(by_f1)?;
        let least = known.iter().map(|&c| packets(c)).min().unwrap_or(1);
        let first = known.iter().filter(|&&c| c != last && packets(c) == least).max_by(by_f1);
        let &first = first?;
        let model = |c: usize| -> Option<Arc<dyn Model>> {
            let forest = Forest::from_json(&models[&pool.candidates[c].file]).ok()?;
            Some(Arc::new(BoundForest::new(&forest)))
        };
        let (fast, slow) = model(first).zip(model(last))?;
        let measured = |c: usize, model| CandidateCost {
            spec: &self.dataset.specs[self.stage(pool.candidates[c].recipe)],
            wait_ns: self.wait_ns,
            wants_window: packets(c) == Tier::WINDOW,
            model,
        };
        let candidate = &pool.candidates[first];
        let flows = candidate.val.facts.len();
        let doubt = |flow| {
            Uncertainty::LeastConfidence.uncertainty(candidate.val.row(flow, pool.classes()))
        };
        let mut doubts: Vec<f32> = (0..flows).map(doubt).collect();
        doubts.sort_unstable_by(f32::total_cmp);
        let middle = doubts.get(flows / 2).copied().unwrap_or(0.0);
        let (first, last) = (measured(first, &fast), measured(last, &slow));
        let times = meter.company(&first, middle, &last, SPREAD);
        Some(times.into_iter().map(|ns| ns / candidate.compute_ns.max(1.0)).collect())
    }

    fn stage(&self, recipe: CandidateSpec) -> usize {
        self.depths.binary_search(&recipe.packets).expect("it was recorded")
    }

    /// All that decides a model, hashed: the trainer, flows, rows, recipe and parameters.
    fn key(&self, plan: &TrainPlan, recipe: CandidateSpec, own: &[usize]) -> String {
        let stage = self.stage(recipe);
        let params = parameters(plan);
        let mut told = format!("trainer {TRAINER_FORMAT} {:?} {params:?}", recipe.kind);
        told.push_str(&format!("{:?} seed {}", self.dataset.specs[stage], plan.seed));
        let rows = &self.dataset.rows[stage];
        let mut bytes = told.into_bytes();
        for &flow in own.iter().chain(&self.val) {
            let info = &self.dataset.flows[flow];
            bytes.extend(info.label.unwrap_or(u16::MAX).to_le_bytes());
            rows.words(flow).iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            rows.numbers(flow).iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        }
        sha256(&bytes)
    }

    /// The calibration flows: those of the split, then training flows as blind models answered
    /// them.
    fn calibration(&self) -> Vec<usize> {
        self.val.iter().chain(self.parts.iter().flatten()).copied().collect()
    }

    /// Holds a given model to the labels of the captures.
    fn knows(&self, given: &ExternalModel) -> Result<(), PipelineError> {
        let (found, expected) = (&given.labels, &self.dataset.labels);
        if found == expected {
            return Ok(());
        }
        let message = format!(
            "expected the labels of the captures, {}, found {}",
            expected.join(", "),
            found.join(", ")
        );
        Err(PipelineError::Given { name: given.name.clone(), message })
    }

    fn candidate(
        &self,
        recipe: CandidateSpec,
        own: Answering,
        meter: &mut CostMeter,
        mut wall: fn() -> u64,
    ) -> Result<Candidate, PipelineError> {
        let stage = self.stage(recipe);
        let failed = |error: ScoreError| {
            let (name, message) = (own.name.clone(), error.message);
            PipelineError::Given { name, message }
        };
        let answers = |model: &dyn Model, flows: &[usize]| {
            let scores = score_all(model, &self.dataset.rows_of(stage, flows)).map_err(failed)?;
            let facts: Vec<_> = flows.iter().map(|&flow| self.dataset.facts[stage][flow]).collect();
            Ok::<_, PipelineError>(Answers::new(&scores, &facts))
        };
        let model = own.model.as_ref();
        let (mut val, test) = (answers(model, &self.val)?, answers(model, &self.test)?);
        for (model, part) in own.blind.iter().zip(&self.parts) {
            val.append(answers(model.as_ref(), part)?);
        }
        let rows = self.dataset.rows_of(stage, &self.val);
        let scored = score_cost(model, &rows, &mut wall).map_err(failed)?;
        let spec: &FeatureSpec = &self.dataset.specs[stage];
        let wants_window = recipe.packets == Tier::WINDOW;
        let measured =
            CandidateCost { spec, wait_ns: self.wait_ns, wants_window, model: &own.model };
        let metered = meter.measure(&measured);
        Ok(Candidate {
            file: own.file,
            given: own.given,
            recipe,
            name: own.name,
            cost: scored,
            engine_ns: metered.engine_ns,
            compute_ns: metered.compute_ns,
            train_ns: own.train_ns,
            val,
            test,
        })
    }

    fn pool(
        &self,
        book: &LabelBook,
        plan: &TrainPlan,
        wanted: &PoolPlan,
        candidates: Vec<Candidate>,
        left_out: Vec<String>,
        meter: &CostMeter,
    ) -> CandidatePool {
        let dataset = &self.dataset;
        let flows = |own: &[usize]| Flows {
            truth: dataset.labels_of(own),
            capture: own.iter().map(|&flow| dataset.flows[flow].capture.number()).collect(),
        };
        let counts = |split: Split| (split.name().to_owned(), dataset.split(split).len() as u64);
        CandidatePool {
            format: POOL_FORMAT.to_owned(),
            task: plan.task.clone(),
            labels: dataset.labels.clone(),
            flows: FlowPlan::from_config(&plan.flows),
            features: wanted.features.clone(),
            headers: plan
                .layout
                .headers()
                .into_iter()
                .map(|header| Header::name(header).to_owned())
                .collect(),
            masks: plan.masks.iter().map(|mask| Mask::name(mask).to_owned()).collect(),
            wait_ms: plan.wait_ms,
            window_packets: plan.window_packets,
            packets_per_flow: meter.service.packets_per_flow,
            idle_flow_ns: meter.idle_flow_ns,
            spread: even(),
            val: flows(&self.calibration()),
            unseen: self.val.len(),
            test: flows(&self.test),
            candidates,
            left_out,
            data: Some(DataSummary::new(&dataset.labels, &dataset.flows, wanted.cross_fit)),
            provenance: Provenance {
                written_by: concat!("serveflow ", env!("CARGO_PKG_VERSION")).to_owned(),
                labels_sha256: book.sha256.clone(),
                flows: Split::ALL.into_iter().map(counts).collect(),
                seed: plan.seed,
                parameters: parameters(plan),
            },
        }
    }
}

/// The first rounds of boosted trees, or the first trees of a forest: what training would have
/// given that had stopped there.
fn cut(forest: &Forest, size: usize) -> Forest {
    use serveflow_model::forest::ForestKind as Sum;
    let per_round = match forest.kind() {
        Sum::Boosted { .. } => forest.classes(),
        Sum::Averaged => 1,
    };
    let kept = forest.trees().iter().take(size.max(1) * per_round).cloned().collect();
    let cut = Forest::new(forest.shape(), forest.classes(), forest.kind().clone(), kept);
    cut.expect("fewer trees of a checked forest are one")
}

/// The candidates of a search: kinds by sets of features, of which there are so many, by wait and
/// depth, the most telling first.
#[must_use]
pub fn grid(
    kinds: &[Kind],
    sizes: &[usize],
    depths: &[u16],
    waits: &[u64],
    features: usize,
) -> Vec<CandidateSpec> {
    let mut order: Vec<u16> = Vec::new();
    // The ends of the range first: with both, there is a cascade.
    let mut left: Vec<u16> = depths.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    while !left.is_empty() {
        order.push(left.remove(0));
        order.extend(left.pop());
    }
    let mut recipes = Vec::new();
    let groups = (0..features).flat_map(|set| waits.iter().map(move |&wait_ms| (set, wait_ms)));
    for (features, wait_ms) in groups {
        for &packets in &order {
            for &kind in kinds {
                let whole = CandidateSpec { kind, size: None, packets, wait_ms, features };
                recipes.push(whole);
                if kind == Kind::Boosted {
                    recipes.extend(sizes.iter().map(|&s| CandidateSpec { size: Some(s), ..whole }));
                }
            }
        }
    }
    // A first packet waits for nothing, and a window for its end, whatever the wait.
    let mut seen = BTreeSet::new();
    let has_waits = |recipe: &CandidateSpec| recipe.packets > 1 && recipe.packets != Tier::WINDOW;
    recipes.retain(|recipe| {
        has_waits(recipe)
            || seen.insert((recipe.kind, recipe.size, recipe.packets, recipe.features))
    });
    recipes
}
