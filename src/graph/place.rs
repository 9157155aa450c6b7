//! Pass: what each stage needs of the machine. Kinds say whether they use one thread or all; the file may say more.

use contract::{Device, Numerics, Threads};

use super::Graph;

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub threads: usize,
    pub device: Device,
}

impl Graph {
    /// Fills in what the file leaves open, and bounds it by what is there.
    pub fn place(&mut self, machine: &Machine) {
        for stage in self.dag.node_weights_mut() {
            let wanted = match stage.configured.threads() {
                _ if stage.needs.threads > 0 => stage.needs.threads,
                Threads::One => 1,
                Threads::All => machine.threads,
            };
            stage.needs.threads = wanted.clamp(1, machine.threads.max(1));
            let on_gpu = matches!(machine.device, Device::Cuda(_))
                && stage.configured.numerics() == Numerics::Device;
            stage.needs.gpus = usize::from(on_gpu);
        }
    }
}
