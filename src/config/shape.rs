//! The shape of the file: which sections and keys exist, of which type, with which defaults. What they mean is
//! checked elsewhere.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::front::Bounds;
use crate::journal::Durability;
use crate::merchant::{CertificateDemand, ExpiryRule, HoldRules, Refunds, SubjectPart, UnknownSubject};
use crate::time::UnixMillis;
use crate::types::{
    AccountClass, Authentication, Channel, CodeGrade, Instrument, Interface, KeyId, LimitMode, Md5Rule, MerchantId,
    MerchantKind, Risk, Scenario, Unit,
};

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    pub gate: Table<Gate>,
    #[serde(default)]
    pub listener: Vec<Table<Listener>>,
    pub upstream: Option<Table<Upstream>>,
    #[serde(default)]
    pub bounds: Table<FrontBounds>,
    pub platform: Table<Platform>,
    pub authority: Option<Table<Authority>>,
    #[serde(default)]
    pub replay: Table<Replay>,
    #[serde(default)]
    pub orders: Table<Orders>,
    #[serde(default)]
    pub rows: Table<Rows>,
    pub journal: Option<Table<Journal>>,
    #[serde(default)]
    pub merchant: Vec<Table<Merchant>>,
    #[serde(default)]
    pub limit: Vec<Table<Limit>>,
    #[serde(default)]
    pub route: Vec<Table<Route>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    #[serde(default)]
    pub workers: u64,
    #[serde(default = "time_zone")]
    pub time_zone: String,
    pub key_file: String,
    pub routes_file: Option<String>,
    #[serde(default)]
    pub presets: Vec<Preset>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
pub(super) enum Preset {
    #[serde(rename = "t10_micro_merchants")]
    T10MicroMerchants,
    #[serde(rename = "t8_categories")]
    T8Categories,
    #[serde(rename = "pboc_43")]
    Pboc43,
    #[serde(rename = "bar_code_grades")]
    BarCodeGrades,
}

/// The file of a preset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub limit: Vec<Table<Limit>>,
}

fn time_zone() -> String {
    "Asia/Shanghai".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub name: String,
    pub kind: ListenerKind,
    pub mode: Option<Mode>,
    pub address: String,
    pub tls_certificate_file: Option<String>,
    pub tls_key_file: Option<String>,
    pub tls_versions: Option<Vec<TlsVersion>>,
    pub http2: Option<bool>,
    pub client_certificate_header: Option<String>,
    pub client_certificate_form: Option<CertificateForm>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum CertificateForm {
    Rfc9440,
    UrlEncodedPem,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ListenerKind {
    Public,
    TrustedHop,
    Control,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    Proxy,
    Check,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
pub(super) enum TlsVersion {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub address: String,
    pub host: Option<String>,
    #[serde(default = "number::<1000>")]
    pub connect_timeout_ms: u64,
    #[serde(default = "number::<10_000>")]
    pub answer_timeout_ms: u64,
    #[serde(default = "number::<64>")]
    pub idle_connections_max: u64,
    #[serde(default = "number::<512>")]
    pub connections_max: u64,
    #[serde(default = "number::<1_048_576>")]
    pub answer_bytes_max: u64,
    #[serde(default = "number::<67_108_864>")]
    pub answers_bytes_max: u64,
}

fn number<const N: u64>() -> u64 {
    N
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FrontBounds {
    pub head_bytes_max: u64,
    pub headers_max: u64,
    pub body_bytes_max: u64,
    pub bodies_bytes_max: u64,
    pub connections_max: u64,
    pub connections_per_peer_max: u64,
    pub requests_per_connection_max: u64,
    pub h2_streams_max: u64,
    pub h2_resets_max: u64,
    pub h2_frames_max: u64,
    pub handshakes_max: u64,
    pub handshake_timeout_ms: u64,
    pub head_timeout_ms: u64,
    pub body_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub drain_timeout_ms: u64,
}

impl Default for FrontBounds {
    fn default() -> Self {
        let bounds = Bounds::default();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            head_bytes_max: count(bounds.head_bytes_max),
            headers_max: count(bounds.headers_max),
            body_bytes_max: count(bounds.body_bytes_max),
            bodies_bytes_max: count(bounds.bodies_bytes_max),
            connections_max: count(bounds.connections_max),
            connections_per_peer_max: count(bounds.connections_per_peer_max),
            requests_per_connection_max: bounds.requests_per_connection_max,
            h2_streams_max: u64::from(bounds.h2_streams_max),
            h2_resets_max: bounds.h2_resets_max,
            h2_frames_max: bounds.h2_frames_max,
            handshakes_max: count(bounds.handshakes_max),
            handshake_timeout_ms: millis(bounds.handshake_timeout),
            head_timeout_ms: millis(bounds.head_timeout),
            body_timeout_ms: millis(bounds.body_timeout),
            idle_timeout_ms: millis(bounds.idle_timeout),
            write_timeout_ms: millis(bounds.write_timeout),
            drain_timeout_ms: millis(bounds.drain_timeout),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Platform {
    pub default_key: Option<KeyId>,
    #[serde(default = "number::<2>")]
    pub signing_threads: u64,
    #[serde(default = "number::<1024>")]
    pub signing_queue_max: u64,
    #[serde(default)]
    pub key: Vec<Table<PlatformKey>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformKey {
    pub kind: PlatformKeyKind,
    pub id: Option<KeyId>,
    pub certificate_file: Option<String>,
    pub private_key_file: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PlatformKeyKind {
    Certificate,
    PublicKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authority {
    pub certificate_file: String,
    #[serde(default)]
    pub crl_files: Vec<String>,
    #[serde(default)]
    pub crl_grace_s: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Replay {
    pub tolerance_s: u64,
    pub nonces_max: u64,
    pub nonces_per_merchant_max: u64,
}

impl Default for Replay {
    fn default() -> Self {
        Self { tolerance_s: 300, nonces_max: 4_000_000, nonces_per_merchant_max: 1_000_000 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Orders {
    pub orders_max: u64,
    pub orders_per_merchant_max: u64,
    pub hold_s: u64,
    pub keep_s: u64,
    pub on_expiry: ExpiryRule,
}

impl Default for Orders {
    fn default() -> Self {
        let HoldRules { hold_s, on_expiry } = HoldRules::default();
        let hold_s = hold_s.into();
        Self { orders_max: 2_000_000, orders_per_merchant_max: 500_000, hold_s, keep_s: 86_400, on_expiry }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rows {
    pub rows_max: u64,
    pub rows_per_merchant_max: u64,
}

impl Default for Rows {
    fn default() -> Self {
        Self { rows_max: 4_000_000, rows_per_merchant_max: 1_000_000 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    pub folder: String,
    #[serde(default = "disk")]
    pub durability: Durability,
    #[serde(default = "number::<250>")]
    pub exposure_ms: u64,
    #[serde(default = "number::<100_000_000>")]
    pub exposure_fen: u64,
    #[serde(default = "number::<16_777_216>")]
    pub segment_bytes: u64,
    #[serde(default = "number::<1_048_576>")]
    pub reserve_bytes: u64,
    #[serde(default = "number::<2_592_000>")]
    pub keep_s: u64,
    #[serde(default = "number::<17_179_869_184>")]
    pub keep_bytes: u64,
    #[serde(default = "number::<10_000>")]
    pub step_back_ms_max: u64,
    #[serde(default)]
    pub accept_missing: bool,
}

fn disk() -> Durability {
    Durability::Disk
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Merchant {
    pub mchid: MerchantId,
    pub name: String,
    pub kind: MerchantKind,
    pub category: String,
    #[serde(default = "normal")]
    pub risk: Risk,
    #[serde(default)]
    pub sources: Vec<String>,
    pub apiv3_key_file: Option<String>,
    pub platform_key: Option<KeyId>,
    #[serde(default)]
    pub key: Vec<Table<MerchantKey>>,
    #[serde(default)]
    pub interface: Vec<Table<MerchantInterface>>,
    #[serde(default)]
    pub measure: Vec<Table<Measure>>,
}

fn normal() -> Risk {
    Risk::Normal
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MerchantKey {
    pub certificate_file: Option<String>,
    pub id: Option<KeyId>,
    pub public_key_file: Option<String>,
    pub apiv2_key_file: Option<String>,
    pub md5: Option<Md5Rule>,
    pub status: Status,
    pub until: Option<Instant>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Active,
    Retiring,
    Revoked,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MerchantInterface {
    pub kind: Interface,
    pub scenario: Scenario,
    #[serde(default)]
    pub appids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measure {
    pub kind: MeasureKind,
    pub permille: Option<u64>,
    pub channel: Option<Channel>,
    pub scenario: Option<Scenario>,
    pub author: String,
    pub reason: String,
    /// Read so that it is an instant: who asks later must be told when.
    #[serde(rename = "since")]
    pub _since: Instant,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum MeasureKind {
    Warning,
    LimitFactor,
    RestrictedChannel,
    RestrictedScenario,
    Suspended,
    PaymentClosed,
    Terminated,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    pub id: String,
    #[serde(default)]
    pub when: Table<When>,
    pub per: Vec<SubjectPart>,
    #[serde(default)]
    pub unknown_subject: UnknownSubject,
    pub zone: Option<String>,
    #[serde(default)]
    pub cut_over_hour: u64,
    #[serde(default = "fen")]
    pub unit: Unit,
    pub transaction_fen: Option<u64>,
    pub day_fen: Option<u64>,
    pub month_fen: Option<u64>,
    pub year_fen: Option<u64>,
    pub lifetime_fen: Option<u64>,
    pub day_count: Option<u64>,
    pub month_count: Option<u64>,
    pub year_count: Option<u64>,
    pub lifetime_count: Option<u64>,
    #[serde(default = "enforce")]
    pub mode: LimitMode,
    pub durability: Option<Durability>,
    #[serde(default)]
    pub refund: Refunds,
    #[serde(default)]
    pub risk_factor_permille: Table<RiskFactors>,
    #[serde(default, rename = "override")]
    pub overrides: Vec<Table<Override>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RiskFactors {
    pub low: u64,
    pub normal: u64,
    pub high: u64,
}

impl Default for RiskFactors {
    fn default() -> Self {
        Self { low: 1000, normal: 1000, high: 1000 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    pub merchant: Option<MerchantId>,
    pub customer: Option<String>,
    pub transaction_fen: Option<u64>,
    pub day_fen: Option<u64>,
    pub month_fen: Option<u64>,
    pub year_fen: Option<u64>,
    pub lifetime_fen: Option<u64>,
    pub day_count: Option<u64>,
    pub month_count: Option<u64>,
    pub year_count: Option<u64>,
    pub lifetime_count: Option<u64>,
}

fn enforce() -> LimitMode {
    LimitMode::Enforce
}

fn fen() -> Unit {
    Unit::Fen
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct When {
    pub merchant_kind: Vec<MerchantKind>,
    pub category: Vec<String>,
    pub risk: Vec<Risk>,
    pub interface: Vec<Interface>,
    pub channel: Vec<Channel>,
    pub instrument: Vec<Instrument>,
    pub account_class: Vec<AccountClass>,
    pub code_grade: Vec<CodeGrade>,
    pub authentication: Vec<Authentication>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub id: String,
    pub certificate: CertificateDemand,
}

/// A section. Only a table will do: serde alone would also take a list, and its items as keys by their order.
#[derive(Default)]
pub(super) struct Table<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor(PhantomData)).map(Self)
    }
}

struct TableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("one section: [name], or name = { .. }")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// An instant: RFC 3339 with an offset, in quotes or bare as TOML allows.
#[derive(Clone, Copy)]
pub(super) struct Instant(pub UnixMillis);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stamp = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text.parse::<jiff::Timestamp>().ok(),
            toml::Value::Datetime(datetime) => datetime.to_string().parse().ok(),
            toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Array(_)
            | toml::Value::Table(_) => None,
        };
        let invalid = "expected an instant with its offset, such as \"2026-11-21T09:30:00+08:00\" (RFC 3339)";
        stamp.map(|stamp| Self(UnixMillis(stamp.as_millisecond()))).ok_or_else(|| serde::de::Error::custom(invalid))
    }
}
