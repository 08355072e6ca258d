//! Byte sizes and counts as people write and read them.

/// One mebibyte in bytes.
pub const MIB: u64 = 1 << 20;

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write a number with B, KiB, MiB, GiB or TiB, as in 1.5GiB")]
pub struct ParseSizeError(String);

/// Bytes from a text such as `512MiB`, `1.5 GiB`, `2G` or `4096`.
///
/// Every unit counts in powers of 1024, the short ones (`K`, `KB`) too.
///
/// # Errors
/// When the text is not a number with a known unit, or is beyond 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, ParseSizeError> {
    let refuse = || ParseSizeError(text.to_owned());
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(refuse()),
    };
    let number: f64 = number.parse().map_err(|_| refuse())?;
    let bytes = number * (1u64 << shift) as f64;
    if bytes.is_finite() && (0.0..u64::MAX as f64).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(refuse())
    }
}

/// A size for people: three digits and a binary unit.
pub fn display_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A whole number for people, in groups of three digits.
pub fn display_count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_usual_form() {
        for (text, bytes) in [
            ("4096", 4096),
            ("1KiB", 1024),
            ("1.5 GiB", 3 << 29),
            ("2g", 2 << 30),
            ("7 MB", 7 << 20),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for bad in ["", "GiB", "-1", "1 parsec", "1e400", "99999999TiB", "1.2.3"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_written_with_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_048_575, "1.00 MiB"),
            (80 << 20, "80.0 MiB"),
            (24 << 30, "24.0 GiB"),
            (512 << 20, "512 MiB"),
        ] {
            assert_eq!(display_bytes(bytes), text);
        }
    }

    #[test]
    fn counts_are_written_in_groups_of_three() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (42_877, "42,877"), (1_234_567, "1,234,567")]
        {
            assert_eq!(display_count(number), text);
        }
    }
}
