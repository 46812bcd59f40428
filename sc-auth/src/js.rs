//! What of JavaScript shows on the wire: how a date and how an error of `JSON.parse` are printed.

use serde_json::error::Category;

/// The largest distance from 1970 that a `Date` can say, in milliseconds (ECMA-262, section 21.4.1.1).
const DATE_MAX_MS: f64 = 8.64e15;
const DAY_MS: i64 = 86_400_000;
/// V8 shows this many characters before and behind the place of a syntax error.
const CONTEXT: usize = 10;

/// `new Date(secs * 1000).toISOString()`; `None` where that would be an invalid date, which JSON writes as `null`.
pub(crate) fn iso_date(secs: f64) -> Option<String> {
    let ms = secs * 1000.0;
    if ms.is_nan() || ms.abs() > DATE_MAX_MS {
        return None;
    }
    let ms = ms.trunc() as i64;
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let rest = ms.rem_euclid(DAY_MS);
    let (hour, minute, second, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    Some(format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"))
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar reckoned both ways without end.
///
/// It counts in eras of 400 years, which all have the same number of days, and lets the year begin in March, so that
/// the leap day is its last.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    const FROM_MARCH_OF_YEAR_0: i64 = 719_468;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let (era, day_of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// What `JSON.parse` says of a text that serde_json refused, in the two wordings of V8 that a bad token meets: a wrong
/// token, and a text that ends too early.
///
/// V8 has more of them for mistakes inside an otherwise good text, and they change from one Node.js to the next:
/// nothing can rely on them, so they are not copied.
pub(crate) fn json_error(text: &str, error: &serde_json::Error) -> String {
    let place = match error.classify() {
        Category::Eof => None,
        _ => place_of(text, error),
    };
    let Some((at, token)) = place else {
        return "Unexpected end of JSON input".to_owned();
    };
    // Lengths count as in JavaScript, up to the difference between characters and UTF-16 units.
    let behind = text[at..].chars().count();
    let ahead = text[..at].chars().count();
    if ahead + behind <= 2 * CONTEXT {
        return format!("Unexpected token '{token}', \"{text}\" is not valid JSON");
    }
    let shown: String = text.chars().skip(ahead.saturating_sub(CONTEXT)).take(CONTEXT.min(ahead) + CONTEXT).collect();
    let before = if ahead >= CONTEXT { "..." } else { "" };
    let after = if behind > CONTEXT { "..." } else { "" };
    format!("Unexpected token '{token}', {before}\"{shown}\"{after} is not valid JSON")
}

/// serde_json tells the place as line and column in bytes, both from 1.
fn place_of(text: &str, error: &serde_json::Error) -> Option<(usize, char)> {
    let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let mut at = (line_start + error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text[at..].chars().next().map(|token| (at, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_printed_as_javascript_prints_them() {
        // Each from node: new Date(secs * 1000).toISOString()
        for (secs, text) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (1_451_610_000.0, "2016-01-01T01:00:00.000Z"),
            (951_782_400.0, "2000-02-29T00:00:00.000Z"),
            (951_868_800.0, "2000-03-01T00:00:00.000Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
            (1.5, "1970-01-01T00:00:01.500Z"),
            (1.9999, "1970-01-01T00:00:01.999Z"),
            (-0.0001, "1970-01-01T00:00:00.000Z"),
            (-1.0, "1969-12-31T23:59:59.000Z"),
            (253_402_300_799.0, "9999-12-31T23:59:59.000Z"),
            (253_402_300_800.0, "+010000-01-01T00:00:00.000Z"),
            (-62_167_219_201.0, "-000001-12-31T23:59:59.000Z"),
            (8.64e12, "+275760-09-13T00:00:00.000Z"),
            (-8.64e12, "-271821-04-20T00:00:00.000Z"),
        ] {
            assert_eq!(iso_date(secs).as_deref(), Some(text), "{secs}");
        }
        for secs in [8.640_000_000_001e12, -1e300, f64::INFINITY, f64::NAN] {
            assert_eq!(iso_date(secs), None, "{secs}");
        }
    }

    #[test]
    fn syntax_errors_read_as_v8_words_them() {
        // Each from node 20: JSON.parse(text)
        for (text, message) in [
            ("not json", "Unexpected token 'o', \"not json\" is not valid JSON"),
            ("", "Unexpected end of JSON input"),
            ("{\"a\":\u{e9}}", "Unexpected token '\u{e9}', \"{\"a\":\u{e9}}\" is not valid JSON"),
            ("hello world this is a long text", "Unexpected token 'h', \"hello worl\"... is not valid JSON"),
            (r#"{"a":1,"b":2,"c":3,"d"x:4}"#, r#"Unexpected token 'x', ...","c":3,"d"x:4}" is not valid JSON"#),
            (
                r#"{"a":12,"bbbbbbbbbbbbbbbbbbbbbbbb":x,"cccccccccccccc":1}"#,
                r#"Unexpected token 'x', ..."bbbbbbbb":x,"ccccccc"... is not valid JSON"#,
            ),
            ("\n\nx", "Unexpected token 'x', \"\n\nx\" is not valid JSON"),
        ] {
            let error = serde_json::from_str::<serde::de::IgnoredAny>(text).unwrap_err();
            assert_eq!(json_error(text, &error), message);
        }
    }
}
