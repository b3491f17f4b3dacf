//! A run against a bare server: what the generator does by itself. Its memory does not grow with its length.

use std::path::Path;
use std::time::Instant;

use super::stage::bounds;
use super::{Options, SessionError, io, log, log_file};
use crate::bare::Bare;
use crate::pool::Prepared;
use crate::process::pin_to;
use crate::ratios::STATIC;
use crate::report::Report;
use crate::run::{self, Observer, Pace, Requests};
use crate::target::{Answered, Remote};
use crate::traffic::Planned;
use crate::watch::Watch;
use crate::wire::{Target, Wire};

/// Runs.
///
/// # Errors
/// Where the run can't be made, or the options ask for what a bare server has not.
pub(super) fn run(options: &Options, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<Report, SessionError> {
    let refused = [
        (options.scenario.is_some(), "--scenario: a bare server gets one request again and again; leave it out"),
        (options.wait_for_holds, "--wait-for-holds: a bare server holds nothing; leave it out"),
        (options.tls || options.socket, "--tls, --socket: a bare server listens on a plain port only; leave them out"),
        (options.closed.is_none() && options.rate.is_none(), "--target bare needs --rate N or --closed N"),
    ];
    if let Some((_, why)) = refused.into_iter().find(|(is, _)| *is) {
        return Err(SessionError::Impossible(why.to_owned()));
    }
    let mut file = log_file(options)?;
    let server = Bare::start(program, None, options.gate_core).map_err(io("the bare server"))?;
    if let Some(core) = options.generator_core {
        pin_to(core).map_err(io("--generator-core"))?;
    }
    let target = Target { address: server.address().clone(), tls: None };
    let mut remote = Remote::new(Wire::connect(&target, options.connections, bounds(options))?, false);
    let request = Prepared { planned: Planned::nothing(), bytes: STATIC.to_vec() };
    let (pace, log) = (Pace::of(options), log(&mut file)?);
    // In a closed loop nothing is early: whatever is free sends.
    let per_second = options.rate.filter(|_| options.closed.is_none()).unwrap_or(f64::INFINITY);
    let requests = Requests::Same { request: &request, per_second, run: pace.run };
    tell("sending");
    let before = server.cpu_seconds().map_err(io("the server's processor time"))?;
    let watch = Watch::begin(pace.run, tell);
    let measured = run::drive(&mut remote, requests, &pace, &mut Nobody, log, watch)?;
    let cpu = server.cpu_seconds().map_err(io("the server's processor time"))? - before;
    let mut report = Report::new(options, &measured);
    report.server_cpu_s = Some(cpu);
    Ok(report)
}

/// Keeps no books: there is nothing to admit.
struct Nobody;

impl Observer for Nobody {
    fn answered(&mut self, _: &Prepared, _: &Answered) {}
    fn tick(&mut self, _: Instant) {}
    fn may_send(&mut self, _: &Prepared) -> bool {
        true
    }
}
