//! Numbers as people read them.

/// `1234567` → `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// As [`thousands`].
pub(crate) fn count(number: usize) -> String {
    thousands(number as u64)
}

/// `1 epoch`, `1,000 batches`.
pub(crate) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `0.97345` → `97.34 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// `12.3 s`, `4 min 05 s`, `2 h 07 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1.5 GB`, in powers of ten, as disks and networks count.
pub(crate) fn bytes(number: u64) -> String {
    scaled(number as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// `40.6 M`: a count in thousands, millions, billions.
pub(crate) fn short(number: u64) -> String {
    scaled(number as f64, &["", "k", "M", "G", "T"])
        .trim_end()
        .to_owned()
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // 999.95 would be printed as 1000.0.
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0);
    format!("{value:.digits$} {}", units[unit])
}

/// A learning rate: enough digits, no more.
pub(crate) fn rate(lr: f64) -> String {
    if lr == 0.0 || (1e-3..1e3).contains(&lr.abs()) {
        format!("{lr:.4}")
    } else {
        format!("{lr:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(counted(1, "epoch", "epochs"), "1 epoch");
        assert_eq!(counted(1_000, "batch", "batches"), "1,000 batches");
        assert_eq!(percent(0.5), "50.00 %");
        assert_eq!(duration(12.34), "12.3 s");
        assert_eq!(duration(245.0), "4 min 05 s");
        assert_eq!(duration(59.99), "1 min 00 s");
        assert_eq!(duration(7620.0), "2 h 07 min");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(170_052_171), "170.1 MB");
        assert_eq!(short(40_551_424), "40.6 M");
        assert_eq!(short(999_990), "1.0 M");
        assert_eq!(rate(0.1), "0.1000");
        assert_eq!(rate(2.5e-5), "2.50e-5");
    }
}
