//! What the presets are to say: each limit, the payments that fall under it, and its ceilings; written down here once
//! more, so that a figure that changes in a preset is noticed.

use crate::types::{Interface, Risk};

/// A limit that comes with the gate, and payments that fall under it and under no other that is tighter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shipped {
    pub id: &'static str,
    pub shop: &'static str,
    pub interface: Interface,
    /// What a trusted hop states of such payments.
    pub facts: Facts,
    /// Of a single transaction, a day, a month, a year and a lifetime; in fen, 0 where there is none.
    pub ceilings: [u64; 5],
    /// Merchants of another risk level, and what that leaves of a ceiling, in thousandths.
    pub others: &'static [(Risk, &'static str, u64)],
}

/// Headers of a trusted hop.
pub(super) type Facts = &'static [(&'static str, &'static str)];

/// A merchant of the gate with all presets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shop {
    pub mchid: &'static str,
    pub kind: &'static str,
    pub category: &'static str,
    pub risk: Risk,
}

/// Every limit of every preset.
pub(super) const LIMITS: &[Shipped] = &[
    Shipped {
        id: "t10_micro_merchants.credit_card",
        shop: "1900000301",
        interface: Interface::Face,
        facts: &[("tollgate-channel", "quick_pay"), ("tollgate-instrument", "credit_card")],
        ceilings: [0, 100_000, 1_000_000, 0, 0],
        others: &[],
    },
    quick_pay("t8_categories.retail.quick_pay", "1900000201", [2_000_000, 5_000_000, 20_000_000], RETAIL_OTHERS),
    balance("t8_categories.retail.balance", "1900000201", [500_000, 1_000_000, 5_000_000], RETAIL_OTHERS),
    quick_pay("t8_categories.jewellery.quick_pay", "1900000202", [5_000_000, 5_000_000, 20_000_000], JEWELLERY_OTHERS),
    balance("t8_categories.jewellery.balance", "1900000202", [500_000, 1_000_000, 5_000_000], JEWELLERY_OTHERS),
    quick_pay("t8_categories.catering.quick_pay", "1900000203", [500_000, 1_000_000, 5_000_000], CATERING_OTHERS),
    balance("t8_categories.catering.balance", "1900000203", [200_000, 500_000, 2_000_000], CATERING_OTHERS),
    quick_pay("t8_categories.travel.quick_pay", "1900000204", [5_000_000, 10_000_000, 50_000_000], TRAVEL_OTHERS),
    balance("t8_categories.travel.balance", "1900000204", [1_000_000, 2_000_000, 10_000_000], TRAVEL_OTHERS),
    quick_pay("t8_categories.education.quick_pay", "1900000205", [3_000_000, 5_000_000, 20_000_000], EDUCATION_OTHERS),
    balance("t8_categories.education.balance", "1900000205", [1_000_000, 2_000_000, 10_000_000], EDUCATION_OTHERS),
    quick_pay("t8_categories.digital_goods.quick_pay", "1900000206", [100_000, 300_000, 2_000_000], DIGITAL_OTHERS),
    balance("t8_categories.digital_goods.balance", "1900000206", [50_000, 100_000, 1_000_000], DIGITAL_OTHERS),
    bar_code("bar_code_grades.b", &[("tollgate-channel", "quick_pay"), ("tollgate-code-grade", "b")], 500_000),
    bar_code("bar_code_grades.c", &[("tollgate-channel", "quick_pay"), ("tollgate-code-grade", "c")], 100_000),
    bar_code("bar_code_grades.d", &[("tollgate-channel", "quick_pay"), ("tollgate-code-grade", "d")], 50_000),
    account("pboc_43.two_factors", TWO_FACTORS, [0, 500_000, 0, 0, 0]),
    account("pboc_43.fewer_factors", FEWER_FACTORS, [0, 100_000, 0, 0, 0]),
    account("pboc_43.class_ii", CLASS_II, [0, 0, 0, 10_000_000, 0]),
    account("pboc_43.class_iii", CLASS_III, [0, 0, 0, 20_000_000, 0]),
    account("pboc_43.class_i", CLASS_I, [0, 0, 0, 0, 100_000]),
];

/// The merchants of the gate with all presets.
pub(super) const SHOPS: &[Shop] = &[
    shop("1900000201", "retail", Risk::Normal),
    shop("1900000202", "jewellery", Risk::Normal),
    shop("1900000203", "catering", Risk::Normal),
    shop("1900000204", "travel", Risk::Normal),
    shop("1900000205", "education", Risk::Normal),
    shop("1900000206", "digital_goods", Risk::Normal),
    shop("1900000211", "retail", Risk::High),
    shop("1900000212", "jewellery", Risk::High),
    shop("1900000213", "catering", Risk::High),
    shop("1900000214", "travel", Risk::High),
    shop("1900000215", "education", Risk::High),
    shop("1900000216", "digital_goods", Risk::High),
    shop("1900000221", "retail", Risk::Low),
    Shop { kind: "micro", ..shop("1900000301", "market", Risk::Normal) },
    shop(MARKET, "market", Risk::Normal),
];

const fn shop(mchid: &'static str, category: &'static str, risk: Risk) -> Shop {
    Shop { mchid, kind: "ordinary", category, risk }
}

const fn quick_pay(id: &'static str, shop: &'static str, short: [u64; 3], others: Others) -> Shipped {
    category(id, shop, QUICK_PAY, short, others)
}

const fn balance(id: &'static str, shop: &'static str, short: [u64; 3], others: Others) -> Shipped {
    category(id, shop, CLASS_III, short, others)
}

const fn category(id: &'static str, shop: &'static str, facts: Facts, short: [u64; 3], others: Others) -> Shipped {
    let [transaction, day, month] = short;
    Shipped { id, shop, interface: Interface::Face, facts, ceilings: [transaction, day, month, 0, 0], others }
}

const fn bar_code(id: &'static str, facts: Facts, day_fen: u64) -> Shipped {
    let ceilings = [0, day_fen, 0, 0, 0];
    Shipped { id, shop: MARKET, interface: Interface::PaymentCode, facts, ceilings, others: &[] }
}

const fn account(id: &'static str, facts: Facts, ceilings: [u64; 5]) -> Shipped {
    Shipped { id, shop: MARKET, interface: Interface::Face, facts, ceilings, others: &[] }
}

type Others = &'static [(Risk, &'static str, u64)];

const RETAIL_OTHERS: Others = &[(Risk::High, "1900000211", 500), (Risk::Low, "1900000221", 1500)];
const JEWELLERY_OTHERS: Others = &[(Risk::High, "1900000212", 500)];
const CATERING_OTHERS: Others = &[(Risk::High, "1900000213", 500)];
const TRAVEL_OTHERS: Others = &[(Risk::High, "1900000214", 500)];
const EDUCATION_OTHERS: Others = &[(Risk::High, "1900000215", 500)];
const DIGITAL_OTHERS: Others = &[(Risk::High, "1900000216", 500)];

const QUICK_PAY: Facts = &[("tollgate-channel", "quick_pay")];
const TWO_FACTORS: Facts = &[CHANNEL_BALANCE, OF_CLASS_III, ("tollgate-authentication", "two_factors")];
const FEWER_FACTORS: Facts = &[CHANNEL_BALANCE, OF_CLASS_III, ("tollgate-authentication", "fewer")];
const CLASS_I: Facts = &[CHANNEL_BALANCE, ("tollgate-account-class", "i"), CERTIFIED];
const CLASS_II: Facts = &[CHANNEL_BALANCE, ("tollgate-account-class", "ii"), CERTIFIED];
const CLASS_III: Facts = &[CHANNEL_BALANCE, OF_CLASS_III, CERTIFIED];

const CHANNEL_BALANCE: (&str, &str) = ("tollgate-channel", "balance");
const OF_CLASS_III: (&str, &str) = ("tollgate-account-class", "iii");
const CERTIFIED: (&str, &str) = ("tollgate-authentication", "certificate");

/// A merchant of a category that no preset names.
const MARKET: &str = "1900000302";
