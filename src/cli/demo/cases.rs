//! The cases: one for every reason of refusal, each with the answer it expects, and how one is run.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::client::{Answer, Signature};
use super::world::{Call, World};
use super::{
    DemoError, after_admission, api_v2, authentic, before_anybody_is_known, full_tables, in_flight, journals,
    other_times,
};
use crate::reason::Reason;

/// A way to provoke one reason, and the answer that it must get.
pub(super) struct Case {
    pub title: &'static str,
    pub expected: Expected,
    steps: Steps,
    detail: Option<fn(&Value) -> bool>,
}

/// The answer that a case must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Expected {
    pub status: u16,
    /// Empty where the answer has no body.
    pub code: &'static str,
    pub signed: bool,
}

/// What a case does; the last answer is the one that counts.
enum Steps {
    One(fn(&World) -> Call),
    Several(for<'w> fn(&'w World) -> Answering<'w>),
}

/// An answer to come.
pub(super) type Answering<'w> = Pin<Box<dyn Future<Output = Result<Answer, DemoError>> + 'w>>;

impl Expected {
    /// Expects an answer without signature, as strangers get it and those whose nonce is not spent.
    pub const fn unsigned(status: u16, code: &'static str) -> Self {
        Self { status, code, signed: false }
    }

    /// Expects an answer signed by the platform.
    pub const fn signed(status: u16, code: &'static str) -> Self {
        Self { status, code, signed: true }
    }

    /// Makes a case of one request to the gate that takes the traffic.
    pub const fn on(self, title: &'static str, request: fn(&World) -> Call) -> Case {
        Case { title, expected: self, steps: Steps::One(request), detail: None }
    }

    /// Makes a case of several steps.
    pub const fn after(self, title: &'static str, steps: for<'w> fn(&'w World) -> Answering<'w>) -> Case {
        Case { title, expected: self, steps: Steps::Several(steps), detail: None }
    }
}

impl Case {
    /// Also checks the member `detail` of the answer.
    pub const fn detail(self, holds: fn(&Value) -> bool) -> Self {
        Self { detail: Some(holds), ..self }
    }
}

/// Returns the case of a reason. A new reason without a case does not compile.
#[rustfmt::skip]
pub(super) fn case(reason: Reason) -> Case {
    match reason {
        Reason::RouteUnknown => before_anybody_is_known::route_unknown(),
        Reason::MethodNotAllowed => before_anybody_is_known::method_not_allowed(),
        Reason::HeadInvalid => before_anybody_is_known::head_invalid(),
        Reason::HeaderMissing => before_anybody_is_known::header_missing(),
        Reason::BodyTooLarge => before_anybody_is_known::body_too_large(),
        Reason::BodyTimeout => before_anybody_is_known::body_timeout(),
        Reason::BodyBudgetExhausted => full_tables::body_budget_exhausted(),
        Reason::AuthorizationMissing => before_anybody_is_known::authorization_missing(),
        Reason::AuthorizationMalformed => before_anybody_is_known::authorization_malformed(),
        Reason::SchemeUnsupported => before_anybody_is_known::scheme_unsupported(),
        Reason::TimestampSkewed => before_anybody_is_known::timestamp_skewed(),
        Reason::MerchantUnknown => before_anybody_is_known::merchant_unknown(),
        Reason::KeyUnknown => before_anybody_is_known::key_unknown(),
        Reason::SignatureInvalid => before_anybody_is_known::signature_invalid(),
        Reason::CertificateNotYetValid => other_times::certificate_not_yet_valid(),
        Reason::CertificateExpired => other_times::certificate_expired(),
        Reason::CertificateRevoked => authentic::certificate_revoked(),
        Reason::RevocationUnknown => other_times::revocation_unknown(),
        Reason::CertificateRequired => authentic::certificate_required(),
        Reason::SignTypeForbidden => api_v2::sign_type_forbidden(),
        Reason::NonceReplayed => authentic::nonce_replayed(),
        Reason::NonceTableFull => full_tables::nonce_table_full(),
        Reason::NonceShareFull => full_tables::nonce_share_full(),
        Reason::PlatformKeyUnknown => authentic::platform_key_unknown(),
        Reason::BodyMalformed => authentic::body_malformed(),
        Reason::ParameterMissing => authentic::parameter_missing(),
        Reason::ParameterInvalid => authentic::parameter_invalid(),
        Reason::CurrencyUnsupported => authentic::currency_unsupported(),
        Reason::MerchantMismatch => authentic::merchant_mismatch(),
        Reason::AppidUnknown => authentic::appid_unknown(),
        Reason::SourceDenied => authentic::source_denied(),
        Reason::InterfaceDenied => authentic::interface_denied(),
        Reason::ScenarioDenied => authentic::scenario_denied(),
        Reason::ScenarioRestricted => authentic::scenario_restricted(),
        Reason::ChannelRestricted => authentic::channel_restricted(),
        Reason::MerchantSuspended => authentic::merchant_suspended(),
        Reason::PaymentClosed => authentic::payment_closed(),
        Reason::MerchantTerminated => authentic::merchant_terminated(),
        Reason::OrderNumberUsed => authentic::order_number_used(),
        Reason::OrderTableFull => full_tables::order_table_full(),
        Reason::OrderShareFull => full_tables::order_share_full(),
        Reason::OrderInFlight => in_flight::order_in_flight(),
        Reason::LimitExceeded => authentic::limit_exceeded(),
        Reason::LimitSubjectUnknown => authentic::limit_subject_unknown(),
        Reason::QuotaTableFull => full_tables::quota_table_full(),
        Reason::QuotaShareFull => full_tables::quota_share_full(),
        Reason::ClockOutOfRange => other_times::clock_out_of_range(),
        Reason::JournalFull => journals::journal_full(),
        Reason::JournalFailed => journals::journal_failed(),
        Reason::ClockSteppedBack => journals::clock_stepped_back(),
        Reason::NoPlatformCertificate => authentic::no_platform_certificate(),
        Reason::UpstreamUnreachable => after_admission::upstream_unreachable(),
        Reason::UpstreamTimeout => after_admission::upstream_timeout(),
        Reason::UpstreamBroken => after_admission::upstream_broken(),
        Reason::SigningOverloaded => after_admission::signing_overloaded(),
    }
}

/// How a case went.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    pub reason: &'static str,
    pub case: &'static str,
    pub expected: Expected,
    /// What was seen; absent where no answer came.
    pub seen: Option<Seen>,
    pub ok: bool,
    /// What differed, or why no answer came.
    pub difference: Option<String>,
    pub took_ms: u64,
}

/// The answer that came.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seen {
    pub status: u16,
    pub code: String,
    pub signed: bool,
    /// The reasons that the gate counted meanwhile: this one and no other is right.
    pub counted: Vec<(String, u64)>,
}

/// Runs the case of a reason.
pub(super) async fn run(world: &World, reason: Reason) -> Refusal {
    let case = case(reason);
    let before = world.counts();
    let began = Instant::now();
    let result = match case.steps {
        Steps::One(call) => world.main.send(call(world)).await,
        Steps::Several(steps) => steps(world).await,
    };
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let counts = world.counts().into_iter();
    let counted: Vec<(Reason, u64)> = counts
        .map(|(reason, count)| (reason, count - before.get(&reason).copied().unwrap_or(0)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let difference = match &result {
        Ok(answer) => difference(world, &case, reason, answer, &counted),
        Err(error) => Some(error.to_string()),
    };
    let seen = result.ok().map(|answer| Seen {
        status: answer.status,
        code: answer.code(),
        signed: world.verify(&answer) != Signature::Absent,
        counted: counted.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
    });
    let Case { title, expected, .. } = case;
    Refusal { reason: reason.as_str(), case: title, expected, seen, ok: difference.is_none(), difference, took_ms }
}

/// Says how an answer differs from the one expected.
fn difference(
    world: &World,
    case: &Case,
    reason: Reason,
    answer: &Answer,
    counted: &[(Reason, u64)],
) -> Option<String> {
    let Expected { status, code, signed } = case.expected;
    if answer.status != status || answer.code() != code {
        return Some(format!("answered {} {}", answer.status, answer.code()));
    }
    match (world.verify(answer), signed) {
        (Signature::Absent, false) | (Signature::By(_), true) => {}
        (found, _) => return Some(format!("signature: {found:?}")),
    }
    if !counted.iter().map(|(reason, _)| *reason).eq([reason]) {
        return Some(format!("the gate counted {counted:?}"));
    }
    let detail = answer.member("/detail").unwrap_or_default();
    case.detail.is_some_and(|holds| !holds(&detail)).then(|| format!("detail: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::wire;

    #[test]
    fn every_reason_has_a_case_that_expects_what_the_wire_map_says() {
        for reason in Reason::ALL {
            let wire = wire(*reason);
            let expected = Expected { status: wire.status, code: wire.code, signed: wire.signed };
            assert_eq!(case(*reason).expected, expected, "{reason}");
        }
    }
}
