//! What the benches count with: processor time to the nanosecond, and the most memory held.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Seconds since a moment: of processor time, or on the clock.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    computed: Option<f64>,
}

impl Clock {
    /// Counts what all threads of this process compute, user and system together: what other programs take is not in it.
    pub fn of_processor() -> Self {
        Self {
            computed: Some(computed()),
            ..Self::on_the_wall()
        }
    }

    /// Counts time as it passes.
    pub fn on_the_wall() -> Self {
        Self {
            start: Instant::now(),
            computed: None,
        }
    }

    /// By the processor where one thread computes, else on the wall: threads share the work of a second.
    pub fn of_threads(threads: i32) -> Self {
        if threads == 1 {
            Self::of_processor()
        } else {
            Self::on_the_wall()
        }
    }

    /// Seconds since it began.
    pub fn seconds(&self) -> f64 {
        match self.computed {
            Some(before) => computed() - before,
            None => self.start.elapsed().as_secs_f64(),
        }
    }
}

/// Seconds that this process has computed.
fn computed() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The most memory that this process held, MiB; `NaN` where the system does not tell.
pub fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}
