//! Signatures: RSASSA-PKCS1-v1_5 with SHA-256 and 2048 bits, of several merchants.
//!
//! Ours starts from a request: it joins the message and decodes the signature as well. The rivals only verify.

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::signature as aws_lc;
use ring::signature as ring;
use tollgate::signature::{Extracted, Invalid, Verified, Verifier};

use super::orders::{Order, Prepared, Signer, jobs, verify_all};
use super::row::Sorted;
use super::{Better, Contest, Entry, NotReady, Pair, RatioError, Size};

/// Returns the rows of verification.
pub(super) fn entries(size: Size) -> Vec<Entry> {
    let row = |name, batch, library| Entry::new(name, move || Verify::new(size, batch, library));
    vec![
        row("verify.rsa2048.single_vs_ring", 1, Library::Ring),
        row("verify.rsa2048.batch8_vs_ring", BATCH, Library::Ring),
        row("verify.rsa2048.batch8_vs_awslc", BATCH, Library::AwsLc),
    ]
}

#[derive(Clone, Copy)]
enum Library {
    AwsLc,
    Ring,
}

/// The keys of a rival, as it keeps them between requests.
pub(super) enum RivalKeys {
    AwsLc(Vec<aws_lc::ParsedPublicKey>),
    /// Ring has no parsed form of a key: each verification parses it.
    Ring(Vec<ring::UnparsedPublicKey<Vec<u8>>>),
}

impl RivalKeys {
    fn new(library: Library, signers: &[Signer]) -> Result<Self, RatioError> {
        match library {
            Library::AwsLc => {
                let parse = |signer: &Signer| {
                    aws_lc::ParsedPublicKey::new(&aws_lc::RSA_PKCS1_2048_8192_SHA256, signer.public_key_der())
                };
                let keys = signers.iter().map(parse).collect::<Result<_, _>>();
                keys.map(Self::AwsLc).map_err(RatioError::broken("a key of aws-lc"))
            }
            Library::Ring => Ok(Self::ring(signers)),
        }
    }

    /// Makes the keys for ring.
    pub(super) fn ring(signers: &[Signer]) -> Self {
        let key = |signer: &Signer| {
            ring::UnparsedPublicKey::new(&ring::RSA_PKCS1_2048_8192_SHA256, signer.public_key_der().to_vec())
        };
        Self::Ring(signers.iter().map(key).collect())
    }

    /// Tells whether all are valid.
    pub(super) fn verify_all(&self, prepared: &[Prepared]) -> bool {
        match self {
            Self::AwsLc(keys) => prepared.iter().all(|Prepared { signer, message, signature }| {
                keys.get(*signer).is_some_and(|key| key.verify_sig(message, signature).is_ok())
            }),
            Self::Ring(keys) => prepared.iter().all(|Prepared { signer, message, signature }| {
                keys.get(*signer).is_some_and(|key| key.verify(message, signature).is_ok())
            }),
        }
    }
}

/// The verifier of this project beside a library.
struct Verify {
    library: Library,
    batch: usize,
    passes: usize,
    signers: Vec<Signer>,
    orders: Vec<Order>,
    prepared: Vec<Prepared>,
    keys: RivalKeys,
    verifier: Verifier,
    verdicts: Vec<Result<Verified, Invalid>>,
}

impl Verify {
    fn new(size: Size, batch: usize, library: Library) -> Result<Self, NotReady> {
        let (signers, orders, passes) = match size {
            Size::Full => (BATCH, 64, 25),
            Size::Smoke => (2, BATCH, 1),
        };
        let signers = Signer::several(signers)?;
        let orders = Order::several(&signers, orders)?;
        Ok(Self {
            library,
            batch,
            passes,
            prepared: orders.iter().map(Prepared::new).collect::<Result<_, _>>()?,
            keys: RivalKeys::new(library, &signers)?,
            signers,
            orders,
            verifier: Verifier::new(),
            verdicts: Vec::new(),
        })
    }

    /// Both find the one forged order among valid ones.
    fn refuse_alike(&mut self) -> Result<(), RatioError> {
        let forged = self.orders.first().ok_or(RatioError::Wrong("no orders"))?.forged();
        let rival = [Prepared::new(&forged)?];
        RatioError::check(!self.keys.verify_all(&rival), "the rival takes a forged signature")?;
        let orders: Vec<_> = std::iter::once(&forged).chain(self.orders.iter().skip(1)).take(self.batch).collect();
        let extracted = orders.iter().map(|order| order.extracted()).collect::<Result<Vec<_>, _>>()?;
        let jobs = jobs(&self.signers, orders, &extracted)?;
        self.verifier.verify(&jobs, &mut self.verdicts);
        let valid: Vec<_> = self.verdicts.iter().map(Result::is_ok).collect();
        let right = valid.len() == self.batch && valid.iter().zip(0..).all(|(valid, number)| *valid == (number > 0));
        RatioError::check(right, "ours does not find the one forged signature")
    }
}

impl Contest for Verify {
    fn rival_name(&self) -> &'static str {
        match self.library {
            Library::AwsLc => "aws-lc-rs, parsed key",
            Library::Ring => "ring",
        }
    }

    fn unit(&self) -> &'static str {
        "ns"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        self.refuse_alike()?;
        let extracted = self.orders.iter().map(Order::extracted).collect::<Result<Vec<Extracted<'_>>, _>>()?;
        let jobs = jobs(&self.signers, &self.orders, &extracted)?;
        let each = |began: Instant| began.elapsed().as_secs_f64() * 1e9 / jobs.len() as f64;
        let (mut ours, mut rival) = (Vec::new(), Vec::new());
        for _ in 0..self.passes {
            let began = Instant::now();
            let valid = verify_all(&mut self.verifier, &mut self.verdicts, black_box(&jobs), self.batch);
            ours.push(each(began));
            RatioError::check(valid, "ours refuses a valid signature")?;
            let began = Instant::now();
            let valid = self.keys.verify_all(black_box(&self.prepared));
            rival.push(each(began));
            RatioError::check(valid, "the rival refuses a valid signature")?;
        }
        let middle = |times: Vec<f64>| Sorted::new(times.into_iter()).percentile(50);
        Ok(Pair { ours: middle(ours), rival: middle(rival) })
    }
}

/// Signatures that are verified together, as many as a worker decides together.
const BATCH: usize = 8;
