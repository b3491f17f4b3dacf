//! `tollgate serve`: runs a gate until SIGTERM or SIGINT; SIGHUP reads the configuration again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::admin::Control;
use crate::config;
use crate::server::{self, Running};
use crate::time::{Clock, SystemClock};

/// Runs the gate that a configuration describes.
pub(super) fn run(file: &Path) -> Result<(), Failure> {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the first connection: a signal that comes early must drain, too, and not kill.
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let config = config::load(file, SystemClock.now())?;
    let names: Vec<_> = config.listeners.iter().map(|listener| listener.name.clone()).collect();
    let running = server::start(config, Some(file.to_owned()), Arc::new(SystemClock))?;
    for name in names.iter().map(String::as_str).chain(["control"]) {
        if let Some(address) = running.address(name) {
            tracing::info!(listener = name, %address, "listening");
        }
    }
    let ended = runtime.block_on(until_told(&running, &mut signals));
    tracing::info!("draining");
    running.stop()?;
    ended
}

/// The signals that a gate answers to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn until_told(running: &Running, signals: &mut Signals) -> Result<(), Failure> {
    let mut watch = tokio::time::interval(WATCH_EVERY);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => {
                if let Err(error) = running.control().reload() {
                    tracing::error!(error, "configuration not reloaded; the one in force stays");
                }
            }
            _ = watch.tick() => {
                if !running.is_alive() {
                    return Err(Failure::Died);
                }
            }
        }
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("TOLLGATE_LOG")
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    // A second subscriber in one process keeps the first: nothing is lost by that.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// How often the threads are looked after.
const WATCH_EVERY: Duration = Duration::from_millis(200);
