//! The stable reasons for which the gate refuses a request. A name, once published, keeps its meaning.
//!
//! To an unauthenticated caller several reasons look alike (see the wire map in `front::respond`); metrics and the
//! journal tell them apart.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// Every reason, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the stable name: metrics label, journal and log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    // --- before anybody is known: counted, never recorded one by one
    /// No route has this path.
    RouteUnknown = "route_unknown",
    /// The path has a route, the method has none.
    MethodNotAllowed = "method_not_allowed",
    /// The head is ambiguous: two framings, an absolute-form target, a repeated header that must be single; or a query where
    /// nothing but the body is signed.
    HeadInvalid = "head_invalid",
    /// `Accept` or `User-Agent` is missing.
    HeaderMissing = "header_missing",
    /// The body is longer than the configured bound.
    BodyTooLarge = "body_too_large",
    /// The body did not arrive in time, or broke off.
    BodyTimeout = "body_timeout",
    /// The bodies being read fill the gate's budget.
    BodyBudgetExhausted = "body_budget_exhausted",
    /// There is no `Authorization`, or no signature in the body.
    AuthorizationMissing = "authorization_missing",
    /// `Authorization` is not what the scheme prescribes, or occurs twice; or the body does not name who signed.
    AuthorizationMalformed = "authorization_malformed",
    /// `Authorization` names a scheme, or the body a way of signing, that the route does not take.
    SchemeUnsupported = "scheme_unsupported",
    /// The timestamp is further from the gate's clock than the tolerance.
    TimestampSkewed = "timestamp_skewed",
    /// No merchant has this identity.
    MerchantUnknown = "merchant_unknown",
    /// The merchant has no key of this id.
    KeyUnknown = "key_unknown",
    /// The signature does not hold.
    SignatureInvalid = "signature_invalid",

    // --- the signature held: the caller is who it says
    /// The journal has no room for another decision: its disk is full.
    JournalFull = "journal_full",
    /// The journal failed: nothing that is decided would be sure to last.
    JournalFailed = "journal_failed",
    /// The gate's clock is further behind the highest time it ever read than a clock may step back.
    ClockSteppedBack = "clock_stepped_back",
    /// The certificate's validity has not begun.
    CertificateNotYetValid = "certificate_not_yet_valid",
    /// The certificate's validity, or the overlap granted to a replaced key, is over.
    CertificateExpired = "certificate_expired",
    /// The certificate or key is revoked.
    CertificateRevoked = "certificate_revoked",
    /// The revocation list that would tell whether the certificate is revoked is missing or out of date.
    RevocationUnknown = "revocation_unknown",
    /// The route demands an API certificate, and the signature was made with a bare key or none was shown by TLS.
    CertificateRequired = "certificate_required",
    /// The signature is made with MD5 where the merchant's key, or the route, wants HMAC-SHA256.
    SignTypeForbidden = "sign_type_forbidden",
    /// The nonce was used before, inside its window.
    NonceReplayed = "nonce_replayed",
    /// The nonce table is full.
    NonceTableFull = "nonce_table_full",
    /// The merchant has used up its share of the nonce table.
    NonceShareFull = "nonce_share_full",
    /// `Wechatpay-Serial` names no key of the platform.
    PlatformKeyUnknown = "platform_key_unknown",
    /// The body is not strict JSON, or repeats a member that decides something. Or it is not strict flat XML, or has two
    /// readings: as the signature stands in it, nobody is known then.
    BodyMalformed = "body_malformed",
    /// A parameter is missing.
    ParameterMissing = "parameter_missing",
    /// A parameter has a form or value that is not accepted.
    ParameterInvalid = "parameter_invalid",
    /// The currency is not CNY.
    CurrencyUnsupported = "currency_unsupported",
    /// The merchant in the body or query is not the one that signed.
    MerchantMismatch = "merchant_mismatch",
    /// The appid is not one of the merchant's.
    AppidUnknown = "appid_unknown",
    /// The request comes from an address that is not the merchant's.
    SourceDenied = "source_denied",
    /// The interface is not approved for the merchant (and this appid).
    InterfaceDenied = "interface_denied",
    /// The scenario stated is not approved for this interface.
    ScenarioDenied = "scenario_denied",
    /// Risk control restricted the scenario.
    ScenarioRestricted = "scenario_restricted",
    /// Risk control restricted the channel.
    ChannelRestricted = "channel_restricted",
    /// Risk control suspended the merchant's service.
    MerchantSuspended = "merchant_suspended",
    /// Risk control closed the merchant's payment permission.
    PaymentClosed = "payment_closed",
    /// The agreement with the merchant is terminated.
    MerchantTerminated = "merchant_terminated",
    /// The order number is bound to a decision on other parameters.
    OrderNumberUsed = "order_number_used",
    /// The order table is full.
    OrderTableFull = "order_table_full",
    /// The merchant has used up its share of the order table.
    OrderShareFull = "order_share_full",
    /// An earlier request with this order number is being decided, and took too long.
    OrderInFlight = "order_in_flight",
    /// The amount passes what is left of a limit.
    LimitExceeded = "limit_exceeded",
    /// A limit counts per customer and refuses orders whose customer is not known.
    LimitSubjectUnknown = "limit_subject_unknown",
    /// The table of limit rows is full.
    QuotaTableFull = "quota_table_full",
    /// The merchant has used up its share of the table of limit rows.
    QuotaShareFull = "quota_share_full",
    /// The gate's clock reads a time that no limit window can name.
    ClockOutOfRange = "clock_out_of_range",
    /// The merchant has no platform certificate: it verifies answers with a public key.
    NoPlatformCertificate = "no_platform_certificate",

    // --- after an admission
    /// The upstream could not be reached: the request was not sent.
    UpstreamUnreachable = "upstream_unreachable",
    /// The upstream did not answer in time: the outcome is not known.
    UpstreamTimeout = "upstream_timeout",
    /// The upstream's answer broke off, was malformed or was too long: the outcome is not known.
    UpstreamBroken = "upstream_broken",
    /// The answer could not be signed in time.
    SigningOverloaded = "signing_overloaded",
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Finds a reason by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }

    /// Returns the position in [`Reason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_its_index() {
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::COUNT);
        assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
    }
}
