//! CPU time and memory, as the kernel counts them.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// The CPU time that all threads of a process have used. The kernel tells it in
/// nanoseconds for each thread.
pub(crate) fn server_cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let nanos = |task: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(threads.filter_map(nanos).sum())
}

/// The CPU time of this process.
#[derive(Clone, Copy)]
pub(crate) struct ThreadCpu(Duration);

impl ThreadCpu {
    pub(crate) fn of_process() -> Self {
        Self(server_cpu(std::process::id()))
    }
}

impl Sub for ThreadCpu {
    type Output = Duration;

    fn sub(self, before: Self) -> Duration {
        self.0.saturating_sub(before.0)
    }
}

pub(crate) fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
