//! The configuration file: what a new one says, changed to what is planned.

use toml::value::Array;
use toml::{Table, Value};

use super::{DeploymentError, MerchantPlan, Plan};

/// An interface that every merchant is approved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approved {
    /// The kind of interface.
    pub kind: &'static str,
    /// The scenario it is approved for.
    pub scenario: &'static str,
    /// The appid used with it; of all merchants the same.
    pub appid: &'static str,
}

/// Changes a new configuration to what is planned.
pub(super) fn write(mut table: Table, plan: &Plan) -> Result<Table, DeploymentError> {
    let workers = i64::try_from(plan.workers).unwrap_or(i64::MAX);
    let gate = section(&mut table, "gate")?;
    gate.insert("workers".to_owned(), workers.into());
    gate.insert("time_zone".to_owned(), plan.time_zone.clone().into());
    gate.insert("presets".to_owned(), plan.presets.clone().into());
    match &plan.upstream {
        Some(address) => section(&mut table, "upstream")?.insert("address".to_owned(), address.clone().into()),
        None => table.remove("upstream"),
    };
    for (name, keys) in &plan.bounds {
        let keys = keys.as_table().ok_or_else(|| DeploymentError::NoSection(name.clone()))?;
        section(&mut table, name)?.extend(keys.clone());
    }
    table.insert("limit".to_owned(), plan.limits.clone().into());
    table.insert("listener".to_owned(), listeners(plan).into());
    table.insert("merchant".to_owned(), plan.merchants.iter().map(merchant).collect::<Array>().into());
    Ok(table)
}

/// Returns the file of a merchant's certificate, from the folder of the configuration.
pub(super) fn certificate_file(mchid: &str) -> String {
    format!("merchants/{mchid}.pem")
}

/// Returns a section, a new one where there is none.
fn section<'t>(table: &'t mut Table, name: &str) -> Result<&'t mut Table, DeploymentError> {
    let section = table.entry(name).or_insert_with(|| Table::new().into());
    section.as_table_mut().ok_or_else(|| DeploymentError::NoSection(name.to_owned()))
}

fn listeners(plan: &Plan) -> Array {
    let listener = |(name, kind, mode): (&str, &str, Option<&str>)| {
        let address = if plan.socket { format!("unix:{name}.sock") } else { "127.0.0.1:0".to_owned() };
        let mut keys = keys([("name", name), ("kind", kind), ("address", &address)]);
        if let Some(mode) = mode {
            keys.extend(self::keys([("mode", mode)]));
        }
        if plan.tls && kind != "control" {
            keys.extend(self::keys([
                ("tls_certificate_file", "tls/certificate.pem"),
                ("tls_key_file", "tls/private_key.pem"),
            ]));
        }
        Value::from(keys)
    };
    let all = LISTENERS.into_iter().filter(|(.., mode)| plan.upstream.is_some() || *mode != Some("proxy"));
    all.map(listener).collect()
}

fn merchant(plan: &MerchantPlan) -> Value {
    let MerchantPlan { mchid, kind, category, risk, suspended, revoked } = plan;
    let mut merchant =
        keys([("mchid", mchid), ("name", "A merchant"), ("kind", kind), ("category", category), ("risk", risk)]);
    let status = if *revoked { "revoked" } else { "active" };
    let key = keys([("certificate_file", &certificate_file(mchid)), ("status", status)]);
    merchant.insert("key".to_owned(), vec![Value::from(key)].into());
    let interfaces = APPROVED.iter().map(|Approved { kind, scenario, appid }| {
        let mut interface = keys([("kind", kind), ("scenario", scenario)]);
        interface.insert("appids".to_owned(), vec![Value::from(*appid)].into());
        Value::from(interface)
    });
    merchant.insert("interface".to_owned(), interfaces.collect::<Array>().into());
    if *suspended {
        let since = "2026-01-01T00:00:00+08:00";
        let measure = keys([("kind", "suspended"), ("author", "load"), ("reason", "as planned"), ("since", since)]);
        merchant.insert("measure".to_owned(), vec![Value::from(measure)].into());
    }
    merchant.into()
}

fn keys<const N: usize>(keys: [(&str, &str); N]) -> Table {
    keys.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// What every merchant is approved for, each under an appid of its own.
pub const APPROVED: [Approved; 10] = [
    Approved { kind: "jsapi", scenario: "official_account", appid: "wx0000000000000001" },
    Approved { kind: "jsapi", scenario: "offline", appid: "wx0000000000000002" },
    Approved { kind: "jsapi", scenario: "pc_site", appid: "wx0000000000000003" },
    Approved { kind: "mini_program", scenario: "mini_program", appid: "wx0000000000000004" },
    Approved { kind: "native", scenario: "pc_site", appid: "wx0000000000000005" },
    Approved { kind: "native", scenario: "offline", appid: "wx0000000000000006" },
    Approved { kind: "app", scenario: "app", appid: "wx0000000000000007" },
    Approved { kind: "h5", scenario: "mobile_web", appid: "wx0000000000000008" },
    Approved { kind: "payment_code", scenario: "offline", appid: "wx0000000000000009" },
    Approved { kind: "face", scenario: "offline", appid: "wx0000000000000010" },
];

/// The authority of API certificates.
pub(super) const AUTHORITY_FILE: &str = "authority/certificate.pem";

/// Name, kind and mode of every listener.
const LISTENERS: [(&str, &str, Option<&str>); 5] = [
    ("public", "public", Some("proxy")),
    ("hop", "trusted_hop", Some("proxy")),
    ("check", "trusted_hop", Some("check")),
    ("open", "public", Some("check")),
    ("control", "control", None),
];
