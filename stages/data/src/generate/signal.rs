//! A server without faults: a few hidden loads with daily and weekly rhythm, and channels that follow them.

use super::numeric::{normal, sine};
use contract::Random;

/// Hidden loads that all channels mix. They are why channels are correlated.
const LOADS: usize = 3;

/// How a channel follows the loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Processor,
    Network,
    Memory,
    Latency,
    Disk,
    /// Grows with the load and starts again at midnight.
    Counter,
    Temperature,
    /// A limit that never changes, as real exports have them.
    Constant,
}

const SHAPES: [(Shape, &str); 8] = [
    (Shape::Processor, "processor_percent"),
    (Shape::Network, "network_megabytes"),
    (Shape::Memory, "memory_percent"),
    (Shape::Latency, "latency_milliseconds"),
    (Shape::Disk, "disk_operations"),
    (Shape::Counter, "requests_today"),
    (Shape::Temperature, "temperature_celsius"),
    (Shape::Constant, "connection_limit"),
];

/// The clean signal: a column per channel.
pub(super) struct Signal {
    pub names: Vec<String>,
    pub columns: Vec<Vec<f64>>,
    /// Channels that can be disturbed: all but the constant ones.
    pub variable: Vec<usize>,
}

/// The rhythm of the simulated server.
#[derive(Clone, Copy)]
pub(super) struct Rhythm {
    pub rows: usize,
    /// Rows per day.
    pub day: usize,
    /// Noise of each channel, relative to its swing.
    pub noise: f64,
}

impl Signal {
    /// Simulates `channels` channels. A channel's randomness does not depend on how many others there are.
    pub fn new(rhythm: Rhythm, channels: usize, seed: u64) -> Self {
        let mut loads = Vec::with_capacity(LOADS);
        for load in 0..LOADS {
            let mut random = Random::new(seed, &format!("load {load}"));
            loads.push(hidden_load(rhythm, load, &mut random));
        }
        let mut signal = Self {
            names: Vec::with_capacity(channels),
            columns: Vec::with_capacity(channels),
            variable: Vec::new(),
        };
        for channel in 0..channels {
            let (shape, name) = SHAPES[channel % SHAPES.len()];
            let number = channel / SHAPES.len() + 1;
            signal.names.push(format!("{name}_{number}"));
            if shape != Shape::Constant {
                signal.variable.push(channel);
            }
            let mut random = Random::new(seed, &format!("channel {channel}"));
            let mut weights = [0.0; LOADS].map(|_: f64| random.range(0.1, 0.4));
            // One load is felt more than the others, another for each channel in turn.
            weights[channel % LOADS] += 0.6;
            let load = mixed(&loads, &weights, rhythm.rows);
            signal
                .columns
                .push(follow(shape, rhythm, &load, &mut random));
        }
        signal
    }
}

/// The weighted mean of the loads in each row.
fn mixed(loads: &[Vec<f64>], weights: &[f64; LOADS], rows: usize) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let mut mixed = Vec::with_capacity(rows);
    for row in 0..rows {
        let parts = weights.iter().zip(loads);
        let sum: f64 = parts.map(|(weight, load)| weight * load[row]).sum();
        mixed.push(sum / total);
    }
    mixed
}

/// A load between about 0 and 1: two harmonics of the day, quieter weekends, and slow wandering.
fn hidden_load(rhythm: Rhythm, index: usize, random: &mut Random) -> Vec<f64> {
    let day = rhythm.day as f64;
    let phase = 0.08 * index as f64 + random.range(-0.03, 0.03);
    let second = random.range(0.1, 0.3);
    let weekend = random.range(0.55, 0.8);
    let mut wander = 0.0;
    let mut load = Vec::with_capacity(rhythm.rows);
    for row in 0..rhythm.rows {
        wander = 0.97 * wander + 0.012 * normal(random);
        let days = row as f64 / day;
        let daily =
            0.45 - 0.3 * sine(days + 0.25 + phase) + 0.3 * second * sine(2.0 * days + phase);
        let factor = if (row / rhythm.day) % 7 >= 5 {
            weekend
        } else {
            1.0
        };
        load.push(daily * factor + wander);
    }
    load
}

/// The values of one channel over a mixed load.
fn follow(shape: Shape, rhythm: Rhythm, loads: &[f64], random: &mut Random) -> Vec<f64> {
    let scale = random.range(0.8, 1.25);
    let (mut memory, mut counter) = (0.5, 0.0);
    let mut values = Vec::with_capacity(loads.len());
    for (row, &load) in loads.iter().enumerate() {
        let noise = rhythm.noise * normal(random);
        values.push(match shape {
            Shape::Processor => 100.0 * load / (0.35 + load.max(0.0)) * scale + 40.0 * noise,
            Shape::Network => 80.0 * scale * (load + 0.5 * noise),
            Shape::Memory => {
                memory += 0.03 * (0.3 + 0.6 * load - memory);
                100.0 * (memory + 0.15 * noise)
            }
            Shape::Latency => scale * (12.0 + 30.0 * load * load + 12.0 * noise),
            Shape::Disk => 400.0 * scale * (0.2 + load + 0.6 * noise),
            Shape::Counter => {
                counter = if row.is_multiple_of(rhythm.day) {
                    0.0
                } else {
                    counter + 50.0 * scale * (load.max(0.0) + 0.2 * noise.abs())
                };
                counter
            }
            Shape::Temperature => {
                memory += 0.05 * (load - memory);
                38.0 + 25.0 * memory * scale + 5.0 * noise
            }
            Shape::Constant => 1024.0,
        });
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correlation(left: &[f64], right: &[f64]) -> f64 {
        let count = left.len() as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
        let (a, b) = (mean(left), mean(right));
        let product = |x: &[f64], a: f64, y: &[f64], b: f64| {
            x.iter().zip(y).map(|(x, y)| (x - a) * (y - b)).sum::<f64>()
        };
        product(left, a, right, b)
            / (product(left, a, left, a) * product(right, b, right, b)).sqrt()
    }

    #[test]
    fn has_rhythm_and_correlation_and_constants() {
        let rhythm = Rhythm {
            rows: 288 * 14,
            day: 288,
            noise: 0.05,
        };
        let signal = Signal::new(rhythm, 8, 1);
        assert_eq!(signal.variable, [0, 1, 2, 3, 4, 5, 6]);
        assert!(signal.columns[7].iter().all(|value| *value == 1024.0));
        let network = &signal.columns[1];
        assert!(
            correlation(&network[..288 * 4], &network[288..288 * 5]) > 0.7,
            "a day resembles the next"
        );
        assert!(
            correlation(network, &signal.columns[4]) > 0.5,
            "channels follow common loads"
        );
        assert_eq!(Signal::new(rhythm, 3, 1).columns[..], signal.columns[..3]);
    }
}
