//! `tollgate settle`: commits or releases a decision of a running gate.

use std::io::Write;

use serde::Deserialize;

use super::Failure;
use super::control::{Client, ControlError, Place};
use crate::admin::{SettleFacts, decision_of};
use crate::types::{AccountClass, Authentication, Channel, CodeGrade, DecisionId, Instrument};

/// How which decision is settled.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// What the payment came to.
    #[arg(value_name = "commit|release")]
    settle: Settle,
    /// The decision: 32 hexadecimal digits, as the gate named it.
    #[arg(value_parser = decision)]
    decision: DecisionId,
    /// How the customer paid: quick_pay or balance.
    #[arg(long)]
    channel: Option<Channel>,
    /// What the money was taken from: credit_card, debit_card or balance.
    #[arg(long)]
    instrument: Option<Instrument>,
    /// The class of the customer's payment account: i, ii or iii.
    #[arg(long, value_name = "CLASS")]
    account_class: Option<AccountClass>,
    /// The grade of the risk precautions of a payment by bar code: a, b, c or d.
    #[arg(long, value_name = "GRADE")]
    code_grade: Option<CodeGrade>,
    /// How the payment was authenticated: certificate, two_factors or fewer.
    #[arg(long)]
    authentication: Option<Authentication>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Settle {
    /// The payment was made: what it took stays taken.
    Commit,
    /// It was not, and will not be: what it took is given back.
    Release,
}

/// Settles, and says what became of the decision.
pub(super) fn run(options: &Options, out: &mut dyn Write) -> Result<(), Failure> {
    let verb = match options.settle {
        Settle::Commit => "commit",
        Settle::Release => "release",
    };
    let target = format!("/v1/decisions/{}/{verb}", options.decision);
    let &Options { channel, instrument, account_class, code_grade, authentication, .. } = options;
    let facts = SettleFacts { channel, instrument, account_class, code_grade, authentication };
    let body = serde_json::to_vec(&facts).map_err(ControlError::Form)?;
    let answer = Client::new(options.place.find()?)?.post(&target, body)?;
    let settled: Settled = serde_json::from_slice(&answer).map_err(ControlError::Form)?;
    writeln!(out, "{}: {}", options.decision, settled.words()).map_err(ControlError::Local)?;
    Ok(())
}

fn decision(text: &str) -> Result<DecisionId, &'static str> {
    decision_of(text).ok_or("write the 32 lower-case hexadecimal digits by which the gate named it")
}

/// What the gate answers.
#[derive(Debug, Deserialize)]
struct Settled {
    state: State,
    already: bool,
    late: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Committed,
    Released,
    Pending,
}

impl Settled {
    fn words(&self) -> &'static str {
        match (self.state, self.already, self.late) {
            (State::Committed, true, _) => "committed already; nothing was done",
            (State::Committed, false, false) => "committed",
            (State::Committed, false, true) => {
                "committed after its hold had expired: the amount was taken again, past any ceiling"
            }
            (State::Released, true, _) => "released already; nothing was done",
            (State::Released, false, _) => "released",
            (State::Pending, ..) => {
                "pending: its request is still being answered, and it is released if that is refused; ask again"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Asked, Running};
    use crate::admission::SettleAs;
    use crate::cli::tests::output;

    #[test]
    fn a_decision_is_settled_with_the_facts_named_and_told_in_words() {
        let gate = Running::usual();
        let (at, id) = (gate.address.to_string(), DecisionId(0xab).to_string());
        let facts = ["--channel", "balance", "--instrument", "balance", "--account-class", "iii", "--code-grade", "c"];
        let facts = [facts.as_slice(), &["--authentication", "fewer"]].concat();
        let commit = |facts: &[&str]| {
            let line = ["settle", "--control", &at, "commit", &id];
            output(&[line.as_slice(), facts].concat()).expect("settled")
        };
        assert_eq!(commit(&facts), format!("{id}: committed\n"));
        assert_eq!(commit(&[]), format!("{id}: committed already; nothing was done\n"));
        let named = SettleFacts {
            channel: Some(Channel::Balance),
            instrument: Some(Instrument::Balance),
            account_class: Some(AccountClass::III),
            code_grade: Some(CodeGrade::C),
            authentication: Some(Authentication::Fewer),
        };
        let asked = |facts| Asked::Settle(DecisionId(0xab), SettleAs::Commit, facts);
        assert_eq!(gate.control.asked(), [asked(named), asked(SettleFacts::default())]);
        let conflict = output(&["settle", "--control", &at, "release", &id]).expect_err("a conflict");
        assert!(conflict.contains("409") && conflict.contains("a refund or reversal through the gate"), "{conflict}");
        gate.stop();
    }

    #[test]
    fn a_mistake_on_the_command_line_is_refused_before_anything_is_sent() {
        let id = DecisionId(0xab).to_string();
        let place = ["settle", "--control", "127.0.0.1:1"];
        for rest in [
            ["keep", &id].as_slice(),
            &["commit", "ab"],
            &["commit", &id.to_uppercase()],
            &["commit", &id, "--channel", "cash"],
            &["commit"],
        ] {
            let refused = output(&[place.as_slice(), rest].concat()).expect_err("refused");
            assert!(!refused.contains("no gate can be reached"), "{refused}");
        }
    }

    #[test]
    fn what_became_of_a_decision_is_told_apart() {
        let mut told = Vec::new();
        for state in [State::Committed, State::Released, State::Pending] {
            for (already, late) in [(false, false), (true, false), (false, true)] {
                told.push(Settled { state, already, late }.words());
            }
        }
        told.dedup();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), 6, "{told:?}");
    }
}
