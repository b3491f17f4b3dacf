//! One story lived again and again, each time with another call of the disk failing.

use tollgate::storage::faulty::{Error, Rule};

use super::Outcome;
use super::scene::CrashError;
use super::sim::{self, Setting, Story};

/// Has so many calls fail, spread over all that a story makes.
pub fn run(faults: u32, first: u64, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CrashError> {
    let setting = Setting::new()?;
    let impossible = |fault: String| CrashError::Gate(std::io::Error::other(fault));
    let calls = Story::new(&setting, first).with_fault(None).map_err(impossible)?;
    let rule = |number: u32| {
        let after = u64::from(number) * calls / u64::from(faults.max(1));
        // Once, as a disk that has a bad moment; or from there on.
        let times = if number % 4 < 2 { 1 } else { u64::MAX };
        let error = if number.is_multiple_of(2) { Error::Broken } else { Error::Full };
        Rule { call: None, after, times, error }
    };
    let with_fault = |number: u32| {
        let rule = rule(number);
        let lived = Story::new(&setting, first).with_fault(Some(rule));
        lived.map(drop).map_err(|fault| format!("seed {first}, {rule:?}: {fault}"))
    };
    let mut outcome = Outcome::default();
    for lived in sim::in_threads(faults, &with_fault) {
        match lived {
            Ok(()) => outcome.passed += 1,
            Err(fault) => {
                tell(&fault);
                outcome.faults.push(fault);
                outcome.failed += 1;
            }
        }
    }
    outcome.summary = format!("a story of {calls} calls of the disk, {faults} of them failed, one each time\n");
    Ok(outcome)
}
