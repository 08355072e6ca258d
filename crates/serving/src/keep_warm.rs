//! When an endpoint's models are kept open though nobody asks.

use std::fmt;
use std::str::FromStr;

use corral_types::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::RoutingError;

/// The most windows of a schedule.
pub const MAX_WINDOWS: usize = 32;
/// The most replicas that can be asked for.
pub const MAX_REPLICAS: u32 = 1000;

const MINUTES_PER_DAY: u16 = 24 * 60;

/// Days as they are written, from Monday on.
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// That an endpoint is to answer without having to be opened first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepWarm {
    /// How many stand ready. A model that this server answers with by itself serves any number of
    /// requests from one mapping, so that one is as good as many.
    pub replicas: u32,
    /// Always where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// Parts of the week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// A name of the IANA time zone database, such as `Europe/Berlin`.
    pub time_zone: String,
    pub windows: Vec<Window>,
}

/// Some days of the week, and from when to when on each: `mon-fri 08:00-18:00`. One that ends
/// before it begins ends on the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// By day from Monday on.
    days: [bool; 7],
    from_minute: u16,
    to_minute: u16,
}

impl KeepWarm {
    /// # Errors
    /// When a number is out of its range, or there is no such time zone.
    pub fn check(&self) -> Result<(), RoutingError> {
        if !(1..=MAX_REPLICAS).contains(&self.replicas) {
            return Err(RoutingError::Replicas { found: self.replicas });
        }
        let Some(schedule) = &self.schedule else { return Ok(()) };
        if !(1..=MAX_WINDOWS).contains(&schedule.windows.len()) {
            return Err(RoutingError::Windows { found: schedule.windows.len() });
        }
        let zone = TimeZone::get(&schedule.time_zone);
        zone.map(drop).map_err(|_| RoutingError::TimeZone(schedule.time_zone.clone()))
    }

    /// Whether the endpoint is kept warm at this moment.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.schedule.as_ref().is_none_or(|schedule| schedule.covers(now))
    }
}

impl Schedule {
    fn covers(&self, now: Timestamp) -> bool {
        let zone = TimeZone::get(&self.time_zone);
        let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let moment = jiff::Timestamp::from_millisecond(millis);
        let (Ok(zone), Ok(moment)) = (zone, moment) else { return false };
        let there = zone.to_datetime(moment);
        let day = there.weekday().to_monday_zero_offset() as usize;
        let minute = there.hour() as u16 * 60 + there.minute() as u16;
        self.windows.iter().any(|window| window.covers(day, minute))
    }
}

impl Window {
    fn covers(&self, day: usize, minute: u16) -> bool {
        let Self { days, from_minute, to_minute } = *self;
        if from_minute < to_minute {
            return days[day] && (from_minute..to_minute).contains(&minute);
        }
        days[day] && minute >= from_minute || days[(day + 6) % 7] && minute < to_minute
    }
}

impl FromStr for Window {
    type Err = RoutingError;

    fn from_str(text: &str) -> Result<Self, RoutingError> {
        let wrong = || RoutingError::Window(text.to_owned());
        let (days_text, times) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let (from, to) = times.trim().split_once('-').ok_or_else(wrong)?;
        let mut days = [false; 7];
        for part in days_text.split(',') {
            let day =
                |text: &str| DAYS.iter().position(|(name, _)| *name == text).ok_or_else(wrong);
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (day(first)?, day(last)?),
                None => (day(part)?, day(part)?),
            };
            // From Friday to Monday is a weekend.
            let length = (last + DAYS.len() - first) % DAYS.len();
            (first..=first + length).for_each(|day| days[day % DAYS.len()] = true);
        }
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
            let number = |text: &str, most: u16| {
                let number = (text.len() == 2).then(|| text.parse::<u16>().ok()).flatten();
                number.filter(|number| *number <= most).ok_or_else(wrong)
            };
            let minute = number(hours, 24)? * 60 + number(minutes, 59)?;
            Some(minute).filter(|minute| *minute <= MINUTES_PER_DAY).ok_or_else(wrong)
        };
        let (from_minute, to_minute) = (minute(from)?, minute(to)?);
        if from_minute == to_minute || from_minute == MINUTES_PER_DAY {
            return Err(wrong());
        }
        Ok(Self { days, from_minute, to_minute })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = DAYS.iter().zip(self.days).filter(|(_, is_one)| *is_one);
        let days: Vec<&str> = days.map(|((name, _), _)| *name).collect();
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let days = days.join(",");
        write!(f, "{days} {}-{}", time(self.from_minute), time(self.to_minute))
    }
}

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let millis = text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        Timestamp::from_millis(millis as u64)
    }

    fn keep_warm(time_zone: &str, windows: &[&str]) -> KeepWarm {
        let windows = windows.iter().map(|window| window.parse().unwrap()).collect();
        let schedule = Some(Schedule { time_zone: time_zone.to_owned(), windows });
        KeepWarm { replicas: 1, schedule }
    }

    #[test]
    fn office_hours_follow_the_zone_and_its_summer_time() {
        let office = keep_warm("Europe/Berlin", &["mon-fri 08:00-18:00"]);
        office.check().unwrap();
        // 2026-11-20 is a Friday, one hour ahead of UTC; 2026-07-03 one, two hours ahead.
        for (moment, is_due) in [
            ("2026-11-20T06:59:59Z", false),
            ("2026-11-20T07:00:00Z", true),
            ("2026-11-20T16:59:59Z", true),
            ("2026-11-20T17:00:00Z", false),
            ("2026-07-03T06:00:00Z", true),
            ("2026-07-03T16:00:00Z", false),
            ("2026-11-21T10:00:00Z", false),
        ] {
            assert_eq!(office.is_due(at(moment)), is_due, "{moment}");
        }
        assert!(KeepWarm { replicas: 1, schedule: None }.is_due(at("2026-11-21T10:00:00Z")));
    }

    #[test]
    fn nights_and_weekends_go_over_the_edge() {
        let night = keep_warm("UTC", &["fri 22:00-02:00", "sun 10:00-24:00"]);
        for (moment, is_due) in [
            ("2026-11-20T21:59:00Z", false),
            ("2026-11-20T22:00:00Z", true),
            ("2026-11-21T01:59:00Z", true),
            ("2026-11-21T02:00:00Z", false),
            ("2026-11-21T22:30:00Z", false),
            ("2026-11-22T23:59:00Z", true),
            ("2026-11-23T00:00:00Z", false),
        ] {
            assert_eq!(night.is_due(at(moment)), is_due, "{moment}");
        }
        let weekend: Window = "sat-mon 00:00-24:00".parse().unwrap();
        assert_eq!(weekend.to_string(), "mon,sat,sun 00:00-24:00");
        assert_eq!(weekend.to_string().parse::<Window>().unwrap(), weekend);
    }

    #[test]
    fn what_is_no_window_or_zone_is_refused() {
        for wrong in [
            "",
            "mon",
            "mon 8:00-18:00",
            "mon 08:00",
            "mon 08:00-08:00",
            "mon 24:00-08:00",
            "mon 08:00-24:01",
            "mon 08:60-09:00",
            "day 08:00-09:00",
            "mon- 08:00-09:00",
        ] {
            assert!(wrong.parse::<Window>().is_err(), "{wrong}");
        }
        let nowhere = keep_warm("Europe/Atlantis", &["mon 08:00-09:00"]);
        assert!(matches!(nowhere.check(), Err(RoutingError::TimeZone(_))));
        let never = keep_warm("UTC", &[]);
        assert!(matches!(never.check(), Err(RoutingError::Windows { found: 0 })));
        let none = KeepWarm { replicas: 0, schedule: None };
        assert!(matches!(none.check(), Err(RoutingError::Replicas { found: 0 })));
    }
}
