"""Prints when days begin, from the local clock as zoneinfo shows it. For tests/calendar.rs.

Usage: calendar.py ZONE... : CUT_OVER_HOUR...

Each line is one day: zone, cut-over hour, days, months and years since 1970, the second it begins, and the seconds at
which its day, its month and its year end. Days run from the first of FROM to the first of UNTIL.
"""

import bisect
import datetime
import sys
import zoneinfo

FROM, UNTIL = 2026, 2036
EPOCH = datetime.date(1970, 1, 1)
DAY_S, STEP_S = 86_400, 3_600


def utc_s(year):
    return (datetime.date(year, 1, 1) - EPOCH).days * DAY_S


class Clock:
    """A local clock: the seconds at which its offset changes, found by looking at it every hour."""

    def __init__(self, name):
        self.zone = zoneinfo.ZoneInfo(name)
        second = utc_s(FROM - 1)
        self.begins, self.offsets = [second], [self.offset_s(second)]
        while second < utc_s(UNTIL + 2):
            after = second + STEP_S
            if self.offset_s(after) != self.offsets[-1]:
                self.note_change(second, after)
            second = after

    def offset_s(self, second):
        local = datetime.datetime.fromtimestamp(second, self.zone)
        return int(local.utcoffset().total_seconds())

    def note_change(self, before, after):
        while after - before > 1:
            middle = (before + after) // 2
            if self.offset_s(middle) == self.offsets[-1]:
                before = middle
            else:
                after = middle
        self.begins.append(after)
        self.offsets.append(self.offset_s(after))

    def first_showing(self, local_s):
        """The first second at which the clock shows a local time, or a later one."""
        at = max(bisect.bisect_right(self.begins, local_s - 2 * DAY_S) - 1, 0)
        while True:
            second = max(local_s - self.offsets[at], self.begins[at])
            if at + 1 == len(self.begins) or second < self.begins[at + 1]:
                return second
            at += 1


def days_of(clock, hour):
    def begins(date):
        return clock.first_showing((date - EPOCH).days * DAY_S + hour * 3_600)

    date = datetime.date(FROM, 1, 1)
    while date <= datetime.date(UNTIL, 1, 1):
        next_month = datetime.date(date.year + date.month // 12, date.month % 12 + 1, 1)
        months = 12 * (date.year - EPOCH.year) + date.month - 1
        ends = begins(date + datetime.timedelta(days=1)), begins(next_month), begins(datetime.date(date.year + 1, 1, 1))
        yield (date - EPOCH).days, months, date.year - EPOCH.year, begins(date), *ends
        date += datetime.timedelta(days=1)


def main():
    split = sys.argv.index(":")
    for name in sys.argv[1:split]:
        clock = Clock(name)
        for hour in map(int, sys.argv[split + 1 :]):
            for day in days_of(clock, hour):
                print(name, hour, *day)


main()
