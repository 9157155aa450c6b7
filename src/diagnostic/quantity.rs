//! Numbers as people read them.

/// Seconds: `0.4 ms`, `12 ms`, `3.1 s`, `2 min 05 s`, `1 h 12 min`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3599.5 => {
            let whole = s.round() as u64;
            format!("{} min {:02} s", whole / 60, whole % 60)
        }
        s => {
            let minutes = (s / 60.0).round() as u64;
            format!("{} h {:02} min", minutes / 60, minutes % 60)
        }
    }
}

/// Bytes with a binary unit: `512 B`, `7.1 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A number with four significant digits, in plain or scientific notation as its size asks for.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.3e}")
    } else {
        let decimals = (3.0 - size.log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.decimals$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        let durations = [0.0004, 0.012, 3.12, 125.0, 4320.0].map(duration);
        assert_eq!(
            durations,
            ["0.4 ms", "12 ms", "3.1 s", "2 min 05 s", "1 h 12 min"]
        );
        assert_eq!(
            [512, 7_444_889, 1 << 40].map(bytes),
            ["512 B", "7.1 MiB", "1.0 TiB"]
        );
        let numbers = [0.0, 0.123_456, 12.3456, 1234.5, 4.2e-7, -0.5].map(number);
        assert_eq!(
            numbers,
            ["0", "0.1235", "12.35", "1234", "4.200e-7", "-0.5000"]
        );
    }
}
