//! Newtypes of the domain: identities, money, and the closed vocabularies of the policy.
//!
//! A value of one of these types has been checked; inside the gate a bad one cannot be written down.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Refuses a text that is not a value of the type asked for; says what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Invalid {
    /// What would have been accepted.
    pub expected: &'static str,
}

/// Holds a short text in place, so that an identity is `Copy` and costs no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Inline<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Inline<N> {
    const FITS: () = assert!(N <= u8::MAX as usize, "the length is one byte");

    fn new(text: impl ExactSizeIterator<Item = u8>) -> Option<Self> {
        let () = Self::FITS;
        let len = u8::try_from(text.len()).ok()?;
        let mut bytes = [0; N];
        let slots = bytes.get_mut(..usize::from(len))?;
        slots.iter_mut().zip(text).for_each(|(slot, byte)| *slot = byte);
        Some(Self { len, bytes })
    }

    fn copied(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { len: u8::try_from(text.len()).ok()?, bytes })
    }

    /// Holds a text of exactly `M` bytes of ASCII.
    const fn literal<const M: usize>(text: [u8; M]) -> Self {
        let () = Self::FITS;
        let mut bytes = [0; N];
        if let Some(slots) = bytes.first_chunk_mut::<M>() {
            *slots = text;
            // At most N, which fits.
            #[expect(clippy::cast_possible_truncation, reason = "a chunk of N bytes has at most N, which fits a byte")]
            let len = M as u8;
            return Self { len, bytes };
        }
        Self { len: 0, bytes }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    fn as_str(&self) -> &str {
        // Only ASCII is ever stored; an empty text is the harmless answer if that were broken.
        std::str::from_utf8(self.as_bytes()).unwrap_or("")
    }
}

/// Names a merchant (`mchid`): 1 to 32 of `[0-9A-Za-z_-]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MerchantId(Inline<MERCHANT_ID_BYTES_MAX>);

impl MerchantId {
    /// Returns the identity as the merchant writes it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for MerchantId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        (!text.is_empty() && text.bytes().all(plain))
            .then(|| Inline::copied(text.as_bytes()))
            .flatten()
            .map(Self)
            .ok_or(Invalid { expected: "1 to 32 letters, digits, `_` or `-`" })
    }
}

/// Names a key of a merchant or of the platform: a certificate serial in upper-case hexadecimal without
/// leading zeros, or the id of a bare public key (`PUB_KEY_ID_...`) as registered.
///
/// Two spellings of one serial (case, leading zeros) are equal; clients really send both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Inline<KEY_ID_BYTES_MAX>);

impl KeyId {
    /// What stands for the secret that a merchant signs by API v2 with: requests of that scheme name no key. No text is
    /// read as this id, so no request can claim it otherwise.
    pub const API_V2: Self = Self(Inline::literal(*b"API_V2"));

    /// Returns the normalised spelling.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for KeyId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid {
            expected: "a serial of 1 to 64 hexadecimal digits, or PUB_KEY_ID_ and up to 53 letters or digits",
        };
        let id = if text.starts_with(PUBLIC_KEY_PREFIX) {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            text.bytes().all(plain).then(|| Inline::new(text.bytes())).flatten()
        } else {
            let digits = text.trim_start_matches('0');
            let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            hex.then(|| Inline::new(digits.bytes().map(|byte| byte.to_ascii_uppercase()))).flatten()
        };
        id.map(Self).ok_or(invalid)
    }
}

macro_rules! text_forms {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

text_forms!(MerchantId);
text_forms!(KeyId);

/// An amount of money in fen (1 yuan = 100 fen), currency CNY: the one currency of a domestic platform.
///
/// Between 1 and [`Fen::MAX`], so that a sum of a row's life fits the 48 bits a cell keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fen(u64);

impl Fen {
    /// The smallest amount; also what a payment takes of a limit that counts payments.
    pub const ONE: Self = Self(1);

    /// The largest amount that can be named: 2^48 - 1 fen.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// Checks an amount; `None` where it is zero or above [`Fen::MAX`].
    pub const fn new(fen: u64) -> Option<Self> {
        if fen == 0 || fen > Self::MAX.0 { None } else { Some(Self(fen)) }
    }

    /// Returns the amount as an integer of fen.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} fen", self.0)
    }
}

/// Names one decision; 128 random bits, so that nobody can guess another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecisionId(pub u128);

impl fmt::Display for DecisionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// A merchant's APIv3 key: 32 bytes that seal platform certificates for download. Never shown.
#[derive(Clone, Copy)]
pub struct ApiV3Key(pub [u8; 32]);

impl fmt::Debug for ApiV3Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiV3Key(..)")
    }
}

/// Declares a closed vocabulary: an enum, its names in configuration, all of its values.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the name used in configuration, headers and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(Invalid { expected: concat!("one of", $(" `", $text, "`"),+) }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

vocabulary! {
    /// One of the seven kinds of network payment interface.
    Interface {
        /// 付款码: the merchant scans the customer's code.
        PaymentCode = "payment_code",
        /// JSAPI: inside the payment app's browser.
        Jsapi = "jsapi",
        /// 小程序: a mini program; shares its path with JSAPI and is told apart by the appid.
        MiniProgram = "mini_program",
        /// Native: the customer scans the merchant's code.
        Native = "native",
        /// APP: a mobile app calls the payment app.
        App = "app",
        /// H5: a mobile site outside the payment app.
        H5 = "h5",
        /// 刷脸: the customer's face at a terminal.
        Face = "face",
    }
}

vocabulary! {
    /// Where an interface is used (交易场景).
    Scenario {
        /// Premises with an address.
        Offline = "offline",
        /// An official account's pages.
        OfficialAccount = "official_account",
        /// A site for desktop browsers.
        PcSite = "pc_site",
        /// A mini program.
        MiniProgram = "mini_program",
        /// A mobile app.
        App = "app",
        /// A site for mobile browsers.
        MobileWeb = "mobile_web",
    }
}

vocabulary! {
    /// How the customer pays (支付渠道).
    Channel {
        /// 快捷支付: a bank card through the platform.
        QuickPay = "quick_pay",
        /// 余额: the balance of the payment account.
        Balance = "balance",
    }
}

impl Channel {
    /// Tells whether the channel can draw on an instrument.
    pub const fn draws_on(self, instrument: Instrument) -> bool {
        match (self, instrument) {
            (Self::Balance, Instrument::Balance) | (Self::QuickPay, Instrument::CreditCard | Instrument::DebitCard) => {
                true
            }
            (Self::Balance, Instrument::CreditCard | Instrument::DebitCard) | (Self::QuickPay, Instrument::Balance) => {
                false
            }
        }
    }
}

vocabulary! {
    /// What the money is taken from.
    Instrument {
        /// A credit card.
        CreditCard = "credit_card",
        /// A debit card.
        DebitCard = "debit_card",
        /// The balance of the payment account.
        Balance = "balance",
    }
}

vocabulary! {
    /// The class of the customer's payment account (支付账户分类).
    AccountClass {
        /// Class I.
        I = "i",
        /// Class II.
        II = "ii",
        /// Class III.
        III = "iii",
    }
}

vocabulary! {
    /// Where a signature of API v2 may be made with MD5, which proves less than HMAC-SHA256.
    Md5Rule {
        /// Nowhere.
        Forbid = "forbid",
        /// Where no money moves out: not on refunds and reversals.
        NoPayouts = "no_payouts",
        /// Wherever the protocol allows it.
        Allow = "allow",
    }
}

vocabulary! {
    /// The grade of the risk precautions of a payment by bar code (条码支付风险防范能力分级).
    CodeGrade {
        /// Grade A: a digital certificate or electronic signature among the factors.
        A = "a",
        /// Grade B: two factors without one.
        B = "b",
        /// Grade C: fewer than two factors.
        C = "c",
        /// Grade D: a static code.
        D = "d",
    }
}

vocabulary! {
    /// How a payment from the balance was authenticated (PBOC 2015 no. 43, on payments from the balance).
    Authentication {
        /// A digital certificate or electronic signature among the factors.
        Certificate = "certificate",
        /// Two factors or more without one.
        TwoFactors = "two_factors",
        /// Fewer than two factors.
        Fewer = "fewer",
    }
}

vocabulary! {
    /// The kind of merchant.
    MerchantKind {
        /// 普通商户.
        Ordinary = "ordinary",
        /// 小微商户.
        Micro = "micro",
    }
}

vocabulary! {
    /// The merchant's risk level, as risk control set it.
    Risk {
        /// Below the usual.
        Low = "low",
        /// The usual.
        Normal = "normal",
        /// Above the usual.
        High = "high",
    }
}

vocabulary! {
    /// What a route asks the platform to do.
    Operation {
        /// Creates a payment order; takes its amount from the limits.
        Pay = "pay",
        /// Asks for the state of an order or a refund.
        Query = "query",
        /// Closes an unpaid order.
        Close = "close",
        /// Takes an order back, paid or not.
        Reverse = "reverse",
        /// Pays back a paid order, in whole or in part.
        Refund = "refund",
        /// Downloads the platform's certificates; the gate answers itself.
        Certificates = "certificates",
        /// Tests the signature without touching money; the gate answers itself.
        Echo = "echo",
    }
}

vocabulary! {
    /// What a limit does to a payment that does not fit.
    LimitMode {
        /// Refuses it.
        Enforce = "enforce",
        /// Lets it pass and reports it; takes nothing of it.
        Shadow = "shadow",
    }
}

vocabulary! {
    /// What a limit counts.
    Unit {
        /// Money, in fen.
        Fen = "fen",
        /// Payments, each as one.
        Count = "count",
    }
}

impl Unit {
    /// Returns what a payment takes of a limit.
    pub const fn taken(self, amount: Fen) -> Fen {
        match self {
            Self::Fen => amount,
            Self::Count => Fen::ONE,
        }
    }
}

vocabulary! {
    /// A period over which a limit counts.
    Window {
        /// A calendar day.
        Day = "day",
        /// A calendar month.
        Month = "month",
        /// A calendar year.
        Year = "year",
        /// For ever.
        Lifetime = "lifetime",
    }
}

/// Longest merchant identity, in bytes.
pub const MERCHANT_ID_BYTES_MAX: usize = 32;

/// Longest key id, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 64;

/// What the id of a bare public key begins with.
pub const PUBLIC_KEY_PREFIX: &str = "PUB_KEY_ID_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_id_ignores_case_and_leading_zeros_of_a_serial() {
        let one: KeyId = "00ab12Cd".parse().expect("hexadecimal");
        let other: KeyId = "AB12CD".parse().expect("hexadecimal");
        assert_eq!(one, other);
        assert_eq!(one.as_str(), "AB12CD");
    }

    #[test]
    fn key_id_keeps_the_spelling_of_a_public_key_id() {
        let id: KeyId = "PUB_KEY_ID_0116a".parse().expect("public key id");
        assert_eq!(id.as_str(), "PUB_KEY_ID_0116a");
        assert!("PUB_KEY_ID_ü".parse::<KeyId>().is_err());
        assert!("0".parse::<KeyId>().is_err() && "".parse::<KeyId>().is_err() && "xyz".parse::<KeyId>().is_err());
        assert!("A".repeat(65).parse::<KeyId>().is_err());
    }

    #[test]
    fn merchant_id_has_a_length_and_an_alphabet() {
        assert_eq!("1900000001".parse::<MerchantId>().map(|id| id.to_string()), Ok("1900000001".to_owned()));
        for bad in ["", "a b", "a\"b", &"1".repeat(33)] {
            assert!(bad.parse::<MerchantId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fen_is_positive_and_fits_a_cell() {
        assert_eq!(Fen::new(0), None);
        assert_eq!(Fen::new(1).map(Fen::get), Some(1));
        assert_eq!(Fen::new((1 << 48) - 1), Some(Fen::MAX));
        assert_eq!(Fen::new(1 << 48), None);
    }
}
