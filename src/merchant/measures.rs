//! What risk control put on a merchant, in the form that a decision asks for it.

use super::spec::Measure;
use crate::reason::Reason;
use crate::types::{Channel, Operation, Scenario};

/// The measures in force on one merchant, as the decision asks for them.
#[derive(Debug)]
pub(super) struct Measures {
    /// The share of every ceiling that is left, in thousandths.
    pub factor_permille: u16,
    /// Channels that no payment may take.
    pub restricted_channels: Vec<Channel>,
    /// Scenarios that no payment may come from.
    pub restricted_scenarios: Vec<Scenario>,
    suspended: bool,
    payment_closed: bool,
    terminated: bool,
}

impl Measures {
    /// Puts measures together.
    pub fn new(measures: &[Measure]) -> Self {
        let mut all = Self {
            factor_permille: 1000,
            restricted_channels: Vec::new(),
            restricted_scenarios: Vec::new(),
            suspended: false,
            payment_closed: false,
            terminated: false,
        };
        for measure in measures {
            match *measure {
                Measure::Warning => {}
                // Of several factors the strictest holds.
                Measure::LimitFactor { permille } => all.factor_permille = all.factor_permille.min(permille),
                Measure::RestrictedChannel(channel) => all.restricted_channels.push(channel),
                Measure::RestrictedScenario(scenario) => all.restricted_scenarios.push(scenario),
                Measure::Suspended => all.suspended = true,
                Measure::PaymentClosed => all.payment_closed = true,
                Measure::Terminated => all.terminated = true,
            }
        }
        all
    }

    /// Judges whether an operation may pass at all.
    ///
    /// # Errors
    /// The reason why not.
    pub fn allow(&self, operation: Operation) -> Result<(), Reason> {
        let harmless = match operation {
            Operation::Query | Operation::Certificates | Operation::Echo => true,
            Operation::Pay | Operation::Close | Operation::Reverse | Operation::Refund => false,
        };
        if self.terminated {
            Err(Reason::MerchantTerminated)
        } else if self.suspended && !harmless {
            Err(Reason::MerchantSuspended)
        } else if self.payment_closed && operation == Operation::Pay {
            Err(Reason::PaymentClosed)
        } else {
            Ok(())
        }
    }
}
