//! Kernels of our own on CUDA: memory, launches and matrix products. Beside `device`, the only place that names cudarc.
//!
//! A device has one stream, and memory is freed in its order: what a launch reads may be dropped right after it.

pub(crate) mod correlation;
pub mod slots;

use std::collections::HashMap;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cublas;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr,
    result::{launch_kernel, memcpy_dtod_async},
    sys::CUfunction_attribute,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{
    CudaDType, CudaDevice, CudaStorage, WrapErr, gemm_reduced_precision_f32,
};
use candle_core::op::BackpropOp;
use candle_core::{Device, Layout, Result, Shape, Storage, Tensor, bail};

/// Part of the hardware class: it grows when kernels give other bits. Results of the CPU stay valid.
pub const VERSION: u32 = 1;

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// What a tensor on the device can be made of.
pub trait OnDevice: CudaDType + DeviceRepr {}
impl<T: CudaDType + DeviceRepr> OnDevice for T {}

/// A tensor of these values, which are sent now whatever is kept of others.
///
/// # Errors
/// If their number is not that of the shape, or the device has no memory.
pub(crate) fn upload<T: OnDevice>(
    values: &[T],
    shape: Shape,
    device: &CudaDevice,
) -> Result<Tensor> {
    if values.len() != shape.elem_count() {
        bail!("{} values for the shape {shape:?}", values.len())
    }
    let slice = device.cuda_stream().clone_htod(values).w()?;
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Ok(Tensor::from_storage(
        storage,
        shape,
        BackpropOp::none(),
        false,
    ))
}

/// The words of a struct of integers.
///
/// # Panics
/// If one is beyond 32 bits.
pub fn ints(values: &[usize]) -> Vec<u64> {
    let mut words = Vec::new();
    for pair in values.chunks(2) {
        let [first, second] = [pair[0], pair.get(1).copied().unwrap_or_default()];
        let largest = i32::MAX as usize;
        assert!(first <= largest && second <= largest, "{values:?}");
        words.push(first as u64 | (second as u64) << 32);
    }
    words
}

/// A function of a `.cu` file, which is found by the file's name.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    pub module: &'static str,
    pub name: &'static str,
}

/// Floats of a contiguous tensor on the device.
#[derive(Clone, Copy)]
pub struct Floats<'a> {
    address: u64,
    len: usize,
    lifetime: PhantomData<&'a ()>,
}

impl<'a> Floats<'a> {
    /// None at all.
    pub const NONE: Self = Self {
        address: 0,
        len: 0,
        lifetime: PhantomData,
    };

    /// # Errors
    /// If these are not contiguous 32-bit floats.
    pub(crate) fn of_storage(storage: &'a CudaStorage, layout: &Layout) -> Result<Self> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor")
        };
        let slice = storage.as_cuda_slice::<f32>()?;
        let (address, _guard) = slice.device_ptr(slice.stream());
        Ok(Self {
            address: address + (start * size_of::<f32>()) as u64,
            len: end - start,
            lifetime: PhantomData,
        })
    }

    /// For structs that a kernel takes.
    pub fn address(self) -> u64 {
        self.address
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Those from this one on.
    ///
    /// # Panics
    /// If there are not as many.
    #[must_use]
    pub fn after(self, start: usize) -> Self {
        self.range(start..self.len)
    }

    /// Those of a range.
    ///
    /// # Panics
    /// If there are not as many.
    #[must_use]
    pub fn range(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.len, "{range:?} of {} floats", self.len);
        Self {
            address: self.address + (range.start * size_of::<f32>()) as u64,
            len: range.len(),
            ..self
        }
    }
}

/// Calls `read` with the floats of contiguous tensors on the device.
///
/// # Errors
/// If one is elsewhere, or of another type.
pub fn with_floats<const N: usize, T>(
    tensors: [&Tensor; N],
    read: impl FnOnce([Floats<'_>; N]) -> Result<T>,
) -> Result<T> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut floats = [Floats::NONE; N];
    for (floats, (storage, layout)) in floats.iter_mut().zip(&guards) {
        let Storage::Cuda(storage) = &**storage else {
            bail!("expected a tensor on the device")
        };
        *floats = Floats::of_storage(storage, layout)?;
    }
    read(floats)
}

/// Where the values of a contiguous tensor of 64-bit integers lie on the device.
///
/// # Errors
/// If it is elsewhere, or of another type.
pub fn address_of_integers(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, _))) = (&*storage, layout.contiguous_offsets())
    else {
        bail!("expected a contiguous tensor on the device")
    };
    let slice = storage.as_cuda_slice::<i64>()?;
    let (address, _guard) = slice.device_ptr(slice.stream());
    Ok(address + (start * size_of::<i64>()) as u64)
}

/// Memory of its own for floats.
pub struct Buffer {
    slice: CudaSlice<f32>,
    device: CudaDevice,
}

impl Buffer {
    pub fn floats(&self) -> Floats<'_> {
        let (address, _guard) = self.slice.device_ptr(self.slice.stream());
        Floats {
            address,
            len: self.slice.len(),
            lifetime: PhantomData,
        }
    }

    pub(crate) fn into_storage(self) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(self.slice, self.device)
    }

    /// A tensor of this shape that has no part in any graph.
    pub fn into_tensor(self, shape: impl Into<Shape>) -> Tensor {
        let storage = Storage::Cuda(self.into_storage());
        Tensor::from_storage(storage, shape, BackpropOp::none(), false)
    }

    /// The same, and what is computed of it can be differentiated.
    pub(crate) fn into_variable(self, shape: impl Into<Shape>) -> Tensor {
        let storage = Storage::Cuda(self.into_storage());
        Tensor::from_storage(storage, shape, BackpropOp::none(), true)
    }
}

/// A device on which kernels are launched.
#[derive(Clone, Copy)]
pub struct Gpu<'a>(&'a CudaDevice);

impl<'a> Gpu<'a> {
    pub(crate) fn of_storage(storage: &'a CudaStorage) -> Self {
        Self(storage.device())
    }

    /// # Errors
    /// If the tensor is elsewhere.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        Ok(Self(tensor.device().as_cuda_device()?))
    }

    /// The device as tensors name it.
    pub fn device(self) -> Device {
        Device::Cuda(self.0.clone())
    }

    /// Memory that holds anything.
    ///
    /// # Errors
    /// If the device has no more.
    pub fn buffer(self, len: usize) -> Result<Buffer> {
        // SAFETY: what is launched writes all of it before anything reads it; the tests fill it with NaN.
        let slice = unsafe { self.0.alloc::<f32>(len) }?;
        Ok(Buffer {
            slice,
            device: self.0.clone(),
        })
    }

    /// A launch of so many blocks and threads in each, whose arguments are still to be given.
    #[must_use]
    pub fn launch(self, kernel: Kernel, blocks: impl Into<Blocks>, threads: usize) -> Launch<'a> {
        Launch {
            gpu: self,
            kernel,
            blocks: blocks.into(),
            threads,
            shared: 0,
            arguments: Vec::new(),
            is_too_large: false,
        }
    }

    /// Memory that holds the same.
    ///
    /// # Errors
    /// If the device has no more.
    pub fn copy(self, floats: Floats<'_>) -> Result<Buffer> {
        let target = self.buffer(floats.len)?;
        self.copy_into(floats, target.floats())?;
        Ok(target)
    }

    /// Copies floats to where there is room for them.
    ///
    /// # Errors
    /// If there is not, or the device refuses.
    pub fn copy_into(self, floats: Floats<'_>, target: Floats<'_>) -> Result<()> {
        if target.len < floats.len {
            bail!("{} floats do not fit {}", floats.len, target.len)
        }
        let stream = self.stream()?;
        // SAFETY: both are memory of the device, of this many floats.
        unsafe {
            memcpy_dtod_async(
                target.address,
                floats.address,
                floats.len * size_of::<f32>(),
                stream.cu_stream(),
            )
        }
        .w()
    }

    /// A launch with a thread for each of so many values.
    #[must_use]
    pub fn each(self, kernel: Kernel, count: usize) -> Launch<'a> {
        self.launch(kernel, count.div_ceil(256).max(1), 256)
    }

    /// The sums over the rows of a matrix.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn column_sums(self, x: Floats<'_>, rows: usize, columns: usize) -> Result<Buffer> {
        let sums = self.buffer(columns)?;
        self.column_sums_into(x, rows, columns, sums.floats())?;
        Ok(sums)
    }

    /// The same, written to where there is room for them.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn column_sums_into(
        self,
        x: Floats<'_>,
        rows: usize,
        columns: usize,
        sums: Floats<'_>,
    ) -> Result<()> {
        const KERNEL: Kernel = Kernel {
            module: "columns",
            name: "column_shares",
        };
        // Few rows are one block's work; of many, each block has some.
        let groups = rows.div_ceil(256).clamp(1, 64);
        let shares = match groups {
            1 => None,
            _ => Some(self.buffer(groups * columns)?),
        };
        let written = shares.as_ref().map_or(sums, Buffer::floats);
        self.launch(KERNEL, (columns.div_ceil(32), groups), 256)
            .floats(x)
            .floats(written)
            .int(rows)
            .int(columns)
            .run()?;
        match shares {
            None => Ok(()),
            Some(shares) => self.sum_shares_into(&shares, groups, columns, sums),
        }
    }

    /// The sum of shares in their order, `[shares, columns]` to `[columns]`.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn sum_shares(self, shares: &Buffer, count: usize, columns: usize) -> Result<Buffer> {
        let sums = self.buffer(columns)?;
        self.sum_shares_into(shares, count, columns, sums.floats())?;
        Ok(sums)
    }

    fn sum_shares_into(
        self,
        shares: &Buffer,
        count: usize,
        columns: usize,
        sums: Floats<'_>,
    ) -> Result<()> {
        const KERNEL: Kernel = Kernel {
            module: "columns",
            name: "sum_shares",
        };
        self.each(KERNEL, columns)
            .floats(shares.floats())
            .floats(sums)
            .int(count)
            .int(columns)
            .run()
    }

    /// A matrix whose rows are all this one.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn rows_of(self, row: Floats<'_>, rows: usize) -> Result<Buffer> {
        const KERNEL: Kernel = Kernel {
            module: "columns",
            name: "fill_rows",
        };
        let (columns, count) = (row.len(), rows * row.len());
        let matrix = self.buffer(count)?;
        self.each(KERNEL, count)
            .floats(row)
            .floats(matrix.floats())
            .int(count)
            .int(columns)
            .run()?;
        Ok(matrix)
    }

    /// `c = factor * op(a) op(b) + keep * c` for matrices in rows, one for each of `count`.
    ///
    /// # Errors
    /// If a matrix is larger than what is given of it, or the device refuses.
    pub fn product(self, a: Matrix<'_>, b: Matrix<'_>, c: Floats<'_>, with: Product) -> Result<()> {
        let (rows, inner) = a.size();
        let (b_inner, columns) = b.size();
        if inner != b_inner || c.len < with.count * rows * columns {
            bail!(
                "a product of {rows}x{inner} and {b_inner}x{columns} into {}",
                c.len
            )
        }
        self.stream()?;
        let compute = match gemm_reduced_precision_f32() {
            true => cublas::sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            false => cublas::sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let turned = |matrix: &Matrix<'_>| match matrix.is_transposed {
            true => cublas::sys::cublasOperation_t::CUBLAS_OP_T,
            false => cublas::sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let single = cublas::sys::cudaDataType_t::CUDA_R_32F;
        // cuBLAS has matrices in columns: of the same memory, it multiplies the transposes, in the other order.
        // SAFETY: the addresses are those of memory that is at least as large as the sizes say.
        unsafe {
            cublas::result::gemm_strided_batched_ex(
                *self.0.cublas_handle().handle(),
                turned(&b),
                turned(&a),
                columns as i32,
                rows as i32,
                inner as i32,
                (&raw const with.factor).cast(),
                b.floats.address as *const c_void,
                single,
                b.lead as i32,
                b.stride as i64,
                a.floats.address as *const c_void,
                single,
                a.lead as i32,
                a.stride as i64,
                (&raw const with.keep).cast(),
                c.address as *mut c_void,
                single,
                columns as i32,
                (rows * columns) as i64,
                with.count as i32,
                compute,
                cublas::sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )
        }
        .w()
    }

    /// The device's stream, with its context made that of the calling thread, as the driver asks of whoever calls it.
    fn stream(self) -> Result<Arc<CudaStream>> {
        let stream = self.0.cuda_stream();
        stream.context().bind_to_thread().w()?;
        Ok(stream)
    }

    fn function(self, kernel: Kernel) -> Result<CudaFunction> {
        type Functions = Mutex<HashMap<(usize, &'static str), CudaFunction>>;
        static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

        let context = self.0.cuda_stream().context().clone();
        let functions = FUNCTIONS.get_or_init(Mutex::default);
        let mut functions = functions.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (context.ordinal(), kernel.name);
        if let Some(function) = functions.get(&key) {
            return Ok(function.clone());
        }
        let mut modules = MODULES.iter();
        let Some((_, image)) = modules.find(|(name, _)| *name == kernel.module) else {
            bail!("there is no file {}.cu", kernel.module)
        };
        let module = context.load_module(Ptx::from_binary(image.to_vec())).w()?;
        let function = module.load_function(kernel.name).w()?;
        functions.insert(key, function.clone());
        Ok(function)
    }
}

/// How many blocks there are in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Blocks(usize, usize);

impl From<usize> for Blocks {
    fn from(blocks: usize) -> Self {
        Self(blocks, 1)
    }
}

impl From<(usize, usize)> for Blocks {
    fn from((x, y): (usize, usize)) -> Self {
        Self(x, y)
    }
}

/// Matrices of one size, in rows.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    floats: Floats<'a>,
    rows: usize,
    columns: usize,
    is_transposed: bool,
    /// From one row to the next.
    lead: usize,
    /// From one matrix to the next.
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// If there are fewer floats than that.
    pub fn new(floats: Floats<'a>, rows: usize, columns: usize) -> Self {
        assert!(rows * columns <= floats.len, "{rows}x{columns} floats");
        Self {
            floats,
            rows,
            columns,
            is_transposed: false,
            lead: columns,
            stride: rows * columns,
        }
    }

    /// The first columns of rows that lie so far apart.
    ///
    /// # Panics
    /// If there are fewer floats than that.
    pub fn of_rows(floats: Floats<'a>, rows: usize, columns: usize, lead: usize) -> Self {
        assert!((rows - 1) * lead + columns <= floats.len, "{rows} rows");
        Self {
            floats,
            rows,
            columns,
            is_transposed: false,
            lead,
            stride: rows * lead,
        }
    }

    /// The transpose of it, which is read where it lies.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            is_transposed: !self.is_transposed,
            ..self
        }
    }

    /// The same matrix in every product.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { stride: 0, ..self }
    }

    fn size(&self) -> (usize, usize) {
        match self.is_transposed {
            true => (self.columns, self.rows),
            false => (self.rows, self.columns),
        }
    }
}

/// What is done with the product of two matrices.
#[derive(Clone, Copy)]
pub struct Product {
    pub factor: f32,
    /// What is there before is multiplied by this, and added.
    pub keep: f32,
    pub count: usize,
}

impl Default for Product {
    fn default() -> Self {
        Self {
            factor: 1.0,
            keep: 0.0,
            count: 1,
        }
    }
}

/// Shared memory of a block, in bytes, beyond which a kernel has to be told.
const FREE_SHARED: usize = 48 << 10;

/// The most shared memory that a block can have, in bytes: H100's.
pub const MOST_SHARED: usize = 227 << 10;

/// A launch whose arguments are given one by one, in the kernel's order.
pub struct Launch<'a> {
    gpu: Gpu<'a>,
    kernel: Kernel,
    blocks: Blocks,
    threads: usize,
    shared: usize,
    /// Each in words of eight bytes, which is how what kernels take is aligned.
    arguments: Vec<Vec<u64>>,
    is_too_large: bool,
}

impl Launch<'_> {
    /// Dynamic shared memory of every block, in bytes.
    #[must_use]
    pub fn shared(mut self, bytes: usize) -> Self {
        self.shared = bytes;
        self
    }

    /// `float *`, of which the kernel reads or writes only what it is told.
    #[must_use]
    pub fn floats(self, floats: Floats<'_>) -> Self {
        self.word(floats.address)
    }

    /// `float *`, or a null pointer.
    #[must_use]
    pub fn optional(self, floats: Option<Floats<'_>>) -> Self {
        self.word(floats.map_or(0, |floats| floats.address))
    }

    /// `int`.
    #[must_use]
    pub fn int(mut self, value: usize) -> Self {
        self.is_too_large |= i32::try_from(value).is_err();
        self.word(value as u64)
    }

    /// `float`.
    #[must_use]
    pub fn float(self, value: f32) -> Self {
        self.word(u64::from(value.to_bits()))
    }

    /// A struct, as its words of eight bytes.
    #[must_use]
    pub fn words(mut self, words: Vec<u64>) -> Self {
        self.arguments.push(words);
        self
    }

    fn word(self, word: u64) -> Self {
        self.words(vec![word])
    }

    /// # Errors
    /// If the device refuses, or a size is beyond 32 bits.
    pub fn run(mut self) -> Result<()> {
        if self.is_too_large {
            bail!("{}: sizes beyond 32 bits", self.kernel.name)
        }
        let function = self.gpu.function(self.kernel)?;
        if self.shared > FREE_SHARED {
            let largest = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(largest, self.shared as i32).w()?;
        }
        let stream = self.gpu.stream()?;
        let mut pointers: Vec<*mut c_void> = Vec::with_capacity(self.arguments.len());
        for argument in &mut self.arguments {
            pointers.push(argument.as_mut_ptr().cast());
        }
        // SAFETY: the arguments are those of the kernel, which the conformance tests run for odd sizes; the
        // memory that they name is freed after it, in the order of the stream.
        unsafe {
            launch_kernel(
                function.cu_function(),
                (self.blocks.0 as u32, self.blocks.1 as u32, 1),
                (self.threads as u32, 1, 1),
                self.shared as u32,
                stream.cu_stream(),
                &mut pointers,
            )
        }
        .w()
    }
}
