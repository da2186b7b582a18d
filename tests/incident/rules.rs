//! The files of config/prometheus, as they are shipped, for a Prometheus that lives faster: every duration in them is divided
//! by the same factor, and no threshold is touched.

const RULES: &str = include_str!("../../config/prometheus/alerts.yml");
const CONFIG: &str = include_str!("../../config/prometheus/prometheus.yml");

/// Where the processes serve their metrics.
pub struct Targets {
    pub relay: u16,
    pub worker: u16,
    pub receivers: [u16; 2],
}

/// Every alert that is shipped.
pub fn alerts() -> Vec<&'static str> {
    RULES.split("- alert: ").skip(1).filter_map(|text| text.lines().next()).collect()
}

pub fn rules(factor: u32) -> String {
    RULES.lines().map(|line| faster(line, factor) + "\n").collect()
}

pub fn config(targets: &Targets, factor: u32) -> String {
    let list = |ports: &[u16]| {
        let ports: Vec<String> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        format!("[{}]", ports.join(", "))
    };
    let config: String = CONFIG.lines().map(|line| faster(line, factor) + "\n").collect();
    let config = config.replace(r#"["relay:9464"]"#, &list(&[targets.relay]));
    let config = config.replace(r#"["worker:9464"]"#, &list(&[targets.worker]));
    config.replace(r#"["receiver:9464"]"#, &list(&targets.receivers))
}

/// Windows, as in `[5m]`, and what stands alone after `for:` and in the settings.
fn faster(line: &str, factor: u32) -> String {
    for key in ["for: ", "scrape_interval: ", "evaluation_interval: "] {
        if let Some(shorter) = line.trim_start().strip_prefix(key).and_then(|text| divided(text, factor)) {
            let indent = &line[..line.len() - line.trim_start().len()];
            return format!("{indent}{key}{shorter}");
        }
    }
    let mut parts = line.split('[');
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let window = part.split_once(']').and_then(|(window, rest)| Some((divided(window, factor)?, rest)));
        match window {
            Some((window, rest)) => done.extend(["[", &window, "]", rest]),
            None => done.extend(["[", part]),
        }
    }
    done
}

fn divided(text: &str, factor: u32) -> Option<String> {
    let duration = humantime::parse_duration(text.trim()).ok()? / factor;
    Some(format!("{}ms", duration.as_millis()))
}
