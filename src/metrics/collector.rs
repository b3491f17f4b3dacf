//! Adds the workers up and writes every family out, when scraped. Cold.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};

use super::families::{self, Family};
use super::histogram::{Reading, Scale};
use super::worker::{BATCH_BOUNDS, BATCH_SCALE, SKEW_SCALE, STAGE_SCALE};
use super::{Gauges, Readings, Stage, Worker};
use crate::reason::Reason;

/// Where the numbers come from.
pub(super) struct Sources {
    pub workers: Vec<Arc<Worker>>,
    pub gauges: Arc<dyn Gauges>,
}

impl Sources {
    /// Adds a counter up over the workers.
    pub fn total(&self, read: impl Fn(&Worker) -> u64) -> u64 {
        // Wrapping: counters wrap by nature, and the reader of a series takes that for a restart.
        self.workers.iter().fold(0, |sum, worker| sum.wrapping_add(read(worker)))
    }

    /// Returns every reason with its count.
    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|reason| (*reason, self.total(|worker| worker.refusals(*reason))))
    }

    /// Returns the sizes of all batches.
    pub fn batches(&self) -> Reading<BATCH_BOUNDS> {
        self.merged(Worker::batches)
    }

    fn merged<const N: usize>(&self, read: impl Fn(&Worker) -> Reading<N>) -> Reading<N> {
        self.workers.iter().fold(Reading::empty(), |sum, worker| sum.add(&read(worker)))
    }

    fn write_decisions(&self, page: &mut Page<'_>) -> fmt::Result {
        let mut decisions = page.open(&families::DECISIONS)?;
        let admitted = self.total(Worker::admissions);
        counter(&mut decisions, &[("verdict", "admitted"), ("reason", "")], admitted)?;
        for (reason, refused) in self.refusals() {
            counter(&mut decisions, &[("verdict", "refused"), ("reason", reason.as_str())], refused)?;
        }
        page.counter(&families::DUPLICATES, self.total(Worker::duplicates))?;
        page.counter(&families::SHADOW_REFUSALS, self.total(Worker::shadow_refusals))?;
        page.counter(&families::REQUESTS, self.total(Worker::requests))
    }

    fn write_times(&self, page: &mut Page<'_>) -> fmt::Result {
        let mut batches = page.open(&families::BATCH_REQUESTS)?;
        histogram(&mut batches, &self.batches(), &BATCH_SCALE)?;
        let mut stages = page.open(&families::STAGE_SECONDS)?;
        for stage in Stage::ALL {
            let reading = self.merged(|worker| worker.stage_seconds(*stage));
            histogram(&mut stages.encode_family(&[("stage", stage.as_str())])?, &reading, &STAGE_SCALE)?;
        }
        let mut skews = page.open(&families::CLOCK_SKEW_SECONDS)?;
        let ahead = self.merged(Worker::skew_ahead);
        histogram(&mut skews.encode_family(&[("direction", "ahead")])?, &ahead, &SKEW_SCALE)?;
        let behind = self.merged(Worker::skew_behind);
        histogram(&mut skews.encode_family(&[("direction", "behind")])?, &behind, &SKEW_SCALE)
    }

    fn write_connections(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter(&families::CONNECTIONS_OPENED, self.total(Worker::connections_opened))?;
        page.counter(&families::CONNECTIONS_CLOSED, self.total(Worker::connections_closed))?;
        page.counter(&families::CONNECTIONS_REFUSED, self.total(Worker::connections_refused))?;
        page.counter(&families::MULTIPLEXED_CONNECTIONS, self.total(Worker::multiplexed_connections))?;
        page.counter(&families::STREAMS_RESET, self.total(Worker::resets))?;
        page.counter(&families::FLOODS_ENDED, self.total(Worker::floods_ended))?;
        page.counter(&families::HANDSHAKES_FAILED, self.total(Worker::handshakes_failed))?;
        page.counter(&families::ACCEPTS_FAILED, self.total(Worker::accepts_failed))
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder };
        self.write_decisions(&mut page)?;
        self.write_times(&mut page)?;
        self.write_connections(&mut page)?;
        let readings = self.gauges.read();
        write_tables(&readings, &mut page)?;
        write_holds(&readings, &mut page)?;
        write_journal(&readings, &mut page)?;
        write_state(&readings, &mut page)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.open(&families::BUILD)?.encode_info(&version)
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

fn write_tables(readings: &Readings, page: &mut Page<'_>) -> fmt::Result {
    let held = [("nonces", readings.nonces), ("orders", readings.orders), ("limit_rows", readings.rows)];
    let bounds = [("nonces", readings.nonces_max), ("orders", readings.orders_max), ("limit_rows", readings.rows_max)];
    page.gauges(&families::TABLE_ENTRIES, "table", held)?;
    page.gauges(&families::TABLE_ENTRIES_MAX, "table", bounds)?;
    page.gauge(&families::ROWS_BYTES, readings.rows_bytes)?;
    page.gauge(&families::ROWS_SLICED, readings.rows_sliced)?;
    page.gauge(&families::CELLS_USED, readings.cells_used)?;
    let mut conservation = page.open(&families::CONSERVATION_ERROR)?;
    readings.conservation_error.map_or(Ok(()), |error| conservation.encode_gauge(&error))
}

fn write_holds(readings: &Readings, page: &mut Page<'_>) -> fmt::Result {
    page.gauges(&families::HOLDS, "age", readings.holds.iter().map(|(age, orders, _)| (*age, *orders)))?;
    page.gauges(&families::HOLDS_FEN, "age", readings.holds.iter().map(|(age, _, fen)| (*age, *fen)))?;
    page.counters(
        &families::SETTLEMENTS,
        "event",
        readings.settlements.iter().map(|(event, orders, _)| (*event, *orders)),
    )?;
    page.counters(
        &families::SETTLEMENTS_FEN,
        "event",
        readings.settlements.iter().map(|(event, _, fen)| (*event, *fen)),
    )
}

fn write_state(readings: &Readings, page: &mut Page<'_>) -> fmt::Result {
    let merchant = readings.merchant_certificate_days_left_min.map(|days| ("merchant", days));
    let platform = readings.platform_certificate_days_left_min.map(|days| ("platform", days));
    page.gauges(&families::CERTIFICATE_DAYS_LEFT, "kind", merchant.into_iter().chain(platform))?;
    let mut lists = page.open(&families::REVOCATION_LIST_DAYS_LEFT)?;
    readings.revocation_list_days_left_min.map_or(Ok(()), |days| lists.encode_gauge(&days))?;
    page.gauge(&families::MERCHANTS, readings.merchants)?;
    page.gauge(&families::CONNECTIONS, readings.connections)?;
    page.gauge(&families::BODIES_BYTES, readings.bodies_bytes)?;
    page.gauge(&families::ANSWERS_BYTES, readings.answers_bytes)?;
    page.gauge(&families::SIGNING_QUEUE, readings.signing_queue)?;
    page.gauge(&families::READY, u64::from(readings.ready))
}

fn write_journal(readings: &Readings, page: &mut Page<'_>) -> fmt::Result {
    let Some(journal) = readings.journal else { return Ok(()) };
    page.gauge(&families::JOURNAL_EXPOSED_FEN, journal.exposed_fen)?;
    page.open(&families::JOURNAL_EXPOSED_SECONDS)?.encode_gauge(&journal.exposed_seconds)?;
    page.gauge(&families::JOURNAL_GIVE_BACKS, journal.give_backs_waiting)?;
    page.gauge(&families::JOURNAL_FULL, u64::from(journal.full))?;
    page.gauge(&families::JOURNAL_FAILED, u64::from(journal.failed))?;
    page.gauge(&families::STORE_BEHIND_RECORDS, journal.behind_records)?;
    page.gauge(&families::STORE_BEHIND_FEN, journal.behind_fen)?;
    page.open(&families::STORE_BEHIND_SECONDS)?.encode_gauge(&journal.behind_seconds)
}

/// The text being written.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    fn open(&mut self, family: &'static Family) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.encoder.encode_descriptor(family.stem(), family.help, family.unit.as_ref(), family.kind)
    }

    fn counter(&mut self, family: &'static Family, value: u64) -> fmt::Result {
        self.open(family)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, family: &'static Family, value: impl EncodeGaugeValue) -> fmt::Result {
        self.open(family)?.encode_gauge(&value)
    }

    fn counters(
        &mut self,
        family: &'static Family,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.open(family)?;
        values.into_iter().try_for_each(|(name, value)| counter(&mut metric, &[(label, name)], value))
    }

    fn gauges<V: EncodeGaugeValue>(
        &mut self,
        family: &'static Family,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) -> fmt::Result {
        let mut metric = self.open(family)?;
        values.into_iter().try_for_each(|(name, value)| metric.encode_family(&[(label, name)])?.encode_gauge(&value))
    }
}

fn counter<const N: usize>(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str); N], value: u64) -> fmt::Result {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn histogram<const N: usize>(metric: &mut MetricEncoder<'_>, reading: &Reading<N>, scale: &Scale<N>) -> fmt::Result {
    let buckets = reading.buckets(scale);
    metric.encode_histogram::<NoLabelSet>(scale.shown(reading.sum), reading.count(), &buckets, None)
}
