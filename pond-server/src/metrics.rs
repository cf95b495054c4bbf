//! A few counters as Prometheus text. Labels come from closed lists, so that no caller can make series of its own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

use pond_core::Pond;

/// The triggers that have a series; all others share one.
const TRIGGERS: [&str; 5] = ["api", "cli", "schedule", "webhook", "retry"];
const OTHER: &str = "other";

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    started: Mutex<BTreeMap<&'static str, u64>>,
    requests: Mutex<BTreeMap<Request, u64>>,
}

/// Method, route and status. Methods and routes are those of the route table.
type Request = (&'static str, &'static str, u16);

impl Metrics {
    pub(crate) fn started(&self, trigger: &str) {
        let trigger = TRIGGERS.into_iter().find(|known| *known == trigger).unwrap_or(OTHER);
        *lock(&self.started).entry(trigger).or_default() += 1;
    }

    pub(crate) fn answered(&self, method: &'static str, route: &'static str, status: u16) {
        *lock(&self.requests).entry((method, route, status)).or_default() += 1;
    }

    pub(crate) fn text(&self, pond: &Pond) -> String {
        let mut text = String::new();
        head(
            &mut text,
            "pond_runs_started_total",
            "Runs created here, by what set them off.",
        );
        let started = lock(&self.started);
        for trigger in TRIGGERS.into_iter().chain([OTHER]) {
            let count = started.get(trigger).copied().unwrap_or(0);
            line(
                &mut text,
                format_args!("pond_runs_started_total{{trigger=\"{trigger}\"}} {count}"),
            );
        }
        drop(started);
        head(&mut text, "pond_runs_finished_total", "Runs that ended here, by how.");
        for (status, count) in pond.runs().ended_here() {
            let status = status.as_str();
            line(
                &mut text,
                format_args!("pond_runs_finished_total{{status=\"{status}\"}} {count}"),
            );
        }
        head(&mut text, "pond_http_requests_total", "Requests answered, by route.");
        for ((method, route, status), count) in lock(&self.requests).iter() {
            line(
                &mut text,
                format_args!(
                    "pond_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {count}"
                ),
            );
        }
        text
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

fn head(text: &mut String, name: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} counter"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{line}");
}
