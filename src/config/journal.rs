//! Where decisions are recorded, and how safe they are then.

use std::path::PathBuf;

use crate::front::ExposureMax;
use crate::journal::{Durability, Keep, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

use super::bounds::{MIB, at_most, within};
use super::fault::{Fault, Problem, ROOT};
use super::file::Folder;
use super::shape;

/// Where decisions are recorded.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The folder, for this gate alone.
    pub folder: PathBuf,
    /// How safe a decision must be before anything that follows from it leaves.
    pub durability: Durability,
    /// With durability `process`, what a loss of power may take at most.
    pub exposure: ExposureMax,
    /// Bytes of a file.
    pub segment_bytes: u64,
    /// Room that decisions leave for what becomes of orders, in bytes.
    pub reserve_bytes: usize,
    /// How long records are kept for audit.
    pub keep: Keep,
    /// The most that the clock may be behind the highest time ever recorded, in milliseconds.
    pub step_back_ms_max: u32,
    /// Whether to start where records are missing between the store and the journal.
    pub accept_missing: bool,
}

/// Checks the section `journal`; `None` where nothing is recorded.
pub(super) fn check(shape: Option<shape::Journal>, folder: Folder<'_>) -> Result<Option<Journal>, Fault> {
    let Some(shape) = shape else { return Ok(None) };
    let at = ROOT.key("journal");
    if shape.folder.is_empty() {
        let problem = Problem::Text { found: shape.folder, expected: "the folder of this gate's journal" };
        return Err(at.key("folder").refuse(problem));
    }
    at_most(&at.key("reserve_bytes"), shape.reserve_bytes, "segment_bytes", shape.segment_bytes)?;
    Ok(Some(Journal {
        folder: folder.path(&shape.folder),
        durability: shape.durability,
        exposure: ExposureMax {
            age_ms: within(&at.key("exposure_ms"), shape.exposure_ms, 1..=60_000)?,
            fen: within(&at.key("exposure_fen"), shape.exposure_fen, 0..=u64::MAX)?,
        },
        segment_bytes: within(&at.key("segment_bytes"), shape.segment_bytes, SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX)?,
        reserve_bytes: within(&at.key("reserve_bytes"), shape.reserve_bytes, MIB / 4..=SEGMENT_BYTES_MAX)?,
        keep: Keep {
            seconds: within(&at.key("keep_s"), shape.keep_s, 3600..=10 * 365 * 86_400)?,
            bytes: within(&at.key("keep_bytes"), shape.keep_bytes, SEGMENT_BYTES_MIN..=u64::MAX)?,
        },
        accept_missing: shape.accept_missing,
        step_back_ms_max: within(&at.key("step_back_ms_max"), shape.step_back_ms_max, 0..=3_600_000)?,
    }))
}
