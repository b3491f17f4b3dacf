//! One gate by two versions of HTTP: many streams on few connections, and one request at a time on many. h2load sends
//! both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

use super::http::{GENERATOR_CORE, PRIMES, SERVER_CORE, plan};
use super::{Better, Contest, Entry, NotReady, Pair, RatioError, Size};
use crate::apt;
use crate::deployment::{Deployment, Gate};
use crate::pool::{self, Signing};
use crate::traffic::{Channel, Planned};
use crate::wire::Address;

/// Returns the row; the gate is a child of this program. With `install`, h2load is fetched first where it is missing.
pub fn entries(size: Size, program: &Path, install: bool) -> Vec<Entry> {
    let program = Rc::new(program.to_owned());
    let row = Entry::new("http2.check_vs_http1", move || {
        if install && is_missing() {
            apt::install([PACKAGE].into_iter()).map_err(RatioError::broken("apt-get"))?;
        }
        if is_missing() {
            return Err(NotReady::Skipped(format!("{PACKAGE} is not installed; --install fetches it")));
        }
        Ok(Versions::new(size, &program)?)
    });
    vec![row]
}

fn is_missing() -> bool {
    Command::new("h2load").arg("--version").output().is_err()
}

/// A gate that gets one request of each round many times: verified each time, counted once.
struct Versions {
    requests: usize,
    gate: Gate,
    address: SocketAddr,
    body_file: PathBuf,
    deployment: Deployment,
    random: StdRng,
}

/// A request, apart.
struct Parts {
    target: String,
    /// Each a name, a colon and a value.
    fields: Vec<String>,
    body: Vec<u8>,
}

impl Versions {
    fn new(size: Size, program: &Path) -> Result<Self, RatioError> {
        let requests = if size == Size::Full { 20_000 } else { 256 };
        let mut random = StdRng::seed_from_u64(crate::now_s().unsigned_abs());
        let deployment = Deployment::write(&plan(3, false, "process")?, PRIMES, &mut random);
        let deployment = deployment.map_err(RatioError::broken("the configuration of a gate"))?;
        let gate = Gate::start(program, &deployment, Some(SERVER_CORE)).map_err(RatioError::broken("a gate"))?;
        let Some(Address::Tcp(address)) = gate.address("check").cloned() else {
            return Err(RatioError::Wrong("the gate has no listener `check` by TCP"));
        };
        let body_file = deployment.folder.path().join("h2load.body");
        Ok(Self { requests, gate, address, body_file, deployment, random })
    }

    /// Signs a request for a round: what was signed for the first is stale before the last.
    fn sign(&mut self) -> Result<Parts, RatioError> {
        let planned = Planned { channel: Channel::QuickPay, amount_fen: 1, ..Planned::nothing() };
        let signing = Signing {
            merchants: &self.deployment.merchants,
            starts_s: crate::now_s(),
            run: self.random.random(),
            appid: Deployment::appid(),
            facts: true,
        };
        let (signed, _) = pool::sign(&[planned], signing, 1);
        let request = signed.first().and_then(|one| apart(&one.bytes));
        let request = request.ok_or(RatioError::Wrong("a request that was signed cannot be read"))?;
        std::fs::write(&self.body_file, &request.body).map_err(RatioError::broken("a body"))?;
        Ok(request)
    }

    /// Returns how many requests the gate answered a second of its processor time.
    fn rate(&self, request: &Parts, how: &[&str]) -> Result<f64, RatioError> {
        let cpu = || self.gate.cpu_seconds().map_err(RatioError::broken("processor time"));
        let before = cpu()?;
        let mut command = Command::new("taskset");
        command.args(["-c", &GENERATOR_CORE.to_string(), "h2load", "-t", "1", "-n", &self.requests.to_string()]);
        command.args(how).arg("-d").arg(&self.body_file);
        for field in &request.fields {
            command.args(["-H", field]);
        }
        let output = command.arg(format!("http://{}{}", self.address, request.target)).output();
        let output = output.map_err(RatioError::broken("h2load"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let wanted = format!("status codes: {} 2xx, ", self.requests);
        RatioError::check(text.contains(&wanted), "h2load met an answer that should be 200")?;
        Ok(self.requests as f64 / (cpu()? - before))
    }
}

impl Contest for Versions {
    fn rival_name(&self) -> &'static str {
        "the same gate by HTTP/1.1"
    }

    fn unit(&self) -> &'static str {
        "requests per second of processor time"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let request = self.sign()?;
        let ours = self.rate(&request, &["-c", "8", "-m", "8"])?;
        Ok(Pair { ours, rival: self.rate(&request, &["--h1", "-c", "64"])? })
    }
}

/// Takes a request of HTTP/1.1 apart, but for the fields that whoever sends it makes.
fn apart(bytes: &[u8]) -> Option<Parts> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at(end);
    let mut lines = str::from_utf8(head).ok()?.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let made = |field: &&str| {
        let name = field.split(':').next().unwrap_or_default();
        !["host", "content-length"].iter().any(|own| name.eq_ignore_ascii_case(own))
    };
    Some(Parts { target, fields: lines.filter(made).map(str::to_owned).collect(), body: body.get(4..)?.to_vec() })
}

/// The package that h2load is in.
const PACKAGE: &str = "nghttp2-client";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_apart() {
        let parts = apart(b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nX: y: z\r\ncontent-length: 2\r\n\r\nhi").expect("parts");
        assert_eq!((parts.target.as_str(), parts.body.as_slice()), ("/a?b=c", b"hi".as_slice()));
        assert_eq!(parts.fields, ["X: y: z"]);
    }
}
