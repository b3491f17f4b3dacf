//! `tollgate explain`: how a gate would decide a request, by a gate that runs or by a configuration alone.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use super::control::{self, Client, ControlError, target};
use crate::admin::EXPLAIN_BYTES_MAX;
use crate::front::Address;
use crate::server::explain_offline;
use crate::time::{Clock, SystemClock};

/// Which request is explained, and by whom.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    by: By,
    /// A file of one HTTP/1.1 request: its first line, headers, an empty line, the body.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Read it as a listener of kind trusted_hop would, which believes its Tollgate- headers.
    #[arg(long)]
    trusted_hop: bool,
}

/// Who explains it.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct By {
    /// A running gate, as its tables stand, by its control listener: IP:PORT or unix:PATH.
    #[arg(long, value_name = "ADDR", value_parser = control::address)]
    control: Option<Address>,
    /// A configuration alone: no gate need run, and nothing is used of any limit.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Shows the explanation.
pub(super) fn run(options: &Options, out: &mut dyn Write) -> Result<(), Failure> {
    let request = read(&options.request)?;
    let text = options.by.explain(request, options.trusted_hop)?;
    out.write_all(&text).and_then(|()| out.flush()).map_err(ControlError::Local)?;
    Ok(())
}

impl By {
    fn explain(&self, request: Vec<u8>, trusted_hop: bool) -> Result<Vec<u8>, Failure> {
        match (&self.control, &self.config) {
            (Some(address), _) => {
                let trusted_hop = if trusted_hop { "true" } else { "false" };
                let target = target("/v1/explain", &[("trusted_hop", Some(trusted_hop))]);
                Ok(Client::new(address.clone())?.post(&target, request)?)
            }
            (None, Some(config)) => explain_offline(config, &request, trusted_hop, SystemClock.now())
                .map(String::into_bytes)
                .map_err(Failure::Unexplained),
            (None, None) => Err(ControlError::NoPlace.into()),
        }
    }
}

/// Reads a request that is not longer than a gate explains.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failure = |source| Failure::Request { path: path.to_owned(), source };
    let bytes_max = u64::try_from(EXPLAIN_BYTES_MAX).unwrap_or(u64::MAX);
    let mut request = Vec::new();
    let read = File::open(path).map_err(failure)?.take(bytes_max.saturating_add(1)).read_to_end(&mut request);
    if read.map_err(failure)? > EXPLAIN_BYTES_MAX {
        return Err(Failure::RequestLong { path: path.to_owned() });
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Asked, Running};
    use crate::cli::tests::output;

    #[test]
    fn a_request_is_sent_as_the_file_has_it_and_the_answer_shown() {
        let gate = Running::usual();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("request.http");
        let (at, file) = (gate.address.to_string(), path.to_str().expect("text"));
        let line = ["explain", "--control", &at, "--request", file];
        std::fs::write(&path, b"GET /\0\xff").expect("written");
        assert_eq!(output(&line), Ok("admitted\n".to_owned()));
        assert_eq!(output(&[line.as_slice(), &["--trusted-hop"]].concat()), Ok("admitted\n".to_owned()));
        let asked = |trusted_hop| Asked::Explain(b"GET /\0\xff".to_vec(), trusted_hop);
        assert_eq!(gate.control.asked(), [asked(false), asked(true)]);
        std::fs::write(&path, "nonsense").expect("written");
        let refused = output(&line).expect_err("refused");
        assert_eq!(refused, "the gate answered 400 Bad Request: begin with a method");
        gate.stop();
    }

    #[test]
    fn exactly_one_of_gate_and_configuration_explains() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("request.http");
        std::fs::write(&path, "GET / HTTP/1.1\n\n").expect("written");
        let file = path.to_str().expect("text");
        for by in [&[][..], &["--control", "127.0.0.1:1", "--config", file]] {
            let refused = output(&[&["explain", "--request", file], by].concat()).expect_err("refused");
            assert!(refused.contains("--control") && refused.contains("--config"), "{refused}");
        }
        let broken = output(&["explain", "--request", file, "--config", file]).expect_err("no configuration");
        assert!(broken.contains("request.http"), "{broken}");
    }

    #[test]
    fn a_request_longer_than_the_bound_is_refused_before_it_is_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("request.http");
        for (bytes, fits) in [(EXPLAIN_BYTES_MAX, true), (EXPLAIN_BYTES_MAX + 1, false)] {
            std::fs::write(&path, vec![b'x'; bytes]).expect("written");
            assert_eq!(read(&path).is_ok(), fits, "{bytes}");
        }
        let missing = read(&folder.path().join("missing")).expect_err("no file");
        assert!(missing.to_string().contains("missing"), "{missing}");
    }
}
