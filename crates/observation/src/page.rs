//! Series in Prometheus' text format.

use std::collections::HashMap;
use std::fmt::Write;

use corral_types::{Name, WorkspaceId};

use crate::drift::{Distances, DriftReadings};
use crate::series::{Distribution, Reading, Series};

const NANOS_PER_SECOND: f64 = 1e9;

/// Writes every series with its labels `workspace`, `endpoint` and `version`, some 3 kB each. A
/// workspace whose name is not given is named by its id.
pub fn page<'a>(
    series: impl IntoIterator<Item = &'a Series>,
    workspaces: &HashMap<WorkspaceId, Name>,
    drift: &DriftReadings,
) -> String {
    let series: Vec<&Series> = series.into_iter().collect();
    let labelled = |series: &Series| {
        let subject = &series.subject;
        let workspace = match workspaces.get(&subject.workspace) {
            Some(name) => name.to_string(),
            None => subject.workspace.to_string(),
        };
        // Names hold no character that would need an escape.
        let (name, version) = (&subject.name, subject.version);
        let labels = format!("workspace=\"{workspace}\",endpoint=\"{name}\",version=\"{version}\"");
        (labels, series.read())
    };
    let mut distances = Vec::new();
    for series in &series {
        let reading = drift.of(series.subject.endpoint, series.subject.version);
        distances
            .extend(reading.and_then(|it| it.last).map(|it| (labelled(series).0, it.distances)));
    }
    let mut readings: Vec<(String, Reading)> = series.into_iter().map(labelled).collect();
    readings.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut page = Page { text: String::new(), readings: &readings };
    page.requests();
    page.histogram(
        "corral_endpoint_latency_seconds",
        "time to answer a request, waiting for a core included",
        |reading| &reading.latency_nanos,
        NANOS_PER_SECOND,
    );
    page.histogram(
        "corral_endpoint_request_texts",
        "texts of a request that was answered",
        |reading| &reading.texts,
        1.0,
    );
    let seconds = |nanos: u64| nanos as f64 / NANOS_PER_SECOND;
    page.values(
        ("corral_endpoint_core_seconds_total", "counter", "time that answers took on a core"),
        |reading| seconds(reading.core_nanos),
    );
    page.values(
        ("corral_endpoint_wait_seconds_total", "counter", "time before and between work on a core"),
        |reading| seconds(reading.wait_nanos),
    );
    page.values(
        ("corral_endpoint_cold_opens_total", "counter", "requests that had to open their model"),
        |reading| reading.cold_opens as f64,
    );
    page.values(
        ("corral_endpoint_in_flight", "gauge", "requests that wait or are being answered"),
        |reading| reading.in_flight as f64,
    );
    page.distances(&distances);
    page.text
}

struct Page<'a> {
    text: String,
    readings: &'a [(String, Reading)],
}

impl Page<'_> {
    fn header(&mut self, name: &str, kind: &str, description: &str) {
        self.line(format_args!("# HELP {name} {description}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes everything");
    }

    fn requests(&mut self) {
        let name = "corral_endpoint_requests_total";
        self.header(name, "counter", "requests by outcome");
        for (labels, reading) in self.readings {
            let failed = reading.failed.iter().map(|(kind, count)| (kind.as_str(), *count));
            let cancelled = (reading.cancelled > 0).then_some(("cancelled", reading.cancelled));
            for (outcome, count) in
                [("ok", reading.answered)].into_iter().chain(failed).chain(cancelled)
            {
                self.line(format_args!("{name}{{{labels},outcome=\"{outcome}\"}} {count}"));
            }
        }
    }

    fn values(
        &mut self,
        (name, kind, description): (&str, &str, &str),
        value: impl Fn(&Reading) -> f64,
    ) {
        self.header(name, kind, description);
        for (labels, reading) in self.readings {
            self.line(format_args!("{name}{{{labels}}} {}", value(reading)));
        }
    }

    fn distances(&mut self, distances: &[(String, Distances)]) {
        let name = "corral_endpoint_drift";
        self.header(name, "gauge", "stability index of recent requests against the training");
        for (labels, found) in distances {
            for (side, distance) in found.named() {
                self.line(format_args!("{name}{{{labels},side=\"{side}\"}} {distance}"));
            }
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        description: &str,
        of: impl Fn(&Reading) -> &Distribution,
        unit: f64,
    ) {
        self.header(name, "histogram", description);
        for (labels, reading) in self.readings {
            let found = of(reading);
            let mut below = 0;
            for (bound, count) in &found.buckets {
                below += count;
                let bound = *bound as f64 / unit;
                self.line(format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {below}"));
            }
            let count = found.count();
            self.line(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"));
            self.line(format_args!("{name}_sum{{{labels}}} {}", found.sum as f64 / unit));
            self.line(format_args!("{name}_count{{{labels}}} {count}"));
        }
    }
}
