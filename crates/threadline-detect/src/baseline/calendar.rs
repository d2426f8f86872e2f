//! Hours of the week, and times in words. All times are UTC moved by a fixed offset: what people call Tuesday.

pub(super) const HOURS_OF_DAY: usize = 24;
pub(super) const HOURS_OF_WEEK: usize = 168;

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

/// The hour of the week, 0 = Monday 00:00.
pub(super) fn hour_of_week(ts_us: i64, offset_min: i32) -> usize {
    let local = ts_us.saturating_add(i64::from(offset_min) * MINUTE_US);
    // The epoch was a Thursday.
    let day = (local.div_euclid(DAY_US) + 3).rem_euclid(7);
    (day * 24 + local.rem_euclid(DAY_US) / HOUR_US) as usize
}

/// `Tuesday 14:00`.
pub(super) fn hour_in_words(hour_of_week: usize) -> String {
    let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let day = days.get(hour_of_week / HOURS_OF_DAY).copied().unwrap_or("day");
    format!("{day} {:02}:00", hour_of_week % HOURS_OF_DAY)
}

/// `14:03`, with seconds where windows are shorter than a minute.
pub(super) fn clock(ts_us: i64, offset_min: i32, seconds: bool) -> String {
    let local = ts_us.saturating_add(i64::from(offset_min) * MINUTE_US).rem_euclid(DAY_US);
    let (hour, minute) = (local / HOUR_US, local % HOUR_US / MINUTE_US);
    if seconds {
        return format!("{hour:02}:{minute:02}:{:02}", local % MINUTE_US / 1_000_000);
    }
    format!("{hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_have_names() {
        // 2023-01-29 was a Sunday; 1969-12-31 a Wednesday.
        for (ts_s, offset_min, hour, time) in [
            (1_674_981_784i64, 0, "Sunday 08:00", "08:43"),
            (1_674_981_784, 480, "Sunday 16:00", "16:43"),
            (1_674_981_784, 16 * 60, "Monday 00:00", "00:43"),
            (-1, 0, "Wednesday 23:00", "23:59"),
            (0, -90, "Wednesday 22:00", "22:30"),
        ] {
            let ts_us = ts_s * 1_000_000;
            assert_eq!(hour_in_words(hour_of_week(ts_us, offset_min)), hour);
            assert_eq!(clock(ts_us, offset_min, false), time);
        }
    }
}
