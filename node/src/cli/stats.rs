//! `roost stats`: what `/metrics` says, for eyes.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::output::Context;

/// Print what a node is doing and what it has counted since it started
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {}

pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let facts = context.running.facts();
    let metrics = read(&context.running.metrics_text());
    let mut text = String::new();
    for (name, value) in &facts {
        text.push_str(&format!("{name:24} {value}\n"));
    }
    let mut before = "";
    for (name, series) in &metrics {
        for (labels, value) in series {
            let name = name.strip_prefix("roost_").unwrap_or(name);
            let area = name.split('_').next().unwrap_or_default();
            if area != before {
                text.push('\n');
            }
            before = area;
            text.push_str(&format!("{:48} {}\n", format!("{name} {labels}").trim_end(), value.text(name)));
        }
    }
    let facts: serde_json::Map<_, _> = facts.into_iter().map(|(name, value)| (name, json!(value))).collect();
    let series = |series: &BTreeMap<String, Measure>| -> serde_json::Map<String, Value> {
        series.iter().map(|(labels, value)| (labels.clone(), value.json())).collect()
    };
    let metrics: serde_json::Map<_, _> =
        metrics.iter().map(|(name, measures)| (name.clone(), json!(series(measures)))).collect();
    context.say(text, json!({ "facts": facts, "metrics": metrics })).await
}

/// One series.
#[derive(Clone, Debug, PartialEq)]
enum Measure {
    Number(f64),
    /// A histogram, without its buckets.
    Spread {
        count: f64,
        sum: f64,
    },
}

impl Measure {
    fn text(&self, name: &str) -> String {
        match self {
            Self::Number(number) => readable(*number, name),
            Self::Spread { count: 0.0, .. } => "never".to_owned(),
            Self::Spread { count, sum } => {
                format!("{count} times, {} on average", readable(sum / count, name))
            }
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Number(number) => json!(number),
            Self::Spread { count, sum } => json!({ "count": count, "sum": sum }),
        }
    }
}

/// With the unit that the metric's name ends in.
fn readable(number: f64, name: &str) -> String {
    let name = name.strip_suffix("_total").unwrap_or(name);
    if name.ends_with("_seconds") {
        let (scaled, unit) = match number {
            number if number < 0.001 => (number * 1e6, "µs"),
            number if number < 1.0 => (number * 1e3, "ms"),
            number => (number, "s"),
        };
        return format!("{scaled:.1} {unit}");
    }
    if name.ends_with("_bytes") && number >= 1024.0 {
        let power = ((number.log2() / 10.0).floor() as usize).min(4);
        let unit = ["B", "KiB", "MiB", "GiB", "TiB"][power];
        return format!("{:.1} {unit}", number / 1024_f64.powi(power as i32));
    }
    if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.3}") }
}

/// Reads the exposition format that the node itself writes: `name{label="x"} 3`.
fn read(text: &str) -> BTreeMap<String, BTreeMap<String, Measure>> {
    let mut metrics: BTreeMap<String, BTreeMap<String, Measure>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, number)) = line.rsplit_once(' ') else { continue };
        let Ok(number) = number.parse::<f64>() else { continue };
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}').replace("\",", " ").replace('"', "")),
            None => (series, String::new()),
        };
        if name.ends_with("_bucket") {
            continue;
        }
        let spread = name.strip_suffix("_sum").map(|name| (name, true));
        match spread.or_else(|| name.strip_suffix("_count").map(|name| (name, false))) {
            Some((name, is_sum)) => {
                let series = metrics.entry(name.to_owned()).or_default();
                let measure = series.entry(labels).or_insert(Measure::Spread { count: 0.0, sum: 0.0 });
                if let Measure::Spread { count, sum } = measure {
                    *(if is_sum { sum } else { count }) = number;
                }
            }
            None => {
                metrics.entry(name.to_owned()).or_default().insert(labels, Measure::Number(number));
            }
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_become_readable() {
        let metrics = read(
            "# HELP roost_x x\nroost_logins_total{protocol=\"imap\",result=\"ok\"} 3\nroost_fs_seconds_sum 0.5\n\
             roost_fs_seconds_count 10\nroost_fs_seconds_bucket{le=\"1\"} 10\n# EOF\n",
        );
        assert_eq!(metrics["roost_logins_total"]["protocol=imap result=ok"], Measure::Number(3.0));
        assert_eq!(metrics["roost_fs_seconds"][""].text("fs_seconds"), "10 times, 50.0 ms on average");
        assert_eq!(readable(1_572_864.0, "received_bytes_total"), "1.5 MiB");
        assert_eq!(readable(2.0, "sessions"), "2");
    }
}
