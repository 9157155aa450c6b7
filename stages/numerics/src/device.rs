//! The device that tensors live on, and the class of floating-point behaviour that comes with it.
//! Which device a stage gets is decided by the engine.

#[cfg(feature = "cuda")]
use std::collections::BTreeMap;
#[cfg(feature = "cuda")]
use std::sync::{Mutex, PoisonError};

use candle_core::{Shape, Tensor, WithDType};
use contract::{Device, Hardware, Trouble};

use super::simd::{Level, SIMD_VARIABLE};

/// The machine that the program runs on.
pub struct Machine;

impl Hardware for Machine {
    fn open(&self, device: Device) -> Result<(), Trouble> {
        self::device(device).map(drop)
    }

    fn class(&self, device: Device) -> Result<String, Trouble> {
        numeric_class(device)
    }
}

/// The device as Candle knows it.
///
/// # Errors
/// If CUDA is asked for and this program was built without it, or no such device can be used; the reason is named.
pub fn device(device: Device) -> Result<candle_core::Device, Trouble> {
    match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        Device::Cuda(ordinal) => cuda(ordinal),
    }
}

#[cfg(feature = "cuda")]
fn cuda(ordinal: usize) -> Result<candle_core::Device, Trouble> {
    // A device has one stream for the whole process, in whose order memory is freed.
    type Opened = Mutex<BTreeMap<usize, candle_core::Device>>;
    static OPENED: Opened = Mutex::new(BTreeMap::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = opened.get(&ordinal) {
        return Ok(device.clone());
    }
    let device = open_cuda(ordinal)?;
    opened.insert(ordinal, device.clone());
    Ok(device)
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize) -> Result<candle_core::Device, Trouble> {
    // The driver's library is loaded on first use, and its absence is a panic there.
    let opened = std::panic::catch_unwind(|| candle_core::Device::new_cuda_with_stream(ordinal));
    let hint = "run with `--device cpu`, or see `runner doctor`";
    match opened {
        Ok(Ok(device)) => {
            set_up(&device).map_err(|error| {
                Trouble::new(format!("CUDA device {ordinal} cannot be set up"))
                    .hint(hint)
                    .because(error)
            })?;
            Ok(device)
        }
        Ok(Err(error)) => Err(
            Trouble::new(format!("CUDA device {ordinal} cannot be used"))
                .hint(hint)
                .because(error),
        ),
        Err(_) => Err(Trouble::new("the CUDA driver is not installed on this machine").hint(hint)),
    }
}

/// Lets the driver keep freed memory for the next allocation. By default it goes back to the system whenever the host
/// waits for the device, which every training step does to read its loss. And without a second stream no event has to tell
/// when memory was last used, of which there would be two for every allocation.
#[cfg(feature = "cuda")]
fn set_up(device: &candle_core::Device) -> candle_core::Result<()> {
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::sys;

    let cuda = device.as_cuda_device()?;
    // SAFETY: `cuda` opens a device once, so all memory is used on the one stream.
    unsafe { cuda.disable_event_tracking() };
    let handle = cuda.cuda_stream().context().cu_device();
    let mut pool = std::ptr::null_mut();
    let mut threshold = u64::MAX;
    // SAFETY: both pointers are valid for what the driver writes and reads: a handle, and 64 bits for this attribute.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, handle)
            .result()
            .w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast())
            .result()
            .w()
    }
}

/// While this lives, what operations of this thread send to a GPU is kept there by its content, up to 4 kB each: sizes,
/// strides, positions. So each is sent once, and not at every step. What differs from step to step goes by [`upload`].
#[must_use]
pub struct Constants {
    #[cfg(feature = "cuda")]
    _kept: Option<Box<dyn std::any::Any>>,
}

impl Constants {
    pub fn keep(device: &candle_core::Device) -> Self {
        #[cfg(feature = "cuda")]
        return Self {
            _kept: device
                .as_cuda_device()
                .ok()
                .map(|device| Box::new(device.enable_cuda_graph_htod_cache()) as _),
        };
        #[cfg(not(feature = "cuda"))]
        {
            let _ = device;
            Self {}
        }
    }
}

/// A tensor on a device of values that are not likely to come again.
///
/// # Errors
/// If their number is not that of the shape, or the device has no memory.
pub fn upload<T: Element>(
    values: Vec<T>,
    shape: impl Into<Shape>,
    device: &candle_core::Device,
) -> candle_core::Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = device {
        return crate::cuda::upload(&values, shape.into(), device);
    }
    Tensor::from_vec(values, shape.into(), device)
}

/// What can be uploaded.
#[cfg(feature = "cuda")]
pub trait Element: WithDType + crate::cuda::OnDevice {}
#[cfg(feature = "cuda")]
impl<T: WithDType + crate::cuda::OnDevice> Element for T {}

/// What can be uploaded.
#[cfg(not(feature = "cuda"))]
pub trait Element: WithDType {}
#[cfg(not(feature = "cuda"))]
impl<T: WithDType> Element for T {}

#[cfg(not(feature = "cuda"))]
fn cuda(ordinal: usize) -> Result<candle_core::Device, Trouble> {
    Err(Trouble::new(format!(
        "CUDA device {ordinal} was asked for, but this program was built without CUDA"
    ))
    .hint("run with `--device cpu`, or build with `--features cuda`"))
}

/// What bit-equality of floating point depends on here: `cpu/x86_64/avx512f`, `cuda/sm_90/13.0/1`, whose last part is the
/// version of our kernels.
///
/// # Errors
/// If the device cannot be used.
pub fn numeric_class(device: Device) -> Result<String, Trouble> {
    check_simd_variable(std::env::var(SIMD_VARIABLE).ok().as_deref())?;
    match device {
        Device::Cpu => Ok(numeric_class_here()),
        Device::Cuda(ordinal) => cuda_class(ordinal),
    }
}

/// Libraries choose their kernels by the processor, whatever we lower: such results are not passed off as those of a lesser
/// machine.
fn numeric_class_here() -> String {
    let class = numeric_class_at(Level::detect());
    if Level::detect() == Level::of_machine() {
        class
    } else {
        class + "/lowered"
    }
}

/// A level that does not exist, or that the machine does not have, must not quietly become another one.
fn check_simd_variable(value: Option<&str>) -> Result<(), Trouble> {
    let Some(value) = value else { return Ok(()) };
    let here: Vec<&str> = Level::available().into_iter().map(Level::name).collect();
    if here.contains(&value) {
        return Ok(());
    }
    let message = format!("{SIMD_VARIABLE} is `{value}`, which this machine cannot give");
    Err(Trouble::new(message).hint(format!("it can be {}, or unset", here.join(", "))))
}

/// The numeric class of a CPU of this architecture whose widest used instructions are these.
fn numeric_class_at(level: Level) -> String {
    format!("cpu/{}/{}", std::env::consts::ARCH, level.name())
}

#[cfg(feature = "cuda")]
fn cuda_class(ordinal: usize) -> Result<String, Trouble> {
    use candle_core::cuda_backend::cudarc::driver::{result, sys};

    let opened = device(Device::Cuda(ordinal))?;
    let stream = opened.as_cuda_device()?.cuda_stream();
    let failed =
        |error: result::DriverError| Trouble::new("the CUDA device does not answer").because(error);
    let attribute = |name| stream.context().attribute(name).map_err(failed);
    let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let mut version = 0;
    // SAFETY: the pointer is valid for the one integer that the driver writes.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(failed)?;
    Ok(format!(
        "cuda/sm_{major}{minor}/{}.{}/{}",
        version / 1000,
        version % 1000 / 10,
        crate::cuda::VERSION
    ))
}

#[cfg(not(feature = "cuda"))]
fn cuda_class(ordinal: usize) -> Result<String, Trouble> {
    cuda(ordinal).map(|_| String::new())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn classes_differ_by_level_and_name_the_architecture() {
        let class = numeric_class(Device::Cpu).unwrap();
        assert!(
            class.starts_with("cpu/") && class.contains(std::env::consts::ARCH),
            "{class}"
        );
        let classes: BTreeSet<String> = Level::available()
            .into_iter()
            .map(numeric_class_at)
            .collect();
        assert_eq!(classes.len(), Level::available().len());
    }

    #[test]
    fn a_level_that_is_not_there_is_refused() {
        assert!(check_simd_variable(None).is_ok() && check_simd_variable(Some("baseline")).is_ok());
        let error = check_simd_variable(Some("sse")).unwrap_err();
        assert!(error.hint_text().unwrap().contains("baseline"), "{error}");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_is_refused_with_a_reason_when_it_is_not_built_in() {
        let error = device(Device::Cuda(1)).unwrap_err();
        assert!(error.message().contains("built without CUDA"), "{error}");
        assert!(error.hint_text().is_some());
        assert!(numeric_class(Device::Cuda(0)).is_err());
    }
}
