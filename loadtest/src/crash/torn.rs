//! Journals as decisions leave them, and what a loss of power may make of them: sector by sector.

use super::Outcome;
use super::scene::CrashError;
use super::sim::{self, Setting, Story};

/// Makes so many images of journals, and recovers each.
pub fn run(images: u32, first: u64, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CrashError> {
    let setting = Setting::new()?;
    let stories = images.div_ceil(IMAGES_PER_STORY);
    let of_story = |story: u32| {
        let count = IMAGES_PER_STORY.min(images - story * IMAGES_PER_STORY);
        let seed = first.saturating_add(story.into());
        let torn = Story::new(&setting, seed).torn(count);
        torn.map_err(|fault| format!("seed {seed}: {fault}; again: tests/crash torn {IMAGES_PER_STORY} {seed}"))
    };
    let told = sim::in_threads(stories, &of_story);
    let (mut outcome, mut refused) = (Outcome::default(), 0);
    for (story, torn) in (0..).zip(told) {
        match torn {
            Ok(counts) => {
                outcome.passed += counts.recovered + counts.refused;
                refused += counts.refused;
            }
            Err(fault) => {
                tell(&format!("journal {story}: {fault}"));
                outcome.faults.push(fault);
                outcome.failed += 1;
            }
        }
    }
    outcome.summary = format!("{stories} journals, {} images; {refused} refused as damaged\n", outcome.passed);
    Ok(outcome)
}

/// Images of one journal.
const IMAGES_PER_STORY: u32 = 50;
