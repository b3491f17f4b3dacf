//! Every step of a decision, told and not taken: nothing is claimed, bound or reserved. COLD.

use std::fmt;

use super::engine::Moment;
use super::facts::Stated;
use super::identify::{Identified, unrouted, unsigned};
use super::shared::Shared;
use super::steps::{Stage, namespace_of};
use crate::merchant::{Applies, Facts, Limit, Merchant, Payment, Permitted, Policy, Route};
use crate::quota::Demand;
use crate::reason::Reason;
use crate::replay::{self, OnExpiry, OrderName, OrderState};
use crate::request::{Request, Trust};
use crate::signature::{Extracted, Job, Verifier};
use crate::time::{Calendar, UnixMillis};
use crate::types::{Fen, LimitMode, Operation, Window};

/// What a decision would say, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The steps, in the order of a decision. Those that need what an earlier one did not find are left out.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Why it would refuse.
    pub refused: Option<Reason>,
    /// What it looked at.
    pub lines: Vec<String>,
}

impl Explanation {
    /// Returns the reason of the refusal; `None` where the request would be admitted.
    pub fn refused(&self) -> Option<Reason> {
        self.steps.iter().find_map(|step| step.refused)
    }

    fn add(&mut self, name: &'static str, refused: Option<Reason>, lines: impl IntoIterator<Item = String>) {
        self.steps.push(Step { name, refused, lines: lines.into_iter().collect() });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { name, refused, lines } in &self.steps {
            match refused {
                None => writeln!(formatter, "{name}: ok")?,
                Some(reason) => writeln!(formatter, "{name}: REFUSED {reason}")?,
            }
            lines.iter().try_for_each(|line| writeln!(formatter, "    {line}"))?;
        }
        match self.refused() {
            None => writeln!(formatter, "verdict: admitted"),
            Some(reason) => writeln!(formatter, "verdict: refused, {reason}"),
        }
    }
}

impl Shared {
    /// Tells what a decision on the request would look at and say as of `now`. Takes nothing and leaves nothing behind.
    ///
    /// Goes on after a refusal as far as the later steps can be told; a decision ends at the first.
    pub fn explain(&self, request: &Request<'_>, now: UnixMillis) -> Explanation {
        let policy = self.policy.load();
        let mut told = Explanation::default();
        // Whatever could not be found has been told by then.
        let _ = Teller { shared: self, policy: &policy, request, now, told: &mut told }.tell();
        told
    }
}

struct Teller<'t, 'r> {
    shared: &'t Shared,
    policy: &'t Policy,
    request: &'t Request<'r>,
    now: UnixMillis,
    told: &'t mut Explanation,
}

impl<'t, 'r> Teller<'t, 'r> {
    fn tell(mut self) -> Option<()> {
        let (route, parameter) = self.route()?;
        let extracted = self.signature_header(route)?;
        let fresh = self.freshness(&extracted);
        let (merchant, key) = self.merchant_and_key(&extracted)?;
        let identified = Identified { route, parameter, merchant, key, extracted, fresh };
        self.signature(&identified);
        let windows: Vec<_> =
            self.policy.calendars().iter().map(|rule| Calendar::new(rule.clone()).windows(self.now)).collect();
        let moment = Moment { now: self.now, windows: &windows };
        let (shared, policy, request) = (self.shared, self.policy, self.request);
        let stage = Stage { shared, books: &shared.books, policy, request, identified: &identified, moment };
        self.key_in_force(&stage);
        self.nonce(&stage);
        let stated = match Stated::read(route, parameter, request, &merchant.id) {
            Ok(stated) => stated,
            Err((reason, name)) => return self.parameter(reason, &name),
        };
        let facts = match stated.facts(request) {
            Ok(facts) => facts,
            Err((reason, name)) => return self.parameter(reason, &name),
        };
        self.facts(&stated, &facts);
        let permitted = self.permit(&stage, &facts)?;
        let new = self.order(&stage, &stated, &facts)?;
        if matches!(route.operation, Operation::Pay | Operation::Refund) {
            self.hold(&stage, &stated)?;
        }
        match (route.operation, stated.amount) {
            (Operation::Pay, Some(amount)) if new => self.limits(&stage, &permitted, &facts, amount),
            _ => {}
        }
        Some(())
    }

    fn route(&mut self) -> Option<(&'t Route, Option<&'r str>)> {
        let (path, _) = self.request.path_and_query();
        let asked = format!("{} {}", self.request.method, self.request.target);
        let found = match self.policy.routes().find(self.request.method, path) {
            Ok(found) => found,
            Err(error) => {
                self.told.add("route", Some(unrouted(error)), [asked]);
                return None;
            }
        };
        let route = self.policy.routes().route(found.index)?;
        let missing = |name| self.request.headers.only(name).is_ok_and(|value| value.is_none());
        let refused = route.agent_required && (missing("accept") || missing("user-agent"));
        let means = format!(
            "{}: {}, settles {}, certificate {}",
            route.id,
            route.operation,
            route.settle.as_str(),
            route.certificate.as_str()
        );
        self.told.add("route", refused.then_some(Reason::HeaderMissing), [asked, means]);
        Some((route, found.parameter))
    }

    fn signature_header(&mut self, route: &Route) -> Option<Extracted<'r>> {
        let extracted = match route.scheme.extract(self.request) {
            Ok(extracted) => extracted,
            Err(error) => {
                let scheme = format!("{error}; the route is signed by {}", route.scheme.name());
                self.told.add("authorization", Some(unsigned(error)), [scheme]);
                return None;
            }
        };
        let claims = format!("merchant {}, key {}", extracted.merchant, extracted.key);
        let message: Vec<u8> = extracted.message.to_vec();
        let lines = String::from_utf8_lossy(&message).into_owned();
        // Split at line feeds alone: a stray carriage return is part of what must be signed, and is shown.
        let mut lines = lines.strip_suffix('\n').unwrap_or(&lines).split('\n');
        let mut shown: Vec<String> = lines.by_ref().take(LINES_SHOWN_MAX).map(|line| format!("| {line}")).collect();
        let more = lines.count();
        if more > 0 {
            shown.push(format!("and {more} lines more"));
        }
        let ends = match extracted.sign_type {
            None => "each line ended by a line feed".to_owned(),
            Some(sign_type) => format!("`&key=` and the secret follow; {}", sign_type.as_str()),
        };
        let head = [claims, format!("canonical string, {} bytes, {ends}:", message.len())];
        self.told.add("authorization", None, head.into_iter().chain(shown));
        Some(extracted)
    }

    fn freshness(&mut self, extracted: &Extracted<'_>) -> Option<replay::Fresh> {
        let timestamp_s = extracted.timestamp_s?;
        let fresh = replay::fresh(timestamp_s, self.now, self.shared.tolerance_s);
        let tolerance = format!("timestamp {timestamp_s}, tolerance {} s", self.shared.tolerance_s);
        match fresh {
            Ok(fresh) => {
                self.told.add("freshness", None, [tolerance]);
                Some(fresh)
            }
            Err(skewed) => {
                let skew = format!("{} ms off the gate's clock", skewed.skew_ms);
                self.told.add("freshness", Some(Reason::TimestampSkewed), [tolerance, skew]);
                None
            }
        }
    }

    fn merchant_and_key(&mut self, extracted: &Extracted<'_>) -> Option<(&'t Merchant, &'t crate::merchant::ApiKey)> {
        let Some(merchant) = self.policy.merchant(&extracted.merchant) else {
            self.told.add("merchant", Some(Reason::MerchantUnknown), [extracted.merchant.to_string()]);
            return None;
        };
        let Merchant { id, kind, category, risk, .. } = merchant;
        let known = format!("{id}: {kind}, category {category}, risk {risk}");
        let Some(key) = merchant.key_of(extracted) else {
            let keys = merchant.keys().iter().map(|key| key.id.to_string()).collect::<Vec<_>>().join(", ");
            self.told.add("merchant", Some(Reason::KeyUnknown), [known, format!("registered keys: {keys}")]);
            return None;
        };
        let vouched = if key.is_certificate() { "an API certificate" } else { "the configuration alone" };
        self.told.add("merchant", None, [known, format!("key {}, vouched for by {vouched}", key.id)]);
        Some((merchant, key))
    }

    fn signature(&mut self, identified: &Identified<'_, '_>) {
        let mut verdicts = Vec::new();
        let job = Job { key: &identified.key.key, extracted: &identified.extracted };
        Verifier::new().verify(&[job], &mut verdicts);
        let holds = matches!(verdicts.as_slice(), [Ok(_)]);
        self.told.add("signature", (!holds).then_some(Reason::SignatureInvalid), []);
    }

    fn key_in_force(&mut self, stage: &Stage<'_, '_>) {
        let refused = stage.judge_key();
        self.told.add("certificate", refused.err(), []);
    }

    fn nonce(&mut self, stage: &Stage<'_, '_>) {
        let Identified { merchant, extracted, .. } = stage.identified;
        let Some(nonce) = extracted.nonce else { return };
        let nonces = &self.shared.nonces;
        let claimed = nonces.is_claimed(nonces.key(&merchant.id, &extracted.key, nonce), self.now);
        let line =
            if claimed { "was used before; a trusted hop would get the decision made then" } else { "not used yet" };
        self.told.add("nonce", claimed.then_some(Reason::NonceReplayed), [format!("{nonce}: {line}")]);
        if !self.request.answer_key_known {
            self.told.add("answer key", Some(Reason::PlatformKeyUnknown), []);
        }
    }

    fn parameter(&mut self, reason: Reason, name: &str) -> Option<()> {
        self.told.add("parameters", Some(reason), [name.to_owned()]);
        None
    }

    fn facts(&mut self, stated: &Stated<'_>, facts: &Facts<'_>) {
        let text = |value: Option<&str>| value.unwrap_or("not known").to_owned();
        let Facts {
            appid,
            openid,
            customer,
            channel,
            instrument,
            account_class,
            code_grade,
            authentication,
            scenario,
            interfaces: _,
        } = facts;
        let lines = [
            ("order", text(stated.order.as_deref())),
            ("amount", stated.amount.map_or("none".to_owned(), |amount| amount.to_string())),
            ("appid", text(*appid)),
            ("openid", text(*openid)),
            ("customer", text(*customer)),
            ("channel", text(channel.map(|one| one.as_str()))),
            ("instrument", text(instrument.map(|one| one.as_str()))),
            ("account class", text(account_class.map(|one| one.as_str()))),
            ("code grade", text(code_grade.map(|one| one.as_str()))),
            ("authentication", text(authentication.map(|one| one.as_str()))),
            ("scenario", text(scenario.map(|one| one.as_str()))),
        ];
        self.told.add("parameters", None, lines.map(|(name, value)| format!("{name}: {value}")));
    }

    fn permit(&mut self, stage: &Stage<'_, '_>, facts: &Facts<'_>) -> Option<Permitted> {
        let Identified { merchant, route, .. } = stage.identified;
        // A message from a file has no peer: then its source is not judged.
        let trust = if self.request.peer.is_none() { Trust::TrustedHop } else { self.request.trust };
        match merchant.permit(route, facts, trust, self.request.peer) {
            Err(reason) => {
                self.told.add("permission", Some(reason), []);
                None
            }
            Ok(permitted) => {
                let interfaces = permitted.interfaces.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
                let channels = permitted.channels.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
                let factor = format!("measures leave {} thousandths of ceilings", merchant.limit_factor_permille());
                let lines = [format!("interfaces: {interfaces}"), format!("channels: {channels}"), factor];
                self.told.add("permission", None, lines);
                Some(permitted)
            }
        }
    }

    /// Tells whether the order is new; `None` where its number is taken.
    fn order(&mut self, stage: &Stage<'_, '_>, stated: &Stated<'_>, facts: &Facts<'_>) -> Option<bool> {
        let Identified { merchant, route, .. } = stage.identified;
        if matches!(route.operation, Operation::Certificates | Operation::Echo) {
            return Some(false);
        }
        let namespace = namespace_of(route);
        let number = stated.order.as_deref()?;
        let found = self.shared.books.orders.view(OrderName { namespace, merchant: &merchant.id, number });
        let Some(view) = found.filter(|view| view.state != OrderState::Released) else {
            self.told.add("order", None, [format!("{number}: not bound")]);
            return Some(true);
        };
        let lines = [
            format!("{number}: decision {}, {}", view.decision, view.state.as_str()),
            format!("amount {} fen, refunded {} fen", view.amount_fen, view.refunded_fen),
        ];
        let binds = matches!(route.operation, Operation::Pay | Operation::Refund);
        let other = view.state == OrderState::Expired || view.digest != stage.order_digest(stated, facts);
        let refused = (binds && other).then_some(Reason::OrderNumberUsed);
        self.told.add("order", refused, lines);
        if refused.is_some() { None } else { Some(false) }
    }

    /// Tells for how long the order would be held; `None` where it asks for longer than it can be.
    fn hold(&mut self, stage: &Stage<'_, '_>, stated: &Stated<'_>) -> Option<()> {
        match stage.hold(stated) {
            Ok((expires_s, on_expiry)) => {
                let until = jiff::Timestamp::from_second(expires_s).map_or("ever".to_owned(), |at| at.to_string());
                let then = match on_expiry {
                    OnExpiry::Release => "what it takes is given back",
                    OnExpiry::Keep => "what it takes stays taken",
                };
                self.told.add("hold", None, [format!("until {until}; then {then}")]);
                Some(())
            }
            Err(refusal) => {
                let name = stated.expires_s.map_or("", |(_, name)| name);
                self.told.add("hold", Some(refusal.reason), [format!("{name} is later than an order can be held")]);
                None
            }
        }
    }

    fn limits(&mut self, stage: &Stage<'_, '_>, permitted: &Permitted, facts: &Facts<'_>, amount: Fen) {
        let merchant = stage.identified.merchant;
        let payment = Payment { merchant, permitted, facts, amount, windows: stage.moment.windows };
        // A decision looks at every limit before it counts, and then counts in their order.
        let (mut looked_at, mut counted) = (Vec::new(), Vec::new());
        for (_, limit) in self.policy.limits_on(merchant) {
            let mut counts = false;
            let (reason, lines) = match limit.applies(&payment, &self.shared.rows) {
                Applies::No => (None, vec!["does not apply".to_owned()]),
                Applies::Checked => {
                    (None, vec!["its ceiling of a single transaction is met; nothing is counted".to_owned()])
                }
                Applies::AboveTransaction => (
                    Some(Reason::LimitExceeded),
                    vec![format!("{amount} is above its ceiling of a single transaction")],
                ),
                Applies::SubjectUnknown => {
                    (Some(Reason::LimitSubjectUnknown), vec!["counts per what is not known".to_owned()])
                }
                Applies::ClockOutOfRange => (Some(Reason::ClockOutOfRange), Vec::new()),
                Applies::Charge(demand) => {
                    counts = true;
                    self.room(limit, &demand, amount)
                }
            };
            let enforced = reason.filter(|_| limit.mode == LimitMode::Enforce);
            let shadow = reason.filter(|_| limit.mode == LimitMode::Shadow);
            let head = match shadow {
                None => limit.id.to_string(),
                Some(reason) => format!("{}: as a shadow limit it would have refused, {reason}", limit.id),
            };
            let lines = std::iter::once(head).chain(lines).collect();
            let step = Step { name: "limit", refused: enforced, lines };
            if counts { counted.push(step) } else { looked_at.push(step) }
        }
        self.told.steps.extend(looked_at.into_iter().chain(counted));
    }

    /// Tells what room each window of a limit has.
    fn room(&self, limit: &Limit, demand: &Demand, amount: Fen) -> (Option<Reason>, Vec<String>) {
        let cells = self.shared.books.table.usage(demand.row);
        let asked = demand.unit.taken(amount).get();
        let mut refused = None;
        let windows = Window::ALL.iter().zip(&demand.cells).zip(cells);
        let lines = windows.filter_map(|((window, demanded), cell)| {
            let demanded = (*demanded)?;
            let used = cell.filter(|cell| cell.window_id >= demanded.window_id).map_or(0, |cell| cell.used);
            // What is counted without a ceiling ends where a row can say no more.
            let room = demanded.ceiling.min(Fen::MAX.get()).saturating_sub(used);
            if asked > room {
                refused = Some(Reason::LimitExceeded);
            }
            let unit = limit.unit();
            let ceiling =
                if demanded.ceiling >= Fen::MAX.get() { "none".to_owned() } else { demanded.ceiling.to_string() };
            Some(format!("{window}: asks {asked} {unit}, used {used}, ceiling {ceiling}, room {room}"))
        });
        let lines = lines.collect();
        (refused, lines)
    }
}

/// Most lines of a canonical string that are shown.
const LINES_SHOWN_MAX: usize = 256;
