//! config/grafana/posthaste.json: its panels and their queries.

use serde_json::Value;

use crate::incident::prometheus::Series;

const DASHBOARD: &str = include_str!("../../config/grafana/posthaste.json");

pub struct Panel {
    pub title: String,
    unit: String,
    /// A value that matters, which is drawn as a line.
    pub mark: Option<f64>,
    pub queries: Vec<Query>,
}

pub struct Query {
    pub text: String,
    legend: String,
}

/// Whatever Grafana puts in for it, the window must hold several scrapes.
pub fn panels(rate_interval: &str) -> Vec<Panel> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    panels.filter(|panel| panel["targets"].is_array()).map(|value| panel(value, rate_interval)).collect()
}

fn panel(panel: &Value, rate_interval: &str) -> Panel {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let query = |target: &Value| Query {
        text: text(&target["expr"]).replace("$__rate_interval", rate_interval),
        legend: text(&target["legendFormat"]),
    };
    let defaults = &panel["fieldConfig"]["defaults"];
    Panel {
        title: text(&panel["title"]),
        unit: text(&defaults["unit"]),
        mark: defaults["thresholds"]["steps"][1]["value"].as_f64(),
        queries: panel["targets"].as_array().into_iter().flatten().map(query).collect(),
    }
}

impl Panel {
    pub fn unit(&self) -> &'static str {
        match self.unit.as_str() {
            "s" => "s",
            "ops" => "a second",
            "percentunit" => "share",
            "bytes" => "bytes",
            _ => "",
        }
    }

    /// For a file.
    pub fn slug(&self) -> String {
        let words = self.title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-").to_lowercase()
    }
}

impl Query {
    /// `{{label}}` in the legend is the series' value of that label.
    pub fn name(&self, series: &Series) -> String {
        let filled = series.labels.iter();
        filled.fold(self.legend.clone(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
    }
}
