//! The gate as a whole: threads, calendar, secret, routes.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use crate::merchant::{CertificateDemand, Routes};
use crate::prf::{DEPLOYMENT_KEY_BYTES, DeploymentKey};

use super::bounds::within;
use super::fault::{At, Fault, Problem, ROOT, listed};
use super::file::{Folder, ROUTES_BYTES_MAX};
use super::shape::{self, Table};

/// What concerns the gate as a whole, checked.
pub(super) struct Gate {
    pub workers: usize,
    pub zone: TimeZone,
    pub deployment_key: DeploymentKey,
    pub routes: Routes,
}

/// Checks the section `gate`.
pub(super) fn check(shape: shape::Gate, folder: Folder<'_>) -> Result<Gate, Fault> {
    let at = ROOT.key("gate");
    let workers: usize = within(&at.key("workers"), shape.workers, 0..=WORKERS_MAX)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let zone = time_zone(&at.key("time_zone"), &shape.time_zone)?;
    Ok(Gate {
        workers: if workers == 0 { cores() } else { workers },
        zone,
        deployment_key: deployment_key(&at.key("key_file"), &shape.key_file, folder)?,
        routes: table(&at.key("routes_file"), shape.routes_file.as_deref(), folder)?,
    })
}

/// Applies the sections `route` to the table, and checks that what it demands can be shown.
pub(super) fn routes(
    mut routes: Routes,
    overrides: Vec<Table<shape::Route>>,
    authority: bool,
) -> Result<Routes, Fault> {
    let mut seen = HashMap::new();
    for (index, Table(route)) in overrides.into_iter().enumerate() {
        let item = ROOT.item("route", index);
        let at = item.key("id");
        if !routes.demand(&route.id, route.certificate) {
            let known = listed(routes.iter().map(|route| &route.id));
            return Err(at.refuse(Problem::Unknown { name: route.id, known }));
        }
        if !routes.can_demand(&route.id, route.certificate) {
            let remedy =
                "write \"mtls\" or \"none\": this route is signed with a secret, which no certificate vouches for";
            return Err(item.key("certificate").refuse(Problem::Unwanted { remedy }));
        }
        if route.certificate == CertificateDemand::Mtls && !authority {
            let remedy = "add [authority] with the `certificate_file` of who issues the certificates of TLS peers";
            return Err(item.key("certificate").refuse(Problem::Unwanted { remedy }));
        }
        if let Some(first) = seen.insert(route.id.clone(), index) {
            let first = ROOT.item("route", first).to_string();
            return Err(at.refuse(Problem::Duplicate { value: route.id, first }));
        }
    }
    Ok(routes)
}

/// Reads the IANA name of a time zone.
pub(super) fn time_zone(at: &At<'_>, name: &str) -> Result<TimeZone, Fault> {
    let expected = "the IANA name of a time zone, such as \"Asia/Shanghai\"";
    TimeZone::get(name).map_err(|_| at.refuse(Problem::Text { found: name.to_owned(), expected }))
}

fn table(at: &At<'_>, name: Option<&str>, folder: Folder<'_>) -> Result<Routes, Fault> {
    let Some(name) = name else {
        return Routes::standard().map_err(|error| at.refuse(Problem::StandardRoutes(error)));
    };
    let text = folder.text(at, name, ROUTES_BYTES_MAX)?;
    Routes::from_json(&text).map_err(|source| at.refuse(Problem::Routes { path: folder.path(name), source }))
}

fn deployment_key(at: &At<'_>, name: &str, folder: Folder<'_>) -> Result<DeploymentKey, Fault> {
    let text = folder.secret(at, name)?;
    let key = hex(text.trim_end()).ok_or_else(|| {
        at.refuse(Problem::Content { path: folder.path(name), expected: "a secret of 64 hexadecimal digits" })
    })?;
    Ok(DeploymentKey::new(key))
}

fn hex(text: &str) -> Option<[u8; DEPLOYMENT_KEY_BYTES]> {
    if text.len() != 2 * DEPLOYMENT_KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; DEPLOYMENT_KEY_BYTES];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(key)
}

/// Most worker threads.
const WORKERS_MAX: u64 = 1024;
