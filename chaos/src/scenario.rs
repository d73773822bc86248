//! Scenarios: a fleet of separate processes, clients that know nothing of it, one fault, and the count of
//! acknowledged records against what can be read afterwards.
//!
//! A scenario answers with what it found; whether that is good enough is for whoever runs it to say.

mod ground;
pub mod home_killed;
pub mod home_paused;
mod java_pair;
pub mod member_lost;
pub mod region_cut;
pub mod store_away;
pub mod tiering_paused;
mod wait;

use std::path::PathBuf;

use whimbrel_runtime::{Clock, Tasks};

pub use ground::Ground;

use crate::{
    Violation, checker, history::History, links::LinkError, server::ServerError, workload,
};

/// What every scenario needs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `whimbrel` executable.
    pub binary: PathBuf,
    /// An empty folder; everything is written there.
    pub folder: PathBuf,
    pub tasks: Tasks,
    pub clock: Clock,
}

/// What a scenario found.
#[derive(Clone, Debug)]
pub struct Report {
    pub acked: u64,
    /// Acknowledged and not readable afterwards.
    pub lost: u64,
    /// What was stated before the move; `None` where the scenario moves nothing, so that nothing may be lost.
    pub bound: Option<u64>,
    pub violations: Vec<Violation>,
    /// What was measured, in words.
    pub facts: Vec<String>,
}

impl Report {
    /// Judges a finished history; it is kept in the scenario's folder.
    fn new(setup: &Setup, history: &History, facts: Vec<String>) -> Result<Self, ScenarioError> {
        history
            .write(&setup.folder.join("history.json"))
            .map_err(ScenarioError::Io)?;
        let bound = history
            .promotions
            .iter()
            .map(|p| p.bound.unwrap_or(u64::MAX))
            .reduce(u64::saturating_add);
        Ok(Self {
            acked: history.acked().count() as u64,
            lost: checker::lost(history),
            bound,
            violations: checker::check(history),
            facts,
        })
    }

    /// Nothing is wrong, and no more is lost than was stated.
    pub fn held(&self) -> bool {
        self.violations.is_empty() && self.lost <= self.bound.unwrap_or(0)
    }
}

/// The scenario could not be played to its end: this is no verdict on the fleet's data.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error(transparent)]
    Layout(#[from] whimbrel_dev::LayoutError),
    #[error(transparent)]
    Child(#[from] whimbrel_dev::children::ChildError),
    #[error(transparent)]
    Admin(#[from] whimbrel_dev::admin::AdminError),
    #[error("controller: {0}")]
    Control(#[from] whimbrel_rpc::controller::ControlError),
    #[error(transparent)]
    Workload(#[from] workload::WorkloadError),
    #[error(transparent)]
    Raw(#[from] workload::RawError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Io(std::io::Error),
    #[error("waited {seconds} s for {what}; last seen: {seen}")]
    Waited {
        what: String,
        seconds: u64,
        seen: String,
    },
    #[error("{0}")]
    Wrong(String),
    #[error("{variable} names no binary")]
    NoFixture { variable: &'static str },
}
