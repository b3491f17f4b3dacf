//! Merchants: identity, keys, interfaces and measures, each checked by itself; the policy checks them together.

use std::time::Duration;

use crate::certificate::{self, Authority, Revocation};
use crate::front::PlatformKeys;
use crate::merchant::{AppSpec, KeyOrigin, KeySpec, KeyStatus, Measure, MerchantSpec, Network, Route, Routes};
use crate::signature::VerifyingKey;
use crate::time::UnixMillis;
use crate::types::{ApiV3Key, Interface, KeyId, Md5Rule, MerchantId, Scenario};

use super::bounds::{each, few, within};
use super::fault::{At, Fault, Problem, ROOT, listed};
use super::file::{Folder, PEM_BYTES_MAX};
use super::shape::{self, MeasureKind, Status, Table};

/// What the check of a merchant needs beside the merchant.
pub(super) struct Context<'c> {
    /// Where files are found.
    pub folder: Folder<'c>,
    /// Who issues API certificates.
    pub authority: Option<&'c Authority>,
    /// The platform's keys.
    pub platform: &'c PlatformKeys,
    /// The route table.
    pub routes: &'c Routes,
    /// The present instant.
    pub now: UnixMillis,
}

/// Checks the section `authority`. A list that is out of date is no mistake of the file: a reload that suspends a merchant
/// must not wait for one.
pub(super) fn authority(
    shape: Option<Table<shape::Authority>>,
    folder: Folder<'_>,
    now: UnixMillis,
) -> Result<Option<Authority>, Fault> {
    let Some(Table(shape)) = shape else { return Ok(None) };
    let section = ROOT.key("authority");
    let at = section.key("certificate_file");
    let pem = folder.text(&at, &shape.certificate_file, PEM_BYTES_MAX)?;
    let mut authority = Authority::from_pem(&pem)
        .map_err(|source| at.refuse(Problem::Certificate { path: folder.path(&shape.certificate_file), source }))?;
    few(&section.key("crl_files"), &shape.crl_files, CRL_FILES_MAX)?;
    let grace = Duration::from_secs(within(&section.key("crl_grace_s"), shape.crl_grace_s, 0..=CRL_GRACE_S_MAX)?);
    for (index, name) in shape.crl_files.iter().enumerate() {
        let at = section.item("crl_files", index);
        let list = folder.bytes(&at, name, CRL_BYTES_MAX)?;
        authority
            .add_list(&list, grace, now)
            .map_err(|source| at.refuse(Problem::RevocationList { path: folder.path(name), source }))?;
    }
    for list in authority.lists().filter(|list| list.until < now) {
        tracing::warn!(
            issuer = list.issuer,
            "the revocation list is out of date: requests signed with certificates of this issuer are refused"
        );
    }
    Ok(Some(authority))
}

/// Checks the sections `merchant`.
pub(super) fn check(shapes: Vec<Table<shape::Merchant>>, context: &Context<'_>) -> Result<Vec<MerchantSpec>, Fault> {
    each(&ROOT, "merchant", shapes, MERCHANTS_MAX, |at, shape| one(at, shape, context))
}

/// Checks a text for people.
pub(super) fn text(at: &At<'_>, found: String) -> Result<String, Fault> {
    let fits = (1..=TEXT_BYTES_MAX).contains(&found.len()) && !found.chars().any(char::is_control);
    if fits {
        Ok(found)
    } else {
        Err(at.refuse(Problem::Text { found, expected: "1 to 1024 bytes of text on one line" }))
    }
}

/// Checks the name of a category.
pub(super) fn category(at: &At<'_>, found: String) -> Result<String, Fault> {
    let plain = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '/');
    let fits = (1..=CATEGORY_BYTES_MAX).contains(&found.len()) && found.chars().all(plain);
    let expected = "1 to 64 bytes of letters, digits, `_`, `-`, `.` or `/`";
    if fits { Ok(found) } else { Err(at.refuse(Problem::Text { found, expected })) }
}

fn one(at: &At<'_>, shape: shape::Merchant, context: &Context<'_>) -> Result<MerchantSpec, Fault> {
    if let Some(id) = shape.platform_key.filter(|id| !context.platform.contains(*id)) {
        let known = listed(context.platform.iter().map(|key| key.serial()));
        let problem = Problem::Unknown { name: id.to_string(), known };
        return Err(at.key("platform_key").refuse(problem));
    }
    let apiv3 = shape.apiv3_key_file.map(|name| apiv3_key(&at.key("apiv3_key_file"), &name, context.folder));
    Ok(MerchantSpec {
        id: shape.mchid,
        name: text(&at.key("name"), shape.name)?,
        kind: shape.kind,
        category: category(&at.key("category"), shape.category)?,
        risk: shape.risk,
        sources: sources(at, &shape.sources)?,
        keys: each(at, "key", shape.key, ITEMS_MAX, |at, key| self::key(at, key, shape.mchid, context))?,
        apps: each(at, "interface", shape.interface, ITEMS_MAX, |at, app| interface(at, app, context.routes))?,
        measures: each(at, "measure", shape.measure, ITEMS_MAX, measure)?,
        apiv3_key: apiv3.transpose()?.map(ApiV3Key),
        platform_key: shape.platform_key,
    })
}

fn sources(at: &At<'_>, names: &[String]) -> Result<Vec<Network>, Fault> {
    few(&at.key("sources"), names, ITEMS_MAX)?;
    let network = |(index, name): (usize, &String)| {
        name.parse().map_err(|invalid: crate::types::Invalid| {
            let problem = Problem::Text { found: name.clone(), expected: invalid.expected };
            at.item("sources", index).refuse(problem)
        })
    };
    names.iter().enumerate().map(network).collect()
}

fn apiv3_key(at: &At<'_>, name: &str, folder: Folder<'_>) -> Result<[u8; 32], Fault> {
    characters(at, name, folder, "an APIv3 key of 32 ASCII characters")
}

/// Reads a secret of 32 ASCII characters.
fn characters(at: &At<'_>, name: &str, folder: Folder<'_>, expected: &'static str) -> Result<[u8; 32], Fault> {
    let text = folder.secret(at, name)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let key: Option<[u8; 32]> = text.as_bytes().try_into().ok();
    key.filter(|key| key.iter().all(u8::is_ascii_graphic))
        .ok_or_else(|| at.refuse(Problem::Content { path: folder.path(name), expected }))
}

fn key(at: &At<'_>, shape: shape::MerchantKey, merchant: MerchantId, context: &Context<'_>) -> Result<KeySpec, Fault> {
    let status = status(at, shape.status, shape.until)?;
    if let Some(name) = &shape.apiv2_key_file {
        let others = [
            ("certificate_file", shape.certificate_file.is_some()),
            ("id", shape.id.is_some()),
            ("public_key_file", shape.public_key_file.is_some()),
        ];
        if let Some((other, _)) = others.into_iter().find(|(_, given)| *given) {
            let remedy =
                "remove the key: an API v2 key is a secret by itself; give a certificate or public key its own entry";
            return Err(at.key(other).refuse(Problem::Unwanted { remedy }));
        }
        let secret =
            characters(&at.key("apiv2_key_file"), name, context.folder, "an API v2 key of 32 ASCII characters")?;
        let key = VerifyingKey::wechatpay_v2(secret, shape.md5.unwrap_or(Md5Rule::NoPayouts));
        return Ok(KeySpec { id: KeyId::API_V2, key, origin: KeyOrigin::Bare, status });
    }
    if shape.md5.is_some() {
        let remedy = "remove the key: it is about signatures made with an `apiv2_key_file`";
        return Err(at.key("md5").refuse(Problem::Unwanted { remedy }));
    }
    let (id, key, origin) = match (shape.certificate_file, shape.id, shape.public_key_file) {
        (Some(name), None, None) => certified(&at.key("certificate_file"), &name, merchant, context)?,
        (None, Some(id), Some(name)) => (id, bare(&at.key("public_key_file"), &name, context.folder)?, KeyOrigin::Bare),
        (Some(_), Some(_), _) => {
            let remedy = "remove the key: the id of a certificate is its serial";
            return Err(at.key("id").refuse(Problem::Unwanted { remedy }));
        }
        (Some(_), None, Some(_)) => {
            let remedy = "remove the key: the certificate holds the public key";
            return Err(at.key("public_key_file").refuse(Problem::Unwanted { remedy }));
        }
        (None, None, None) => {
            let remedy = "add it, or `id` and `public_key_file`, or `apiv2_key_file`";
            return Err(at.key("certificate_file").refuse(Problem::Missing { remedy }));
        }
        (None, None, Some(_)) => {
            return Err(at.key("id").refuse(Problem::Missing { remedy: "add the id by which requests name this key" }));
        }
        (None, Some(_), None) => {
            let remedy = "add the file of the public key";
            return Err(at.key("public_key_file").refuse(Problem::Missing { remedy }));
        }
    };
    Ok(KeySpec { id, key, origin, status })
}

fn status(at: &At<'_>, status: Status, until: Option<shape::Instant>) -> Result<KeyStatus, Fault> {
    let until_at = at.key("until");
    match (status, until) {
        (Status::Active, None) => Ok(KeyStatus::Active),
        (Status::Revoked, None) => Ok(KeyStatus::Revoked),
        (Status::Retiring, Some(until)) => Ok(KeyStatus::Retiring { until: until.0 }),
        (Status::Retiring, None) => {
            let remedy = "add the instant from which the key no longer counts, such as \"2026-12-01T00:00:00+08:00\"";
            Err(until_at.refuse(Problem::Missing { remedy }))
        }
        (Status::Active | Status::Revoked, Some(_)) => {
            Err(until_at.refuse(Problem::Unwanted { remedy: "remove the key, or write status = \"retiring\"" }))
        }
    }
}

fn certified(
    at: &At<'_>,
    name: &str,
    merchant: MerchantId,
    context: &Context<'_>,
) -> Result<(KeyId, VerifyingKey, KeyOrigin), Fault> {
    let path = || context.folder.path(name);
    let unusable = |source| at.refuse(Problem::Certificate { path: path(), source });
    let Some(authority) = context.authority else {
        let remedy = "add [authority] with the `certificate_file` of who issued this certificate";
        return Err(at.refuse(Problem::Unwanted { remedy }));
    };
    let pem = context.folder.text(at, name, PEM_BYTES_MAX)?;
    let der = certificate::pem_to_der(&pem, "CERTIFICATE").map_err(unusable)?;
    let checked = authority.check_ignoring_validity(&der, context.now).map_err(unusable)?;
    if checked.merchant != merchant {
        return Err(at.refuse(Problem::ForeignCertificate {
            path: path(),
            found: checked.merchant,
            expected: merchant,
        }));
    }
    let key = VerifyingKey::from_spki_der(&checked.spki_der)
        .map_err(|source| at.refuse(Problem::Key { path: path(), source }))?;
    let certificate::Checked { serial, not_before, not_after, revocation, .. } = checked;
    if revocation == Revocation::Unlisted {
        return Err(unusable(certificate::Error::Unlisted));
    }
    Ok((serial, key, KeyOrigin::Certificate { not_before, not_after, revocation }))
}

fn bare(at: &At<'_>, name: &str, folder: Folder<'_>) -> Result<VerifyingKey, Fault> {
    let pem = folder.text(at, name, PEM_BYTES_MAX)?;
    VerifyingKey::from_pem(&pem).map_err(|source| at.refuse(Problem::Key { path: folder.path(name), source }))
}

fn interface(at: &At<'_>, shape: shape::MerchantInterface, routes: &Routes) -> Result<AppSpec, Fault> {
    let fits = scenarios(shape.kind);
    if !fits.contains(&shape.scenario) {
        let problem = Problem::Scenario { interface: shape.kind, scenario: shape.scenario, fits };
        return Err(at.key("scenario").refuse(problem));
    }
    few(&at.key("appids"), &shape.appids, ITEMS_MAX)?;
    let mut of_kind = routes.iter().filter(|route| route.interfaces.contains(&shape.kind)).peekable();
    let names_appid = |route: &Route| route.pointers.appid.is_some();
    if shape.appids.is_empty() && of_kind.peek().is_some() && of_kind.all(names_appid) {
        let remedy = "add the appids used with it: requests of this kind name one, and others are refused";
        return Err(at.key("appids").refuse(Problem::Missing { remedy }));
    }
    for (index, appid) in shape.appids.iter().enumerate() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=APPID_BYTES_MAX).contains(&appid.len()) || !appid.bytes().all(plain) {
            let expected = "1 to 32 letters, digits, `_` or `-`";
            return Err(at.item("appids", index).refuse(Problem::Text { found: appid.clone(), expected }));
        }
    }
    Ok(AppSpec { interface: shape.kind, scenario: shape.scenario, appids: shape.appids })
}

/// Returns the scenarios that a kind of interface can be approved for.
fn scenarios(interface: Interface) -> &'static [Scenario] {
    match interface {
        Interface::Jsapi => &[Scenario::Offline, Scenario::OfficialAccount, Scenario::PcSite],
        Interface::MiniProgram => &[Scenario::MiniProgram],
        Interface::Native => &[Scenario::PcSite, Scenario::Offline],
        Interface::App => &[Scenario::App],
        Interface::H5 => &[Scenario::MobileWeb],
        Interface::PaymentCode | Interface::Face => &[Scenario::Offline],
    }
}

fn measure(at: &At<'_>, shape: shape::Measure) -> Result<Measure, Fault> {
    text(&at.key("author"), shape.author)?;
    text(&at.key("reason"), shape.reason)?;
    let taken = match shape.kind {
        MeasureKind::LimitFactor => Some("permille"),
        MeasureKind::RestrictedChannel => Some("channel"),
        MeasureKind::RestrictedScenario => Some("scenario"),
        MeasureKind::Warning | MeasureKind::Suspended | MeasureKind::PaymentClosed | MeasureKind::Terminated => None,
    };
    let given = [
        ("permille", shape.permille.is_some()),
        ("channel", shape.channel.is_some()),
        ("scenario", shape.scenario.is_some()),
    ];
    if let Some((name, _)) = given.into_iter().find(|(name, given)| *given && taken != Some(*name)) {
        return Err(at
            .key(name)
            .refuse(Problem::Unwanted { remedy: "remove the key: this kind of measure takes none" }));
    }
    let missing = |name, remedy| at.key(name).refuse(Problem::Missing { remedy });
    Ok(match shape.kind {
        MeasureKind::Warning => Measure::Warning,
        MeasureKind::Suspended => Measure::Suspended,
        MeasureKind::PaymentClosed => Measure::PaymentClosed,
        MeasureKind::Terminated => Measure::Terminated,
        MeasureKind::LimitFactor => {
            let permille = shape.permille;
            let permille =
                permille.ok_or_else(|| missing("permille", "add the thousandths of each ceiling that remain"))?;
            Measure::LimitFactor { permille: within(&at.key("permille"), permille, 0..=1000)? }
        }
        MeasureKind::RestrictedChannel => {
            let channel = shape.channel;
            Measure::RestrictedChannel(channel.ok_or_else(|| missing("channel", "add the channel to close"))?)
        }
        MeasureKind::RestrictedScenario => {
            let scenario = shape.scenario;
            Measure::RestrictedScenario(scenario.ok_or_else(|| missing("scenario", "add the scenario to close"))?)
        }
    })
}

/// Most merchants.
const MERCHANTS_MAX: usize = 100_000;

/// Most files of revocation lists: one of each issuer.
const CRL_FILES_MAX: usize = certificate::AUTHORITY_CERTIFICATES_MAX;

/// Largest file of a revocation list, in bytes.
const CRL_BYTES_MAX: u64 = certificate::LIST_FILE_BYTES_MAX as u64;

/// Longest time that a revocation list may count after its nextUpdate, in seconds: a week.
const CRL_GRACE_S_MAX: u64 = 7 * 86_400;

/// Most keys, interfaces, measures or sources of one merchant, and appids of one interface.
const ITEMS_MAX: usize = 64;

/// Longest text for people, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Longest name of a category, in bytes.
const CATEGORY_BYTES_MAX: usize = 64;

/// Longest appid, in bytes.
const APPID_BYTES_MAX: usize = 32;
