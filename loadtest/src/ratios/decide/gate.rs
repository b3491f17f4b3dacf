//! A gate without sockets: merchants, limits, and one engine to ask.

use std::sync::Arc;

use jiff::tz::TimeZone;
use tollgate::admission::{Engine, Shared, SharedParts};
use tollgate::journal::Recent;
use tollgate::merchant::{
    AppSpec, HoldRules, KeyOrigin, KeySpec, KeyStatus, LimitSpec, MerchantSpec, Policy, Predicate, Refunds,
    RiskFactors, Routes, SubjectPart, UnknownSubject,
};
use tollgate::prf::DeploymentKey;
use tollgate::quota::Bounds;
use tollgate::replay::{NonceBounds, OrderBounds, fresh};
use tollgate::share::Share;
use tollgate::time::CalendarRule;
use tollgate::types::{Fen, Interface, LimitMode, MerchantKind, Risk, Scenario, Unit};

use crate::ratios::RatioError;
use crate::ratios::orders::{APPID, NOW, Signer};

/// Makes an engine whose nonce table holds so many already.
pub(super) fn engine(signers: &[Signer], nonces: usize) -> Result<Engine, RatioError> {
    let shared = Arc::new(Shared::new(SharedParts {
        policy: policy(signers)?,
        deployment_key: DeploymentKey::new([7; 32]),
        nonces: NonceBounds {
            entries_max: ENTRIES_MAX,
            entries_per_merchant_max: MERCHANT_ENTRIES_MAX,
            tolerance_s: TOLERANCE_S,
        },
        orders: OrderBounds {
            entries_max: ENTRIES_MAX,
            entries_per_merchant_max: MERCHANT_ENTRIES_MAX,
            keep_s: 86_400,
        },
        holds: HoldRules::default(),
        quota: Bounds { rows_max: 1 << 20, rows_per_merchant_max: MERCHANT_ENTRIES_MAX },
    }));
    let signer = signers.first().ok_or(RatioError::Wrong("no merchants"))?;
    claim(&shared, signer, nonces)?;
    Ok(Engine::new(shared, Box::new(Recent::new(1 << 10)), [1; 32]))
}

/// Claims so many nonces, as other requests would have.
fn claim(shared: &Shared, signer: &Signer, count: usize) -> Result<(), RatioError> {
    let merchant = signer.mchid.parse().map_err(RatioError::broken("a merchant's identity"))?;
    let key = signer.serial.parse().map_err(RatioError::broken("a serial"))?;
    let share = Arc::new(Share::default());
    let fresh = fresh(NOW.seconds(), NOW, TOLERANCE_S).map_err(|_| RatioError::Wrong("now is not fresh"))?;
    for number in 0..count {
        let nonce = shared.nonces().key(&merchant, &key, &format!("other-{number}"));
        let claimed = shared.nonces().claim(nonce, 0, fresh, &share, NOW);
        // The claim stays when its proof goes.
        drop(claimed.map_err(RatioError::broken("a nonce"))?);
    }
    Ok(())
}

/// Two limits of two windows each, which all orders fall under, and one that none does.
fn policy(signers: &[Signer]) -> Result<Policy, RatioError> {
    let routes = Routes::standard().map_err(RatioError::broken("the routes"))?;
    let merchants = signers.iter().map(merchant).collect::<Result<_, _>>()?;
    let ceiling = Fen::new(1 << 40);
    let customer = limit("customer", vec![SubjectPart::Customer, SubjectPart::Category])?;
    let merchant = limit("merchant", vec![SubjectPart::Merchant])?;
    let mut native = limit("native", vec![SubjectPart::Merchant])?;
    native.predicate.interfaces = vec![Interface::Native];
    let limits = vec![
        LimitSpec { transaction: ceiling, day: ceiling, month: ceiling, ..customer },
        LimitSpec { day: ceiling, month: ceiling, ..merchant },
        LimitSpec { day: ceiling, ..native },
    ];
    Policy::build(routes, merchants, limits).map_err(RatioError::broken("the policy"))
}

fn merchant(signer: &Signer) -> Result<MerchantSpec, RatioError> {
    let app = |interface, scenario| AppSpec { interface, scenario, appids: vec![APPID.to_owned()] };
    let key = KeySpec {
        id: signer.serial.parse().map_err(RatioError::broken("a serial"))?,
        key: signer.key.clone(),
        origin: KeyOrigin::Bare,
        status: KeyStatus::Active,
    };
    Ok(MerchantSpec {
        id: signer.mchid.parse().map_err(RatioError::broken("a merchant's identity"))?,
        name: "merchant".to_owned(),
        kind: MerchantKind::Ordinary,
        category: "retail".to_owned(),
        risk: Risk::Normal,
        sources: Vec::new(),
        keys: vec![key],
        apps: vec![app(Interface::Jsapi, Scenario::OfficialAccount), app(Interface::Native, Scenario::PcSite)],
        measures: Vec::new(),
        apiv3_key: None,
        platform_key: None,
    })
}

/// Makes a limit without a ceiling yet.
fn limit(id: &str, subject: Vec<SubjectPart>) -> Result<LimitSpec, RatioError> {
    let zone = TimeZone::get("Asia/Shanghai").map_err(RatioError::broken("a time zone"))?;
    Ok(LimitSpec {
        id: id.to_owned(),
        predicate: Predicate::default(),
        subject,
        unknown_subject: UnknownSubject::PerTransaction,
        calendar: CalendarRule::new(zone, 0).ok_or(RatioError::Wrong("no such hour"))?,
        unit: Unit::Fen,
        transaction: None,
        day: None,
        month: None,
        year: None,
        lifetime: None,
        mode: LimitMode::Enforce,
        disk: false,
        refund: Refunds::Return,
        risk_factors: RiskFactors::default(),
        overrides: Vec::new(),
    })
}

const TOLERANCE_S: u32 = 300;
const ENTRIES_MAX: usize = 1 << 20;
const MERCHANT_ENTRIES_MAX: u32 = 1 << 20;
