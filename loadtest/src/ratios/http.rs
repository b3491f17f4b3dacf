//! Requests over sockets, by the processor time of the server: a gate beside a bare server, and beside what else checks
//! signatures and limits. And the generator of all this beside another.

mod disk;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

use self::disk::{Disk, What};
use super::{Better, Contest, Entry, NotReady, Pair, RatioError, Size};
use crate::apt;
use crate::bare::Bare;
use crate::deployment::{Deployment, Gate, MerchantPlan, Plan};
use crate::pool::{self, Signing};
use crate::process::pin_to;
use crate::rivals::{Kind as RivalKind, Rival};
use crate::session;
use crate::traffic::{Cast, Channel, Planned};
use crate::wire::{Address, Bounds, Target, Wire};

/// Returns the rows; children are started of this program. With `install`, rivals that are missing are fetched first.
pub fn entries(size: Size, program: &Path, install: bool) -> Vec<Entry> {
    let program: Rc<PathBuf> = Rc::new(program.to_owned());
    let bare = |name, tls| {
        let program = Rc::clone(&program);
        Entry::new(name, move || {
            let rival = RivalServer::Bare { tls, running: None };
            Ok(Versus::new(size, &program, (tls, "process"), rival, By::Processor)?)
        })
    };
    let off = |name, durability| {
        let program = Rc::clone(&program);
        Entry::new(name, move || {
            let rival = RivalServer::Off { running: None };
            Ok(Versus::new(size, &program, (false, durability), rival, By::Processor)?)
        })
    };
    let disk = |name, what| {
        let program = Rc::clone(&program);
        Entry::new(name, move || Ok(Disk::new(size, &program, what)?))
    };
    let nginx = |name, kind| {
        let program = Rc::clone(&program);
        Entry::new(name, move || {
            if install {
                Rival::install().map_err(RatioError::broken("apt-get"))?;
            }
            if let Some(why) = Rival::missing() {
                return Err(NotReady::Skipped(format!("{why}; --install fetches it")));
            }
            let rival = RivalServer::Lua { kind, running: None };
            Ok(Versus::new(size, &program, (false, "process"), rival, By::Processor)?)
        })
    };
    let wrk = {
        let program = Rc::clone(&program);
        Entry::new("rig.vs_wrk", move || {
            if install && is_wrk_missing() {
                apt::install(["wrk"].into_iter()).map_err(RatioError::broken("apt-get"))?;
            }
            if is_wrk_missing() {
                return Err(NotReady::Skipped("wrk is not installed; --install fetches it".to_owned()));
            }
            Ok(Generators::new(size, &program)?)
        })
    };
    vec![
        bare("http.check_vs_bare_hyper", false),
        bare("http.check_tls_vs_bare_hyper_tls", true),
        nginx("http.check_vs_nginx_lua_redis", RivalKind::Redis),
        nginx("http.check_vs_nginx_lua_shdict", RivalKind::SharedDict),
        off("http.process_vs_off", "process"),
        disk("http.disk_vs_off", What::Rate(CONNECTIONS)),
        disk("http.disk_vs_off_512", What::Rate(512)),
        disk("http.disk_added_p99", What::AddedP99),
        wrk,
    ]
}

fn is_wrk_missing() -> bool {
    Command::new("wrk").arg("--version").output().is_err()
}

/// A server that a gate is compared with.
enum RivalServer {
    Bare {
        tls: bool,
        running: Option<Bare>,
    },
    Lua {
        kind: RivalKind,
        running: Option<Rival>,
    },
    /// A gate that records nothing.
    Off {
        running: Option<Gate>,
    },
}

/// What requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Seconds of processor time of the server.
    Processor,
    /// Seconds.
    Time,
}

impl RivalServer {
    /// Starts it, beside a gate.
    fn start(&mut self, program: &Path, gate: &Deployment) -> Result<(), RatioError> {
        match self {
            Self::Bare { tls, running } => {
                let [certificate, key] = gate.tls_files();
                let bare = Bare::start(program, tls.then_some([&certificate, &key]), Some(SERVER_CORE));
                *running = Some(bare.map_err(RatioError::broken("bare hyper"))?);
            }
            Self::Lua { kind, running } => {
                let keys: Vec<_> = gate.merchants.iter().map(|one| (one.serial.clone(), one.key.spki_der())).collect();
                let folder = gate.folder.path().join("rival");
                std::fs::create_dir_all(&folder).map_err(RatioError::broken("a folder"))?;
                let started = Rival::start(*kind, Some(SERVER_CORE), &keys, &folder);
                *running = Some(started.map_err(RatioError::broken("nginx"))?);
            }
            Self::Off { running } => {
                let broken = RatioError::broken::<std::io::Error>;
                let text = std::fs::read_to_string(&gate.config_file).map_err(broken("a configuration"))?;
                let mut table: toml::Table = text.parse().map_err(RatioError::broken("a configuration"))?;
                table.remove("journal");
                let file = gate.config_file.with_file_name("off.toml");
                std::fs::write(&file, table.to_string()).map_err(broken("a configuration"))?;
                *running = Some(Gate::start_of(program, &file, Some(SERVER_CORE)).map_err(broken("a gate"))?);
            }
        }
        Ok(())
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Bare { tls: false, .. } => "bare hyper",
            Self::Bare { tls: true, .. } => "bare hyper with TLS",
            Self::Lua { kind: RivalKind::Redis, .. } => "nginx, Lua, OpenSSL, Redis",
            Self::Lua { kind: RivalKind::SharedDict, .. } => "nginx, Lua, OpenSSL, shared dict",
            Self::Off { .. } => "a gate that records nothing",
        }
    }

    /// Returns where it listens, and how to trust it where it has the certificate of a gate.
    fn target(&self, gate: &Deployment) -> Option<Target> {
        match self {
            Self::Bare { tls, running } => running
                .as_ref()
                .map(|bare| Target { address: bare.address().clone(), tls: tls.then(|| gate.tls_client.clone()) }),
            Self::Lua { running, .. } => {
                running.as_ref().map(|rival| Target { address: Address::Tcp(rival.address()), tls: None })
            }
            Self::Off { running } => {
                let address = running.as_ref().and_then(|gate| gate.address("check")).cloned();
                address.map(|address| Target { address, tls: None })
            }
        }
    }

    fn cpu_seconds(&self) -> std::io::Result<f64> {
        match self {
            Self::Bare { running, .. } => running.as_ref().map_or(Ok(0.0), Bare::cpu_seconds),
            Self::Lua { running, .. } => running.as_ref().map_or(Ok(0.0), Rival::cpu_seconds),
            Self::Off { running } => running.as_ref().map_or(Ok(0.0), Gate::cpu_seconds),
        }
    }
}

/// A gate and a rival, which get the same requests.
struct Versus {
    requests: usize,
    deployment: Deployment,
    gate: Gate,
    gate_target: Target,
    rival: RivalServer,
    by: By,
    random: StdRng,
}

impl Versus {
    fn new(
        size: Size,
        program: &Path,
        (tls, durability): (bool, &str),
        mut rival: RivalServer,
        by: By,
    ) -> Result<Self, RatioError> {
        let (merchants, requests) = if size == Size::Full { (100, 20_000) } else { (3, 200) };
        let mut random = StdRng::seed_from_u64(crate::now_s().unsigned_abs());
        let deployment = Deployment::write(&plan(merchants, tls, durability)?, PRIMES, &mut random);
        let deployment = deployment.map_err(RatioError::broken("the configuration of a gate"))?;
        let gate = Gate::start(program, &deployment, Some(SERVER_CORE)).map_err(RatioError::broken("a gate"))?;
        let address = gate.address("check").cloned();
        let address = address.ok_or(RatioError::Wrong("the gate has no listener `check`"))?;
        let gate_target = Target { address, tls: tls.then(|| deployment.tls_client.clone()) };
        rival.start(program, &deployment)?;
        Ok(Self { requests, deployment, gate, gate_target, rival, by, random })
    }

    /// Signs orders of different merchants and customers, each with a number of its own.
    fn sign(&mut self) -> Vec<Vec<u8>> {
        let cast = Cast::new(self.deployment.merchants.len().saturating_sub(2));
        let planned: Vec<_> = (0..self.requests)
            .map(|order| Planned {
                merchant: self.random.random_range(0..cast.suspended()),
                customer: self.random.random_range(0..CUSTOMERS),
                channel: Channel::QuickPay,
                amount_fen: self.random.random_range(1..1000),
                order,
                ..Planned::nothing()
            })
            .collect();
        let signing = Signing {
            merchants: &self.deployment.merchants,
            starts_s: crate::now_s(),
            run: self.random.random(),
            appid: Deployment::appid(),
            facts: true,
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        pool::sign(&planned, signing, threads).0.into_iter().map(|one| one.bytes).collect()
    }
}

impl Contest for Versus {
    fn rival_name(&self) -> &'static str {
        self.rival.name()
    }

    fn unit(&self) -> &'static str {
        match self.by {
            By::Processor => "requests per second of processor time",
            By::Time => "requests per second",
        }
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        // Signing uses all cores; what is measured has one for the server and one for the generator.
        let requests = self.sign();
        let target = self.rival.target(&self.deployment).ok_or(RatioError::Wrong("the rival does not run"))?;
        let seconds = |cpu: &dyn Fn() -> std::io::Result<f64>, target: &Target, wanted: &'static [u8]| {
            let cpu = || cpu().map_err(RatioError::broken("processor time"));
            let (before, began) = (cpu()?, Instant::now());
            on_core(GENERATOR_CORE, || closed(target, &requests, wanted, CONNECTIONS))?;
            Ok::<f64, RatioError>(match self.by {
                By::Processor => cpu()? - before,
                By::Time => began.elapsed().as_secs_f64(),
            })
        };
        let ours = seconds(&|| self.gate.cpu_seconds(), &self.gate_target, br#""decision""#)?;
        let rival = seconds(&|| self.rival.cpu_seconds(), &target, b"")?;
        let count = requests.len() as f64;
        Ok(Pair { ours: count / ours, rival: count / rival })
    }
}

/// Sends each request once, as many at a time as there are connections; every answer must be 200 and have this in its body.
fn closed(target: &Target, requests: &[Vec<u8>], wanted: &[u8], connections: usize) -> Result<(), RatioError> {
    let bounds = Bounds { answer_bytes_max: 1 << 16, answer_timeout: PATIENCE };
    let mut wire = Wire::connect(target, connections, bounds).map_err(RatioError::broken("connections"))?;
    let (mut next, mut answered, mut wrong) = (0, 0, None);
    while answered < requests.len() {
        while let Some(request) = requests.get(next) {
            if !wire.send(next as u64, request).map_err(RatioError::broken("a request"))? {
                break;
            }
            next += 1;
        }
        let polled = wire.poll(Some(PATIENCE), &mut |done| {
            answered += 1;
            match done.outcome {
                Ok(answer) if answer.status == 200 && contains(answer.body, wanted) => {}
                Ok(answer) => {
                    let body = String::from_utf8_lossy(answer.body);
                    wrong.get_or_insert_with(|| format!("{} {body}", answer.status));
                }
                Err(failure) => {
                    wrong.get_or_insert_with(|| format!("{failure:?}"));
                }
            }
        });
        polled.map_err(RatioError::broken("an answer"))?;
    }
    wrong.map_or(Ok(()), |wrong| Err(RatioError::broken("an answer that should be 200")(wrong)))
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || body.windows(wanted.len()).any(|part| part == wanted)
}

/// Runs on a core, where there are two, on a thread of its own: others keep theirs.
fn on_core<T: Send>(core: usize, act: impl FnOnce() -> Result<T, RatioError> + Send) -> Result<T, RatioError> {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(move || {
            // On a machine of one core the figures are what they are.
            let _ = pin_to(core);
            act()
        });
        pinned.join().unwrap_or(Err(RatioError::Wrong("the generator panicked")))
    })
}

/// This generator and wrk, against the same bare server.
struct Generators {
    run: Duration,
    server: Bare,
}

impl Generators {
    fn new(size: Size, program: &Path) -> Result<Self, RatioError> {
        let run = if size == Size::Full { Duration::from_secs(2) } else { Duration::from_secs(1) };
        let server = Bare::start(program, None, Some(SERVER_CORE)).map_err(RatioError::broken("bare hyper"))?;
        Ok(Self { run, server })
    }

    fn ours(run: Duration, target: &Target) -> Result<f64, RatioError> {
        let bounds = Bounds { answer_bytes_max: 1 << 16, answer_timeout: PATIENCE };
        let mut wire = Wire::connect(target, CONNECTIONS, bounds).map_err(RatioError::broken("connections"))?;
        let (mut answered, mut wrong) = (0_u64, 0_u64);
        let began = Instant::now();
        while began.elapsed() < run {
            while wire.send(0, STATIC).map_err(RatioError::broken("a request"))? {}
            let polled = wire.poll(Some(PATIENCE), &mut |done| match done.outcome {
                Ok(answer) if answer.status == 200 => answered += 1,
                Ok(_) | Err(_) => wrong += 1,
            });
            polled.map_err(RatioError::broken("an answer"))?;
        }
        RatioError::check(wrong == 0, "an answer that should be 200")?;
        Ok(answered as f64 / began.elapsed().as_secs_f64())
    }

    fn wrk(&self, address: SocketAddr) -> Result<f64, RatioError> {
        let core = GENERATOR_CORE.to_string();
        let seconds = format!("{}s", self.run.as_secs());
        let url = format!("http://{address}/");
        let connections = CONNECTIONS.to_string();
        let output = Command::new("taskset")
            .args(["-c", &core, "wrk", "-t", "1", "-c", &connections, "-d", &seconds, &url])
            .output()
            .map_err(RatioError::broken("wrk"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        RatioError::check(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk met errors")?;
        let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
        rate.ok_or(RatioError::Wrong("wrk printed no rate"))
    }
}

impl Contest for Generators {
    fn rival_name(&self) -> &'static str {
        "wrk"
    }

    fn unit(&self) -> &'static str {
        "requests/s"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let target = &Target { address: self.server.address().clone(), tls: None };
        let Address::Tcp(address) = target.address else { return Err(RatioError::Wrong("wrk needs TCP")) };
        let ours = on_core(GENERATOR_CORE, || Self::ours(self.run, target))?;
        Ok(Pair { ours, rival: self.wrk(address)? })
    }
}

/// A gate with four counters for each payment: of the customer and of the merchant, by day and month.
pub(super) fn plan(merchants: usize, tls: bool, durability: &str) -> Result<Plan, RatioError> {
    let cast = Cast::new(merchants);
    let merchants = (0..cast.len()).map(|number| MerchantPlan {
        mchid: format!("19{number:08}"),
        kind: "ordinary".to_owned(),
        category: "retail".to_owned(),
        risk: "normal".to_owned(),
        suspended: number == cast.suspended(),
        revoked: number == cast.revoked(),
    });
    let limits: toml::Table = LIMITS.parse().map_err(RatioError::broken("limits"))?;
    Ok(Plan {
        merchants: merchants.collect(),
        limits: limits.get("limit").and_then(toml::Value::as_array).cloned().unwrap_or_default(),
        presets: Vec::new(),
        workers: 1,
        upstream: None,
        time_zone: "UTC".to_owned(),
        tls,
        socket: false,
        bounds: session::recorded(durability),
    })
}

const LIMITS: &str = r#"
[[limit]]
id = "customer"
per = ["customer"]
day_fen = 100000000
month_fen = 1000000000

[[limit]]
id = "merchant"
per = ["merchant"]
day_fen = 100000000000
month_fen = 1000000000000
"#;

/// What wrk sends as well.
pub const STATIC: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// The server has one core, the generator another.
pub(super) const SERVER_CORE: usize = 0;
pub(super) const GENERATOR_CORE: usize = 1;

const CONNECTIONS: usize = 64;
const CUSTOMERS: usize = 100_000;

/// Primes of a key: verified like any other, and signed ten times as fast.
pub(super) const PRIMES: usize = 16;

const PATIENCE: Duration = Duration::from_secs(10);
