//! Which windows a row holds, and which of them are over everywhere.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::cell::Cell;
use super::row::Key;
use super::{CellDemand, Demand};
use crate::time::UnixMillis;
use crate::types::Window;

/// Which of a limit's two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Day and month.
    Short,
    /// Year and lifetime.
    Long,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Short, Self::Long];

    /// Returns the windows of the two cells.
    pub(super) const fn windows(self) -> [Window; 2] {
        match self {
            Self::Short => [Window::Day, Window::Month],
            Self::Long => [Window::Year, Window::Lifetime],
        }
    }

    /// Puts what is said of the two cells in the place that they have among a limit's windows.
    pub(super) const fn among_four<T: Copy>(self, [first, second]: [Option<T>; 2]) -> [Option<T>; 4] {
        match self {
            Self::Short => [first, second, None, None],
            Self::Long => [None, None, first, second],
        }
    }
}

impl Demand {
    /// Returns the key of a row, and whether anything is asked of it.
    #[inline]
    pub(super) const fn row_of(&self, kind: Kind) -> (bool, Key) {
        let [first, second] = self.cells_of(kind);
        (first.is_some() || second.is_some(), Key::new(self.row, kind))
    }

    /// Returns what is asked of the two cells of a row.
    #[inline]
    pub(super) const fn cells_of(&self, kind: Kind) -> [Option<&CellDemand>; 2] {
        let [day, month, year, lifetime] = &self.cells;
        match kind {
            Kind::Short => [day.as_ref(), month.as_ref()],
            Kind::Long => [year.as_ref(), lifetime.as_ref()],
        }
    }
}

/// The oldest windows that may be open somewhere. A lifetime always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Boundary {
    day: u16,
    month: u16,
    year: u16,
}

impl Boundary {
    /// Returns the oldest windows that may be open at an instant by any calendar.
    ///
    /// Zones lie within 14 hours of UTC and a day begins at most 23 hours late, so a local date is never as far from
    /// that of UTC as [`ZONES_DAYS`]. Before 1970 nothing is over; after 2149 all that a cell can name is.
    pub(super) fn at(now: UnixMillis) -> Self {
        let second = now.seconds().saturating_sub(ZONES_DAYS * DAY_S).max(0);
        let date = Timestamp::from_second(second).unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date();
        let year = i64::from(date.year()) - 1970;
        let id = |id: i64| u16::try_from(id.max(0)).unwrap_or(u16::MAX);
        Self {
            day: id(now.seconds().div_euclid(DAY_S) - ZONES_DAYS + 1),
            month: id(year * 12 + i64::from(date.month()) - 1),
            year: id(year),
        }
    }

    /// Returns the oldest open windows of the two cells of a row.
    pub(super) const fn of(self, kind: Kind) -> [u16; 2] {
        match kind {
            Kind::Short => [self.day, self.month],
            Kind::Long => [self.year, LIFETIME],
        }
    }

    /// Raises the boundary to windows of the two cells of a row, where they are newer.
    pub(super) fn raise(&mut self, kind: Kind, [first, second]: [u16; 2]) {
        match kind {
            Kind::Short => {
                self.day = self.day.max(first);
                self.month = self.month.max(second);
            }
            Kind::Long => self.year = self.year.max(first),
        }
    }
}

/// Tells whether a cell holds nothing that matters any more: its window is over; or nothing is used of it, and no other
/// window before it can come again, so that a row added later may begin with this one.
pub(super) fn is_over(cell: Cell, window: Window, oldest_open: u16) -> bool {
    match window {
        Window::Lifetime => cell.used == 0,
        Window::Day | Window::Month | Window::Year => {
            cell.window_id < oldest_open || (cell.used == 0 && cell.window_id == oldest_open)
        }
    }
}

/// Returns the oldest window that may be charged once a cell that said this is gone.
pub(super) fn floor_after(cell: Cell) -> u16 {
    if cell.used == 0 { cell.window_id } else { cell.window_id.saturating_add(1) }
}

/// The one window that is always open.
const LIFETIME: u16 = 0;

/// A local date is fewer days than this from that of UTC, whatever the zone and the hour at which days begin.
const ZONES_DAYS: i64 = 3;

const DAY_S: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;
    use crate::time::{Calendar, CalendarRule};

    fn at(text: &str) -> UnixMillis {
        UnixMillis(text.parse::<Timestamp>().expect("timestamp").as_millisecond())
    }

    #[test]
    fn a_window_is_over_three_days_after_utc_has_left_it() {
        let day = 20_779;
        assert_eq!(Boundary::at(at("2026-11-22T00:00:00Z")), Boundary { day: day - 2, month: 682, year: 56 });
        assert_eq!(Boundary::at(at("2026-11-21T23:59:59Z")), Boundary { day: day - 3, month: 682, year: 56 });
        assert_eq!(Boundary::at(at("2026-12-03T23:59:59Z")).month, 682);
        assert_eq!(Boundary::at(at("2026-12-04T00:00:00Z")).month, 683);
        assert_eq!(Boundary::at(at("2027-01-03T23:59:59Z")).year, 56);
        assert_eq!(Boundary::at(at("2027-01-04T00:00:00Z")), Boundary { day: 20_822 - 2, month: 684, year: 57 });
    }

    #[test]
    fn no_clock_makes_a_boundary_that_a_cell_cannot_name() {
        assert_eq!(Boundary::at(UnixMillis(i64::MIN)), Boundary::default());
        assert_eq!(Boundary::at(UnixMillis(i64::MAX)).day, u16::MAX);
    }

    /// Against the calendars: no window that one of them is in is over.
    #[test]
    fn no_calendar_is_in_a_window_that_is_over() {
        let zones = [-12, 0, 8, 14].map(|hours| TimeZone::fixed(Offset::constant(hours)));
        let calendars = zones.iter().flat_map(|zone| [0, 23].map(|hour| CalendarRule::new(zone.clone(), hour)));
        let mut calendars: Vec<_> = calendars.map(|rule| Calendar::new(rule.expect("an hour"))).collect();
        for hour in 0..24 * 400 {
            let now = UnixMillis(at("2026-11-22T00:00:00Z").0 + hour * 3_600_000);
            let boundary = Boundary::at(now);
            for ids in calendars.iter_mut().map(|calendar| calendar.windows(now).expect("in range")) {
                assert!(boundary.day <= ids.day && boundary.month <= ids.month && boundary.year <= ids.year);
                assert!(ids.day - boundary.day <= 4, "what is over is seen to be soon");
            }
        }
    }
}
