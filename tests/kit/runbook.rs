//! The commands of docs/runbook.md, as they are written.

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// What stands below a heading of the second level; the first section is what stands above all of them.
pub struct Section {
    /// The heading, as GitHub names it in links.
    pub anchor: String,
    /// Each block of commands.
    pub blocks: Vec<String>,
}

pub fn sections() -> Vec<Section> {
    RUNBOOK.split("\n## ").map(section).collect()
}

fn section(text: &str) -> Section {
    let heading = text.lines().next().unwrap_or_default().trim_start_matches('#').trim();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    let anchor = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.trim().to_owned()));
    Section { anchor, blocks: blocks.collect() }
}
