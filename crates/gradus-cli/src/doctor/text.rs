//! The findings in words.

use super::devices::DeviceFindings;
use super::{Findings, Speed};
use crate::numbers::bytes;
use crate::output;

pub(super) fn of(findings: &Findings) -> String {
    let mut text = output::pairs(&rows(findings));
    if !findings.devices.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(&findings.devices));
    }
    text
}

fn rows(findings: &Findings) -> Vec<(&str, String)> {
    let machine = &findings.machine;
    let without_device: Vec<&str> = findings
        .backends
        .iter()
        .filter(|backend| backend.compiled && backend.devices == 0)
        .map(|backend| backend.name)
        .collect();
    let absent: Vec<&str> = findings
        .backends
        .iter()
        .filter(|backend| !backend.compiled)
        .map(|backend| backend.name)
        .collect();
    let build = match findings.build {
        "debug" => "debug: unusably slow; build with --release".to_owned(),
        build => build.to_owned(),
    };
    let mut rows = vec![
        ("gradus", format!("{} ({build})", machine.gradus)),
        (
            "burn, rustc",
            format!("{}, {}", machine.burn, machine.rustc),
        ),
        ("system", machine.os.clone()),
        (
            "processor",
            format!("{}, {} cores", machine.cpu, machine.cores),
        ),
        ("vectors", or_none(findings.cpu_features.join(", "))),
        ("caches", findings.cpu_caches.text()),
        ("memory", bytes(machine.memory_bytes)),
        ("GPU drivers", or_none(findings.drivers.text())),
        (
            "auto takes",
            findings
                .auto
                .clone()
                .unwrap_or_else(|| "nothing".to_owned()),
        ),
        ("not built in", or_none(absent.join(", "))),
    ];
    if !without_device.is_empty() {
        rows.push((
            "without device",
            format!(
                "{} (`--device {}` says what is missing)",
                without_device.join(", "),
                without_device[0]
            ),
        ));
    }
    if let Some(Speed {
        memory_gb_per_second,
        ..
    }) = &findings.speed
    {
        rows.push((
            "main memory",
            format!("{memory_gb_per_second:.1} GB/s in one thread"),
        ));
    }
    let cache = findings.cache.as_ref().map_or_else(
        || "none: give --data-dir or set GRADUS_DATA".to_owned(),
        |cache| cache.display().to_string(),
    );
    rows.push(("data folder", cache));
    rows.push(("shapes", "built in".to_owned()));
    for data in &findings.data {
        let place = match &data.path {
            Some(path) => path.display().to_string(),
            None => format!("not here; gradus data fetch {}", data.name),
        };
        rows.push((data.name, place));
    }
    rows
}

/// One line a device, what could not be measured with the reason.
fn table(devices: &[DeviceFindings]) -> String {
    let rows: Vec<Vec<String>> = devices
        .iter()
        .map(|device| {
            let number = |of: fn(&gradus_bench::DeviceSpeed) -> f64| match &device.speed {
                Some(speed) => significant(of(speed)),
                None => "–".to_owned(),
            };
            vec![
                device.name.clone(),
                number(|speed| speed.gemm_gflops),
                number(|speed| speed.copy_gb_per_second),
                number(|speed| speed.launch_microseconds),
                match &device.speed {
                    Some(speed) => speed.precisions.join(", "),
                    None => "–".to_owned(),
                },
                about(device),
            ]
        })
        .collect();
    let header = [
        "device",
        "GEMM GFLOP/s",
        "copy GB/s",
        "launch µs",
        "precisions",
        "what it is",
    ];
    output::table(&header, &[1, 2, 3], &rows)
}

fn about(device: &DeviceFindings) -> String {
    let mut parts = Vec::new();
    if let Some(adapter) = device
        .speed
        .as_ref()
        .and_then(|speed| speed.adapter.as_ref())
    {
        parts.push(adapter.name.clone());
    }
    match device.backend {
        "flex" => parts.push("Burn's CPU backend, with the kernels of Gradus".to_owned()),
        "ndarray" => parts.push("Burn's older CPU backend, deprecated by Burn".to_owned()),
        "cpu" => parts.push("CubeCL on the CPU".to_owned()),
        _ => {}
    }
    if device.software {
        parts.push("software driver: for tests, not for training".to_owned());
    }
    if let Some(error) = &device.error {
        parts.push(format!("not usable: {error}"));
    }
    parts.join("; ")
}

fn or_none(text: String) -> String {
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
}

/// Three digits that say something.
fn significant(number: f64) -> String {
    match number {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 10.0 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(significant(1234.5), "1234");
        assert_eq!(significant(56.78), "56.8");
        assert_eq!(significant(0.456), "0.46");
    }

    #[test]
    fn a_device_that_failed_stays_in_the_table_with_its_reason() {
        let devices = [DeviceFindings {
            name: "vulkan:0".to_owned(),
            backend: "vulkan",
            software: true,
            speed: None,
            error: Some("the driver crashed with signal 11".to_owned()),
        }];
        let text = table(&devices);
        assert!(text.contains("vulkan:0"), "{text}");
        assert!(
            text.contains("not usable: the driver crashed with signal 11"),
            "{text}"
        );
        assert!(text.contains('–'), "{text}");
    }
}
