//! Payments of customers that were never seen before, recorded as a gate records them.

use std::path::Path;
use std::sync::Arc;

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng, TryRng as _};
use smallvec::SmallVec;
use tollgate::journal::{
    DecisionEntry, Entry, Found, Image, ImagePhase, ImageStake, Keeper, Log, NonceEntry, Open, Options, RowPart,
    SEGMENT_BYTES_MIN, Sealed, Sink, Syncer,
};
use tollgate::storage::{Disk, Lock, Storage};
use tollgate::time::UnixMillis;
use tollgate::types::{DecisionId, MerchantId, Operation};

use crate::ratios::orders::NOW;
use crate::ratios::{RatioError, Size};

/// A journal that is written.
pub(super) struct Recorded {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) sealed: Sealed,
    log: Log,
    syncer: Syncer,
    keeper: Keeper,
    random: StdRng,
    merchant: MerchantId,
    _lock: Box<dyn Lock>,
}

impl Recorded {
    /// Begins a journal in a folder, with the labels of the limits.
    pub(super) fn new(folder: &Path, size: Size) -> Result<Self, RatioError> {
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        let segment_bytes = match size {
            Size::Full => SEGMENT_BYTES,
            Size::Smoke => SEGMENT_BYTES_MIN,
        };
        let Open { mut writers, syncer, keeper, lock, .. } =
            opened(&storage, folder, segment_bytes)?.begin(1).map_err(RatioError::broken("a journal"))?;
        let writer = writers.pop().ok_or(RatioError::Wrong("a journal without a writer"))?;
        let log = Log::new(Box::new(writer) as Box<dyn Sink>);
        let sealed = keeper.sealed().clone();
        let random = StdRng::seed_from_u64(SEED);
        let merchant = MERCHANT.parse().map_err(RatioError::broken("a merchant's identity"))?;
        let recorded = Self { storage, sealed, log, syncer, keeper, random, merchant, _lock: lock };
        for label in 1..=LIMITS {
            let name = format!("limit {label}, Asia/Shanghai, 0, fen");
            let entry = Entry::Label { label, name };
            recorded.log.turn().entry(NOW, &entry).map_err(RatioError::broken("a label"))?;
        }
        Ok(recorded)
    }

    /// Records so many decisions of an instant, in batches as a worker records them.
    pub(super) fn decide(&mut self, decisions: u64, at: UnixMillis) -> Result<(), RatioError> {
        for number in 0..decisions {
            let entry = self.payment(at);
            let mut turn = self.log.turn();
            if turn.room_bytes() < ROOM_BYTES {
                // No segment is ready: the last one has to be safe before the next is made.
                drop(turn);
                self.keep()?;
                turn = self.log.turn();
            }
            turn.decision(at, &entry).map_err(RatioError::broken("a record"))?;
            if number % BATCH == BATCH - 1 || number + 1 == decisions {
                turn.flush().map_err(RatioError::broken("the journal"))?;
            }
        }
        self.keep()
    }

    /// Makes safe what is written, seals what is full, and has the next segment ready.
    fn keep(&mut self) -> Result<(), RatioError> {
        self.syncer.step().map_err(RatioError::broken("a sync"))?;
        self.keeper.seal().map_err(RatioError::broken("a seal"))?;
        self.keeper.prepare().map(drop).map_err(RatioError::broken("a segment"))
    }

    /// Makes what is recorded of the payment of another customer: under four limits, in a day and a month each.
    fn payment(&mut self, at: UnixMillis) -> DecisionEntry {
        let decision = DecisionId(self.random.random());
        let part = |label, row: u128| RowPart {
            row: row & !TAG_MASK,
            label,
            tag: 0,
            counts: false,
            windows: [DAY, MONTH],
            charged: AMOUNT_FEN,
        };
        let parts: SmallVec<_> = (1..=LIMITS).map(|label| part(label, self.random.random())).collect();
        let now_s = u32::try_from(at.seconds()).unwrap_or(u32::MAX);
        let order = Image {
            decision,
            key: self.random.random(),
            check: self.random.random(),
            digest: self.random.random(),
            merchant: self.merchant,
            revision: 1,
            phase: ImagePhase::Held,
            keep_on_expiry: false,
            note: 0,
            amount_fen: AMOUNT_FEN,
            refunded_fen: 0,
            since_s: now_s,
            expires_s: now_s.saturating_add(7200),
            stake: ImageStake::Payment(parts),
        };
        let nonce = NonceEntry { key: self.random.random(), digest: self.random.random(), end_s: at.seconds() + 600 };
        DecisionEntry {
            decision,
            merchant: self.merchant,
            operation: Operation::Pay,
            amount_fen: AMOUNT_FEN,
            refused: None,
            limit: None,
            duplicate: false,
            shadowed: SmallVec::new(),
            nonce: Some(nonce),
            order: Some(order),
        }
    }
}

/// Opens the journal of a folder as a gate does that starts.
pub(super) fn found(folder: &Path) -> Result<Found, RatioError> {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    opened(&storage, folder, SEGMENT_BYTES)
}

fn opened(storage: &Arc<dyn Storage>, folder: &Path, segment_bytes: u64) -> Result<Found, RatioError> {
    let epoch = SysRng.try_next_u64().map_err(RatioError::broken("random bytes"))?;
    let options = Options { folder: folder.to_owned(), segment_bytes, fingerprint: FINGERPRINT, epoch };
    Found::open(Arc::clone(storage), options).map_err(RatioError::broken("a journal"))
}

/// When all is recorded.
pub(super) const AT: UnixMillis = NOW;

/// Limits that each payment falls under: as many rows are charged.
pub(super) const LIMITS: u32 = 4;

/// Tells the deployment's key.
pub(super) const FINGERPRINT: [u8; 16] = [7; 16];

/// Bytes of a segment: those of a gate whose configuration says nothing else.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Decisions that are written at once.
const BATCH: u64 = 8;

/// Room that is left for a batch.
const ROOM_BYTES: usize = 1 << 16;

/// The bits of a row that no key has: which of its two rows it is, and its tag.
const TAG_MASK: u128 = ((1 << 17) - 1) << 64;

/// The windows of [`NOW`].
const DAY: u16 = 20_779;
const MONTH: u16 = 682;

const AMOUNT_FEN: u64 = 100;
const MERCHANT: &str = "1900000001";
const SEED: u64 = 0x5c00_9e21;
