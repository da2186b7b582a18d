//! A Prometheus of our own.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::incident::rules::{self, Targets};
use crate::kit::binary::get;
use crate::kit::servers::daemon::{Daemon, free_port};
use crate::wait_for;

const START: Duration = Duration::from_secs(60);

pub struct Prometheus {
    _daemon: Daemon,
    port: u16,
}

/// One series with its values over time.
pub struct Series {
    pub labels: Vec<(String, String)>,
    /// Seconds since 1970, and the value.
    pub points: Vec<(f64, f64)>,
}

impl Prometheus {
    /// With the shipped rules and targets of ours, so many times faster than the files say.
    pub async fn start(dir: &Path, targets: &Targets, factor: u32) -> Result<Prometheus, String> {
        let mut daemon = Daemon::new(dir, "prometheus", &["prometheus"])?;
        daemon.write("alerts.yml", &rules::rules(factor))?;
        daemon.write("prometheus.yml", &rules::config(targets, factor))?;
        let port = free_port();
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let program = Path::new("prometheus");
        let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", &listen];
        daemon.launch(program, &arguments, &[]);
        let prometheus = Prometheus { _daemon: daemon, port };
        wait_for("Prometheus", START, async || prometheus.ask("/-/ready").await.ok()).await?;
        Ok(prometheus)
    }

    /// The names of the alerts that fire now.
    pub async fn firing(&self) -> Result<BTreeSet<String>, String> {
        let answer = self.api("alerts").await?;
        let alerts = answer["alerts"].as_array().into_iter().flatten();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        Ok(firing.filter_map(|alert| alert["labels"]["alertname"].as_str()).map(str::to_owned).collect())
    }

    /// What the query gives now: the number of its series.
    pub async fn count(&self, query: &str) -> Result<usize, String> {
        let answer = self.api(&format!("query?query={}", encoded(query))).await?;
        Ok(answer["result"].as_array().map_or(0, Vec::len))
    }

    /// What the query gives from one second since 1970 to another.
    pub async fn range(&self, query: &str, (from, to): (f64, f64), step: f64) -> Result<Vec<Series>, String> {
        let query = encoded(query);
        let answer = self.api(&format!("query_range?query={query}&start={from}&end={to}&step={step}")).await?;
        Ok(answer["result"].as_array().into_iter().flatten().map(series).collect())
    }

    async fn api(&self, question: &str) -> Result<Value, String> {
        let text = self.ask(&format!("/api/v1/{question}")).await?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| format!("Prometheus: {error}: {text}"))?;
        Ok(answer["data"].take())
    }

    async fn ask(&self, path: &str) -> Result<String, String> {
        match get(("127.0.0.1", self.port), path).await {
            Ok((200, text)) => Ok(text),
            Ok((status, text)) => Err(format!("Prometheus: {status} {text}")),
            Err(error) => Err(format!("Prometheus: {error}")),
        }
    }
}

fn encoded(query: &str) -> String {
    utf8_percent_encode(query, NON_ALPHANUMERIC).to_string()
}

fn series(series: &Value) -> Series {
    let labels = series["metric"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    let points = series["values"].as_array().into_iter().flatten();
    let points = points.filter_map(|point| Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?)));
    Series { labels, points: points.filter(|(_, value): &(f64, f64)| value.is_finite()).collect() }
}
