//! What a merchant may do: interfaces and scenarios, sources, channels, and the measures of risk control.

use tollgate::merchant::{AppSpec, Measure, MerchantSpec};
use tollgate::reason::Reason;
use tollgate::types::{Channel, Interface, Scenario};

use crate::gate::{Gate, Setup, certified};
use crate::signer::{Draft, serial};

const JSAPI: &str = "/v3/pay/transactions/jsapi";

/// A gate whose first merchant is changed.
fn gate(change: impl FnOnce(&mut MerchantSpec)) -> Gate {
    Setup::default().first(change).gate()
}

fn measured(measures: &[Measure]) -> Gate {
    gate(|merchant| merchant.measures = measures.to_vec())
}

fn order(path: &str, appid: &str, number: &str) -> Draft {
    Draft::order(0, path, appid, number, "1", "")
}

/// A face payment, which names no appid.
fn face(number: &str) -> Draft {
    let body = format!(r#"{{"sp_mchid":"1900000000","out_trade_no":"{number}","amount":{{"total":1}}}}"#);
    Draft::new(0, "POST", "/v3/offlineface/transactions", &body)
}

#[test]
fn the_appid_tells_jsapi_from_mini_program() {
    let mut gate = gate(|_| {});
    assert_eq!(gate.admit(&order(JSAPI, "wx-jsapi", "T1")).interfaces.as_slice(), [Interface::Jsapi]);
    assert_eq!(gate.admit(&order(JSAPI, "wx-mini", "T2")).interfaces.as_slice(), [Interface::MiniProgram]);
}

#[test]
fn each_path_means_its_interface_and_only_with_an_appid_approved_for_it() {
    let mut gate = gate(|_| {});
    for (path, appid, interface) in [
        ("/v3/pay/transactions/native", "wx-native", Interface::Native),
        ("/v3/pay/transactions/app", "wx-app", Interface::App),
        ("/v3/pay/transactions/h5", "wx-h5", Interface::H5),
        ("/v3/pay/transactions/codepay", "wx-code", Interface::PaymentCode),
    ] {
        assert_eq!(gate.admit(&order(path, appid, appid)).interfaces.as_slice(), [interface]);
        assert_eq!(gate.reason(&order(path, "wx-jsapi", appid)), Reason::InterfaceDenied);
        assert_eq!(gate.reason(&order(path, "wx-unknown", appid)), Reason::AppidUnknown);
    }
    assert_eq!(gate.admit(&face("T1")).interfaces.as_slice(), [Interface::Face]);
    assert_eq!(gate.admit(&Draft::query(0, "T1")).interfaces.as_slice(), []);
}

#[test]
fn an_interface_that_was_not_approved_is_denied() {
    let mut gate = gate(|merchant| merchant.apps.retain(|app| app.interface != Interface::Face));
    assert_eq!(gate.reason(&face("T1")), Reason::InterfaceDenied);
}

#[test]
fn a_scenario_is_judged_where_a_trusted_hop_states_it() {
    let site = || AppSpec { interface: Interface::Jsapi, scenario: Scenario::PcSite, appids: vec!["wx-jsapi".into()] };
    let mut gate = gate(|merchant| {
        merchant.apps.push(site());
        merchant.measures = vec![Measure::RestrictedScenario(Scenario::PcSite)];
    });
    let stated =
        |number: &str, scenario: &str| order(JSAPI, "wx-jsapi", number).hop(&[("tollgate-scenario", scenario)]);
    let _approved = gate.admit(&stated("T1", "official_account"));
    assert_eq!(gate.reason(&stated("T2", "pc_site")), Reason::ScenarioRestricted);
    assert_eq!(gate.reason(&stated("T2", "offline")), Reason::ScenarioDenied);
    let unstated = order(JSAPI, "wx-jsapi", "T2");
    assert_eq!(gate.reason(&unstated), Reason::ScenarioRestricted, "it could be the restricted one");
    let restricted = [Scenario::PcSite, Scenario::OfficialAccount].map(Measure::RestrictedScenario).to_vec();
    let closed = Setup::default().first(|merchant| {
        merchant.apps.push(site());
        merchant.measures = restricted;
    });
    gate.shared.replace_policy(closed.policy()).expect("nothing is recorded");
    assert_eq!(gate.reason(&order(JSAPI, "wx-jsapi", "T3")), Reason::ScenarioRestricted);
    let _other = gate.admit(&order(JSAPI, "wx-mini", "T3"));
}

#[test]
fn facts_in_headers_count_on_a_trusted_hop_only() {
    let mut gate = measured(&[Measure::RestrictedChannel(Channel::Balance)]);
    let balance = [("tollgate-channel", "balance"), ("tollgate-scenario", "offline")];
    let stated = order(JSAPI, "wx-jsapi", "T1").hop(&balance);
    assert_eq!(gate.reason(&stated), Reason::ScenarioDenied);
    let public = Draft { trust: tollgate::request::Trust::Public, ..order(JSAPI, "wx-jsapi", "T1").hop(&balance) };
    assert_eq!(gate.admit(&public).channels.as_slice(), [Channel::QuickPay]);
}

#[test]
fn requests_come_from_the_merchants_addresses_except_through_a_trusted_hop() {
    let sources = ["203.0.113.0/24", "2001:db8::1"].map(|network| network.parse().expect("a network"));
    let mut gate = gate(|merchant| merchant.sources = sources.to_vec());
    let from = |peer: Option<&str>, number: &str| {
        let peer = peer.map(|peer| peer.parse().expect("an address"));
        Draft { peer, ..Draft::native(0, number, 1) }
    };
    for (number, peer) in [("T1", "203.0.113.255"), ("T2", "::ffff:203.0.113.1"), ("T3", "2001:db8::1")] {
        let _admission = gate.admit(&from(Some(peer), number));
    }
    for peer in [Some("203.0.114.0"), Some("2001:db8::2"), Some("::1"), None] {
        assert_eq!(gate.reason(&from(peer, "T4")), Reason::SourceDenied);
        assert_eq!(gate.reason(&Draft { peer: None, ..Draft::query(0, "T1") }), Reason::SourceDenied);
    }
    let _hop = gate.admit(&from(Some("::1"), "T4").hop(&[]));
    let _anywhere = gate.admit(&Draft::native(1, "T1", 1));
}

#[test]
fn a_restricted_channel_refuses_only_where_no_other_is_possible() {
    let mut gate = measured(&[Measure::RestrictedChannel(Channel::QuickPay)]);
    assert_eq!(gate.admit(&Draft::native(0, "T1", 1)).channels.as_slice(), [Channel::Balance]);
    for facts in [("tollgate-channel", "quick_pay"), ("tollgate-instrument", "credit_card")] {
        assert_eq!(gate.reason(&Draft::native(0, "T2", 1).hop(&[facts])), Reason::ChannelRestricted);
    }
    for (number, facts) in [("T2", ("tollgate-channel", "balance")), ("T3", ("tollgate-instrument", "balance"))] {
        assert_eq!(gate.admit(&Draft::native(0, number, 1).hop(&[facts])).channels.as_slice(), [Channel::Balance]);
    }
    let _query = gate.admit(&Draft::query(0, "T1").hop(&[("tollgate-channel", "quick_pay")]));
    let both = [Channel::QuickPay, Channel::Balance].map(Measure::RestrictedChannel);
    let mut gate = measured(&both);
    assert_eq!(gate.reason(&Draft::native(0, "T1", 1)), Reason::ChannelRestricted);
    let _close = gate.admit(&Draft::close(0, "T1"));
}

#[test]
fn each_measure_stops_the_operations_it_is_for_and_no_others() {
    let closed = Some(Reason::PaymentClosed);
    let suspended = Some(Reason::MerchantSuspended);
    let terminated = Some(Reason::MerchantTerminated);
    let table = [
        (Measure::Warning, [None; 7]),
        (Measure::PaymentClosed, [closed, None, None, None, None, None, None]),
        (Measure::Suspended, [suspended, suspended, suspended, suspended, None, None, None]),
        (Measure::Terminated, [terminated; 7]),
    ];
    for (measure, expected) in table {
        let mut gate = gate(|merchant| {
            merchant.measures = vec![measure];
            merchant.keys = vec![certified(0, &serial(0))];
        });
        let calls = [
            Draft::native(0, "T1", 1),
            Draft::close(0, "T1"),
            Draft::reverse(0, "T1"),
            Draft::refund(0, "R1", 1),
            Draft::query(0, "T1"),
            Draft::new(0, "GET", "/v3/certificates", ""),
            Draft::new(0, "POST", "/v3/security/echo", "{}"),
        ];
        for (draft, refused) in calls.iter().zip(expected) {
            match refused {
                None => drop(gate.admit(draft)),
                Some(reason) => assert_eq!(gate.reason(draft), reason, "{measure:?} {}", draft.target),
            }
        }
        let _other = gate.admit(&Draft::native(1, "T1", 1));
    }
}

#[test]
fn the_gravest_measure_is_told_and_measures_come_before_everything_else_that_is_not_permitted() {
    let measures = [Measure::PaymentClosed, Measure::Suspended, Measure::Terminated];
    for (last, reason) in [(1, Reason::PaymentClosed), (2, Reason::MerchantSuspended), (3, Reason::MerchantTerminated)]
    {
        let mut gate = gate(|merchant| {
            merchant.measures = measures[..last].to_vec();
            merchant.sources = vec!["203.0.113.1".parse().expect("a network")];
            merchant.apps.clear();
        });
        assert_eq!(gate.reason(&Draft::native(0, "T1", 1)), reason);
    }
    let mut gate = gate(|merchant| {
        merchant.sources = vec!["203.0.113.1".parse().expect("a network")];
        merchant.apps.clear();
    });
    assert_eq!(gate.reason(&Draft::native(0, "T1", 1)), Reason::SourceDenied);
    assert_eq!(gate.reason(&Draft::native(0, "T1", 1).hop(&[])), Reason::AppidUnknown);
}

#[test]
fn facts_that_contradict_each_other_are_no_facts() {
    let mut gate = gate(|_| {});
    let contradicting =
        order(JSAPI, "wx-jsapi", "T1").hop(&[("tollgate-channel", "balance"), ("tollgate-instrument", "credit_card")]);
    assert_eq!(gate.reason(&contradicting), Reason::ParameterInvalid);
}
