//! The files of a training beside those of its bundle: the candidates, and the report.

use super::SessionError;
use crate::planner::candidates::{Built, ModelCache};
use crate::planner::pool::{CandidatePool, CandidateSpec, POOL_FORMAT};
use crate::planner::replay::MOST_STAGES;
use crate::planner::report::PlanReport;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folder of a bundle that holds the candidates.
pub const POOL: &str = "pool";
/// The candidates, without their models.
const POOL_FILE: &str = "pool.json";
/// Folder of the pool with models by what they were trained on, which an interrupted training
/// continues from.
const CACHE: &str = "shelf";
/// The report as data.
const REPORT_FILE: &str = "report.json";

/// Where a bundle keeps what there is of its candidates.
#[must_use]
pub fn pool_file(bundle: &Path) -> PathBuf {
    bundle.join(POOL).join(POOL_FILE)
}

/// JSON of what always has one.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("keys are text, and numbers are numbers")
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SessionError> {
    std::fs::write(path, bytes).map_err(SessionError::write(path))
}

/// Models by what they were trained on, in files.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The folder in a bundle that is to be.
    pub(super) fn create(out: &Path) -> Result<Self, SessionError> {
        let folder = out.join(POOL).join(CACHE);
        std::fs::create_dir_all(&folder).map_err(SessionError::write(&folder))?;
        Ok(Self(folder))
    }
}

impl ModelCache for Folder {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(format!("{key}.json"))).ok()
    }

    fn put(&mut self, key: &str, model: &[u8]) {
        // Renamed when it is complete, so that an interrupted run leaves no partial model. What
        // cannot be kept is trained again.
        let (part, whole) = (self.0.join("part"), self.0.join(format!("{key}.json")));
        let _ = std::fs::write(&part, model).and_then(|()| std::fs::rename(part, whole));
    }
}

/// Keeps a pool and its models with the bundle.
pub(super) fn write_pool(out: &Path, built: &Built) -> Result<(), SessionError> {
    let dir = out.join(POOL);
    for (name, model) in &built.models {
        let path = dir.join(name);
        let parent = path.parent().unwrap_or(&dir);
        std::fs::create_dir_all(parent).map_err(SessionError::write(parent))?;
        write_file(&path, model)?;
    }
    write_file(&dir.join(POOL_FILE), &json(&built.pool))
}

/// Where the candidates of some recipes stand in a pool.
pub(super) fn places(
    pool: &CandidatePool,
    recipes: &[CandidateSpec],
) -> Result<Vec<usize>, SessionError> {
    let place = |recipe: &CandidateSpec| {
        let found = pool.candidates.iter().position(|c| c.recipe == *recipe);
        let message = || format!("{} was not trained", recipe.tier());
        found.ok_or_else(|| SessionError::option("--stages", message()))
    };
    recipes.iter().map(place).collect()
}

/// A page that was made of a report.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Its file name.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// Writes a report beside its bundle: as data, and the pages that were made of it.
///
/// # Errors
/// When a file cannot be written.
///
/// # Panics
/// Never: a report is data.
pub fn publish(out: &Path, report: &PlanReport, pages: &[Page<'_>]) -> Result<(), SessionError> {
    let data = serde_json::to_vec_pretty(report).expect("a report is data");
    write_file(&out.join(REPORT_FILE), &data)?;
    pages.iter().try_for_each(|page| write_file(&out.join(page.name), page.text.as_bytes()))
}

/// The candidates that a bundle was planned from.
#[derive(Debug)]
pub struct KeptPool {
    /// The candidates and their answers.
    pub pool: CandidatePool,
    /// Their models, by file name.
    pub models: BTreeMap<String, Vec<u8>>,
    /// The bundle.
    bundle: PathBuf,
}

impl KeptPool {
    /// Reads the candidates that a training left in a bundle.
    ///
    /// # Errors
    /// When there are none, or they do not fit together.
    pub fn read(bundle: &Path) -> Result<Self, SessionError> {
        let (dir, path) = (bundle.join(POOL), pool_file(bundle));
        let read = |path: PathBuf| {
            std::fs::read(&path).map_err(|source| SessionError::Read { path, source })
        };
        let text = read(path.clone())?;
        let refused = |message: String| SessionError::Pool { path: path.clone(), message };
        let pool: CandidatePool = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("expected a pool of candidates: {error}")))?;
        if pool.format != POOL_FORMAT {
            let found = &pool.format;
            return Err(refused(format!("expected the format {POOL_FORMAT}, found {found}")));
        }
        pool.check().map_err(refused)?;
        let mut models = BTreeMap::new();
        for candidate in &pool.candidates {
            let columns = candidate.given.as_ref().and_then(|given| given.columns.as_ref());
            for name in columns.into_iter().chain([&candidate.file]) {
                models.insert(name.clone(), read(dir.join(name))?);
            }
        }
        Ok(Self { pool: pool.labelled(), models, bundle: bundle.to_owned() })
    }

    /// The candidates of these names, which must make a cascade.
    ///
    /// # Errors
    /// When there is no such candidate, or one cannot follow the one before it.
    pub fn named(&self, names: &[String]) -> Result<Vec<usize>, SessionError> {
        let all = &self.pool.candidates;
        let refused = |message: String| SessionError::option("--stages", message);
        let place = |name: &String| {
            let known = || all.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            let found = all.iter().position(|candidate| candidate.name == *name);
            found.ok_or_else(|| refused(format!("expected some of {}, found `{name}`", known())))
        };
        let stages: Vec<usize> = names.iter().map(place).collect::<Result<_, _>>()?;
        if stages.len() > MOST_STAGES {
            let found = stages.len();
            return Err(refused(format!("expected at most {MOST_STAGES}, found {found}")));
        }
        for pair in stages.windows(2) {
            let [before, next] = [pair[0], pair[1]].map(|c| &all[c]);
            let (own, more) = (&before.recipe, &next.recipe);
            let may_follow =
                own.packets < more.packets || (own.packets == more.packets && pair[0] != pair[1]);
            if !may_follow {
                let message = format!("`{}` cannot follow `{}`", next.name, before.name);
                return Err(refused(message));
            }
            if own.packets != 1 && own.wait_ms > more.wait_ms {
                let name = &next.name;
                let message = format!("`{name}` has a shorter wait than the stage before it");
                return Err(refused(message));
            }
        }
        Ok(stages)
    }

    /// A plan must not be written beside the candidates of another training.
    ///
    /// # Errors
    /// When the folder holds such.
    pub fn check_out(&self, out: &Path) -> Result<(), SessionError> {
        let (from, other) = (pool_file(&self.bundle), pool_file(out));
        let read = |path: &Path| {
            let path = path.to_owned();
            std::fs::read(&path).map_err(|source| SessionError::Read { path, source })
        };
        if !other.exists() || read(&from)? == read(&other)? {
            return Ok(());
        }
        let message = format!(
            "{} holds the candidates of another training; expected a new folder or that of \
             --bundle",
            out.display()
        );
        Err(SessionError::option("--out", message))
    }

    /// Nothing is guaranteed on a split that candidates have seen.
    pub(super) fn check_guarantee(&self, is_wanted: bool) -> Result<(), SessionError> {
        let pool = &self.pool;
        let is_parted = pool.val.truth.len() > pool.unseen;
        let patience = pool.provenance.parameters.get("boosted.patience");
        let is_patient = patience.is_some_and(|patience| patience != "None");
        if !is_wanted || (is_parted && !is_patient) {
            return Ok(());
        }
        let message = format!(
            "the candidates of {} were trained on the calibration split (early stopping), or \
             without --cross-fit; train with --guarantee first",
            self.bundle.display()
        );
        Err(SessionError::option("--guarantee", message))
    }
}
