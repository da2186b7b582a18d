//! What a process uses. Reads `/proc`, so it needs Linux.

/// What a process, or several together, have used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub memory_bytes: f64,
}

impl std::ops::Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }
}

/// The process alone. One that is gone uses nothing.
pub fn usage(process: u32) -> Usage {
    let Some(fields) = stat(process) else { return Usage::default() };
    Usage { cpu_seconds: cpu_seconds(&fields, 2), memory_bytes: resident_bytes(process) }
}

/// CPU time of a process with its children, those that have ended included.
pub fn family_cpu_seconds(parent: u32) -> f64 {
    let Some(fields) = stat(parent) else { return 0.0 };
    children(parent).into_iter().map(|child| usage(child).cpu_seconds).sum::<f64>() + cpu_seconds(&fields, 4)
}

pub fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| stat(*id).is_some_and(|fields| fields.get(PARENT) == Some(&i64::from(parent)));
    ids.filter(is_child).collect()
}

/// Of the fields after the name: the parent, and where user and system time begin, followed by those of ended children.
const PARENT: usize = 0;
const TIMES: usize = 10;

/// The numbers of `/proc/<process>/stat` from the parent on; the name before them may contain anything.
fn stat(process: u32) -> Option<Vec<i64>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().skip(1).map(|field| field.parse().unwrap_or_default()).collect())
}

fn cpu_seconds(fields: &[i64], times: usize) -> f64 {
    // SAFETY: sysconf takes a plain number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    fields.iter().skip(TIMES).take(times).sum::<i64>() as f64 / ticks as f64
}

fn resident_bytes(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}

/// The load average of the last minute, and the number of cores.
pub fn load() -> (f64, usize) {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or_default();
    (load, std::thread::available_parallelism().map_or(1, usize::from))
}
