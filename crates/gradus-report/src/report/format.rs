//! Numbers as people read them.

/// "95.12 %", the space unbreakable; "–" for a number that is not there.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{:.2}\u{a0}%", share * 100.0)
    } else {
        "–".into()
    }
}

/// "95 %".
pub(crate) fn whole_percent(share: f64) -> String {
    if share.is_finite() {
        format!("{:.0}\u{a0}%", share * 100.0)
    } else {
        "–".into()
    }
}

/// Four significant digits: "0.1235", "12.35", "1.2e-7"; "–" for NaN.
pub(crate) fn number(x: f64) -> String {
    if x.is_nan() {
        return "–".into();
    }
    if x == 0.0 || x.is_infinite() {
        return if x == 0.0 { "0".into() } else { "∞".into() };
    }
    let digits = x.abs().log10().floor();
    if (-4.0..6.0).contains(&digits) {
        format!("{x:.*}", (3.0 - digits).max(0.0) as usize)
    } else {
        format!("{x:.2e}")
    }
}

/// "1,234,567".
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// "1.23 M": three digits and a power of a thousand.
pub(crate) fn magnitude(n: u64) -> String {
    let (value, unit) = match n {
        0..=9_999 => return count(n),
        10_000..=999_999 => (n as f64 / 1e3, "k"),
        1_000_000..=999_999_999 => (n as f64 / 1e6, "M"),
        _ => (n as f64 / 1e9, "G"),
    };
    let decimals = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.decimals$} {unit}")
}

/// "1 h 02 min", "1 min 52 s", "8.3 s".
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// "15.6 GiB".
pub(crate) fn memory(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// A command line that a POSIX shell reads back as the same arguments.
pub(crate) fn command(arguments: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let quote = |a: &String| {
        if !a.is_empty() && a.chars().all(plain) {
            a.clone()
        } else {
            format!("'{}'", a.replace('\'', r"'\''"))
        }
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Wilson's 95 % interval for a share p seen in n trials (Wilson, 1927); z = 1.96:
///
/// ```text
/// (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)
/// ```
pub(crate) fn wilson(p: f64, n: f64) -> [f64; 2] {
    let z2 = 1.959_964_f64.powi(2);
    let half = (z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))).sqrt();
    let centre = p + z2 / (2.0 * n);
    [centre - half, centre + half].map(|x| (x / (1.0 + z2 / n)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0.123_456, 12.345_6, 1234.6, 1.2e-7].map(number),
            ["0.1235", "12.35", "1235", "1.20e-7"]
        );
        assert_eq!(
            [count(7), count(1000), count(1_234_567)],
            ["7", "1,000", "1,234,567"]
        );
        assert_eq!(
            [magnitude(9_999), magnitude(272_474), magnitude(41_000_000)],
            ["9,999", "272 k", "41.0 M"]
        );
        assert_eq!(
            [8.31, 112.4, 3725.0].map(duration),
            ["8.3 s", "1 min 52 s", "1 h 02 min"]
        );
        assert_eq!(percent(f64::NAN), "–");
    }

    #[test]
    fn a_command_survives_the_shell() {
        let arguments = ["gradus", "train", "--data", "folder:/a b/it's", ""].map(String::from);
        assert_eq!(
            command(&arguments),
            r"gradus train --data 'folder:/a b/it'\''s' ''"
        );
    }

    #[test]
    fn wilson_agrees_with_a_worked_example() {
        // Newcombe (1998, Statistics in Medicine 17), table I, method 3: 81 of 263.
        let [low, high] = wilson(81.0 / 263.0, 263.0);
        assert!(
            (low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4,
            "{low} {high}"
        );
        assert!(wilson(1.0, 10.0)[1] <= 1.0);
    }
}
