//! A gate with a journal, requests for it, and what it has acknowledged.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tollgate::config::ConfigError;
use tollgate::time::UnixMillis;

use super::client::Client;
use crate::books::{self, Terms};
use crate::deployment::{Deployment, DeploymentError, Gate};
use crate::in_process;
use crate::ledger::{Ledger, Names, Subject, Totals, window_ids};
use crate::pool::{self, Prepared, Signing};
use crate::scenario::Scenario;
use crate::session::{self, SessionError};
use crate::target::Outcome;
use crate::traffic::{Channel, Fate, Kind, Planned};
use crate::wire;

/// A crash test could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// The configuration could not be made.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The gate could not be asked.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The configuration does not load.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The scenario does not read.
    #[error("the scenario of crash tests: {0}")]
    Scenario(#[from] toml::de::Error),
    /// A gate could not be started or ended.
    #[error("the gate: {0}")]
    Gate(#[from] io::Error),
    /// The gate has no such listener.
    #[error("the gate has no listener {0}")]
    Listener(&'static str),
}

/// What a test knows of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was never sent.
    Unsent,
    /// It was sent, and no answer came.
    Unknown,
    /// It was admitted.
    Admitted(u128),
    /// It was refused.
    Refused,
}

/// A settle call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub decision: u128,
    pub commit: bool,
}

/// What writers have seen of a gate.
#[derive(Default)]
pub struct Seen {
    pub answers: Vec<(usize, Outcome)>,
    pub settled: Vec<Call>,
    pub unanswered: Vec<Call>,
}

/// What was acknowledged of late.
#[derive(Default)]
pub struct Acknowledged {
    /// Requests that were admitted, and as which decisions.
    admitted: Vec<(usize, u128)>,
    settled: Vec<Call>,
}

impl Acknowledged {
    /// Returns how many decisions were acknowledged.
    pub fn decisions(&self) -> usize {
        self.admitted.len()
    }
}

/// A gate to be, and everything that was ever asked of it.
pub struct Scene {
    pub deployment: Deployment,
    pub scenario: Scenario,
    pub requests: Vec<Prepared>,
    pub known: Vec<Known>,
    /// Settle calls that got no answer.
    pub unanswered: Vec<Call>,
    pub ledger: Ledger,
    pub faults: Vec<String>,
    /// What a gate said of the decisions found lost last.
    pub lost: Vec<String>,
    mchids: Vec<String>,
    offset_s: i64,
    random: StdRng,
    run: u64,
}

impl Scene {
    /// Makes the configuration of a gate with this durability.
    pub fn new(durability: &str, seed: u64) -> Result<Self, CrashError> {
        let scenario: Scenario = toml::from_str(SCENARIO)?;
        let mut random = StdRng::seed_from_u64(seed);
        let (zone, offset_s) = session::zone(crate::now_s());
        let mut plan = session::plan_of(&scenario, zone)?;
        plan.workers = 2;
        let journal: toml::Table = toml::from_str(&format!(
            "[journal]\nfolder = \"journal\"\ndurability = \"{durability}\"\nsegment_bytes = 1048576\n\
             reserve_bytes = 262144"
        ))?;
        plan.bounds.extend(journal);
        let deployment = Deployment::write(&plan, PRIMES, &mut random)?;
        let mchids = deployment.merchants.iter().map(|merchant| merchant.mchid.clone()).collect();
        Ok(Self {
            deployment,
            scenario,
            requests: Vec::new(),
            known: Vec::new(),
            unanswered: Vec::new(),
            ledger: Ledger::default(),
            faults: Vec::new(),
            lost: Vec::new(),
            mchids,
            offset_s,
            run: random.random(),
            random,
        })
    }

    /// Signs more requests; returns which.
    pub fn sign(&mut self, count: usize) -> std::ops::Range<usize> {
        let first = self.requests.len();
        let merchants = self.scenario.merchants.count;
        let planned: Vec<Planned> = (first..first + count)
            .map(|order| Planned {
                at: Duration::ZERO,
                kind: Kind::Payment,
                merchant: self.random.random_range(0..merchants),
                customer: self.random.random_range(0..self.scenario.customers.count),
                channel: if self.random.random() { Channel::Balance } else { Channel::QuickPay },
                amount_fen: self.random.random_range(1..=self.scenario.amounts.most_fen),
                order,
                fate: Fate::Missing,
                original: None,
            })
            .collect();
        self.run = self.run.wrapping_add(1 << 32);
        let signing = self.signing();
        let (signed, _) = pool::sign(&planned, signing, 2);
        self.requests.extend(signed);
        self.known.resize(self.requests.len(), Known::Unsent);
        first..self.requests.len()
    }

    fn signing(&self) -> Signing<'_> {
        let (merchants, appid) = (&self.deployment.merchants, Deployment::appid());
        Signing { merchants, starts_s: crate::now_s(), run: self.run, appid, facts: true }
    }

    /// Signs the order of a request anew, as a client does that tries again.
    fn signed_again(&mut self, request: usize) -> Option<Vec<u8>> {
        let planned = self.requests.get(request)?.planned.clone();
        // The order number names the run in its low half.
        self.run = self.run.wrapping_add(1 << 32);
        let signing = self.signing();
        pool::sign(&[planned], signing, 1).0.pop().map(|one| one.bytes)
    }

    /// Has the gate keep its journal in another folder.
    pub fn keep_in(&self, folder: &Path) -> Result<(), CrashError> {
        let file = &self.deployment.config_file;
        let mut table: toml::Table = std::fs::read_to_string(file)?.parse()?;
        if let Some(journal) = table.get_mut("journal").and_then(toml::Value::as_table_mut) {
            journal.insert("folder".to_owned(), folder.display().to_string().into());
        }
        Ok(std::fs::write(file, table.to_string())?)
    }

    /// Notes what writers have seen; returns what of it was acknowledged.
    pub fn take(&mut self, seen: Seen) -> Acknowledged {
        let Seen { answers, settled, unanswered } = seen;
        let mut acknowledged = Acknowledged { settled: settled.clone(), ..Acknowledged::default() };
        for (request, outcome) in answers {
            if let Outcome::Admitted { decision, .. } = outcome {
                acknowledged.admitted.push((request, decision));
            }
            self.note(request, &outcome);
        }
        settled.into_iter().for_each(|call| self.settled(call));
        self.unanswered.extend(unanswered);
        acknowledged
    }

    /// Finds which decisions are lost that were acknowledged, and what they charged: a trusted hop that delivers a request
    /// again gets another decision then, which takes the place of the lost one in the ledger.
    pub fn find_lost(&mut self, gate: &Gate, acknowledged: &Acknowledged) -> Result<(usize, u64), CrashError> {
        let mut check = Client::new(gate.address("check").cloned().ok_or(CrashError::Listener("check"))?);
        let mut control = Client::new(gate.address("control").cloned().ok_or(CrashError::Listener("control"))?);
        // A release that got no answer may have been done: what was released is not lost, though its number is free again.
        for call in std::mem::take(&mut self.unanswered) {
            match settle(&mut control, call) {
                Ok(200) if !call.commit => self.settled(call),
                _ => self.unanswered.push(call),
            }
        }
        let (mut decisions, mut fen) = (0, 0);
        let mut gone = Vec::new();
        self.lost.clear();
        for (request, decision) in &acknowledged.admitted {
            // What was released since is not decided again.
            if self.ledger.is_released(*decision) {
                continue;
            }
            let Some(prepared) = self.requests.get(*request) else { continue };
            let amount_fen = prepared.planned.amount_fen;
            let outcome = check.ask(&prepared.bytes);
            if matches!(outcome, Outcome::Admitted { decision: found, .. } if found == *decision) {
                continue;
            }
            self.lost.push(format!("{decision:032x} is {outcome:?}"));
            (decisions, fen) = (decisions + 1, fen + amount_fen);
            self.ledger.forget(*decision);
            gone.push(*decision);
            self.note(*request, &outcome);
        }
        // What a loss of power took of settling is said again.
        for call in acknowledged.settled.iter().filter(|call| !gone.contains(&call.decision)) {
            match settle(&mut control, *call) {
                Ok(200) => {}
                answer => self.faults.push(format!("decision {:032x}, settled again: {answer:?}", call.decision)),
            }
        }
        self.unanswered.retain(|call| !gone.contains(&call.decision));
        Ok((decisions, fen))
    }

    /// Notes what came of a request.
    pub fn note(&mut self, request: usize, outcome: &Outcome) {
        let known = match outcome {
            Outcome::Admitted { decision, .. } => Known::Admitted(*decision),
            Outcome::Refused { .. } => Known::Refused,
            Outcome::Unknown { .. } | Outcome::Answered => Known::Unknown,
        };
        let (Some(before), Some(prepared)) = (self.known.get_mut(request), self.requests.get(request)) else { return };
        *before = known;
        if let Known::Admitted(decision) = known {
            let names = Names { scenario: &self.scenario, mchids: &self.mchids, offset_s: self.offset_s };
            self.ledger.admit(decision, None, &prepared.planned, crate::now_s(), names);
        }
    }

    /// Notes that a settle call was acknowledged.
    pub fn settled(&mut self, call: Call) {
        if call.commit {
            let names = Names { scenario: &self.scenario, mchids: &self.mchids, offset_s: self.offset_s };
            self.ledger.commit(call.decision, false, names);
        } else {
            self.ledger.release(call.decision);
        }
    }

    /// Starts the gate.
    pub fn start(&self, program: &Path) -> Result<Gate, CrashError> {
        Ok(Gate::start(program, &self.deployment, None)?)
    }

    /// Compares a gate that has just started with all that was ever acknowledged: asks what became of what got no answer,
    /// then compares its books with the ledger, and tries what must be refused.
    pub fn check(&mut self, gate: &Gate, round: u32) -> Result<u32, CrashError> {
        let before = self.faults.len();
        let mut check = Client::new(gate.address("check").cloned().ok_or(CrashError::Listener("check"))?);
        let mut open = Client::new(gate.address("open").cloned().ok_or(CrashError::Listener("open"))?);
        let control = gate.address("control").cloned().ok_or(CrashError::Listener("control"))?;
        self.resolve(&mut check, &mut Client::new(control.clone()));
        let export = session::fetch(&wire::Target { address: control, tls: None }, "/v1/usage/export")?;
        self.compare(&export, round)?;
        self.replay(&mut open, round);
        self.repeat(&mut check, round);
        Ok(u32::try_from(self.faults.len() - before).unwrap_or(u32::MAX))
    }

    /// Asks again what got no answer: a trusted hop may deliver a request twice, a settle call may be repeated.
    fn resolve(&mut self, check: &mut Client, control: &mut Client) {
        let unknown: Vec<usize> =
            (0..self.known.len()).filter(|one| self.known.get(*one) == Some(&Known::Unknown)).collect();
        for request in unknown {
            let outcome = self.requests.get(request).map(|prepared| check.ask(&prepared.bytes));
            if let Some(outcome) = outcome {
                if matches!(outcome, Outcome::Unknown { .. }) {
                    self.faults.push(format!("request {request}, sent again, got no answer"));
                }
                self.note(request, &outcome);
            }
        }
        for call in std::mem::take(&mut self.unanswered) {
            match settle(control, call) {
                Ok(200) => self.settled(call),
                answer => self.faults.push(format!("decision {:032x}, settled again: {answer:?}", call.decision)),
            }
        }
    }

    fn compare(&mut self, export: &str, round: u32) -> Result<(), CrashError> {
        let now_s = crate::now_s();
        let twin = in_process::shared(self.deployment.load(UnixMillis::from_seconds(now_s))?);
        let row_of = |limit: &str, subject: &Subject| session::row_of(&twin, limit, subject, now_s);
        let terms = Terms { scenario: &self.scenario, row_of: &row_of, open: window_ids(now_s + self.offset_s) };
        let verdict = books::compare(&self.ledger, export, &terms);
        self.faults.extend(verdict.differences.iter().map(|difference| format!("round {round}: {difference}")));
        for ((limit, subject, window), (_, Totals { sums, .. })) in self.ledger.newest() {
            let ceiling = self.scenario.limit.get(limit).and_then(|limit| limit.ceiling(window));
            if ceiling.is_some_and(|ceiling| sums.held + sums.committed > ceiling) {
                self.faults.push(format!("round {round}: {subject:?} is above the ceiling of {}", window.as_str()));
            }
        }
        Ok(())
    }

    /// Sends requests again, byte for byte, where that is a replay.
    fn replay(&mut self, open: &mut Client, round: u32) {
        for request in self.sample() {
            let Some(prepared) = self.requests.get(request) else { continue };
            if let Outcome::Admitted { decision, .. } = open.ask(&prepared.bytes) {
                self.faults.push(format!("round {round}: a replay was admitted as {decision:032x}"));
            }
        }
    }

    /// Sends orders again, signed anew: each is the decision that it was.
    fn repeat(&mut self, check: &mut Client, round: u32) {
        for request in self.sample() {
            let (Some(Known::Admitted(decision)), Some(bytes)) =
                (self.known.get(request).copied(), self.signed_again(request))
            else {
                continue;
            };
            if self.ledger.is_released(decision) {
                continue;
            }
            let outcome = check.ask(&bytes);
            if !matches!(outcome, Outcome::Admitted { decision: found, .. } if found == decision) {
                self.faults.push(format!("round {round}: order {request} was {decision:032x}, and is {outcome:?}"));
            }
        }
    }

    /// Chooses some of the youngest requests that were admitted.
    fn sample(&mut self) -> Vec<usize> {
        let first = self.known.len().saturating_sub(YOUNG);
        let admitted: Vec<usize> =
            (first..self.known.len()).filter(|one| matches!(self.known.get(*one), Some(Known::Admitted(_)))).collect();
        let pick = |_| admitted.get(self.random.random_range(0..admitted.len().max(1))).copied();
        (0..SAMPLES).filter_map(pick).collect()
    }

    /// Counts requests by what is known of them.
    pub fn counts(&self) -> HashMap<&'static str, usize> {
        let mut counts = HashMap::new();
        for known in &self.known {
            let name = match known {
                Known::Unsent => continue,
                Known::Unknown => "unknown",
                Known::Admitted(_) => "admitted",
                Known::Refused => "refused",
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}

/// Settles a decision; returns the status of the answer.
pub fn settle(control: &mut Client, call: Call) -> io::Result<u16> {
    let verb = if call.commit { "commit" } else { "release" };
    let request = format!(
        "POST /v1/decisions/{:032x}/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        call.decision
    );
    Ok(control.send_alone(request.as_bytes())?.0)
}

/// Few customers with ceilings that are soon reached, so that a fen too much shows.
const SCENARIO: &str = include_str!("scenario.toml");

/// Primes of a key: more sign faster.
const PRIMES: usize = 16;

/// Requests sent again after each start, of each kind.
const SAMPLES: usize = 20;

/// How many of the last requests are chosen from: their timestamps are fresh.
const YOUNG: usize = 2_000;
