// A CUDA driver, and as much of cuBLAS and cuRAND as Candle asks for, that needs no GPU: libcuda.so.1 for tests.
//
// Memory is the host's. Kernels (cuda_on_cpu.h) run when they are launched; after `software_gpu_only_count` nothing runs.
// Every call is counted. Capture follows the rules of the real driver: what is captured is recorded with its arguments
// and runs when the graph is launched; what is forbidden during capture fails with the real error.
#define GPU_MODULE_BEGINS
#include "cuda_on_cpu.h"

#include <memory>
#include <map>
#include <functional>
#include <mutex>
#include <unordered_set>

namespace {

std::recursive_mutex door;
bool only_count = false;

/// What was asked of the device; tests/software_gpu/README.md says what counts as what. Rust has the same struct.
struct Counts {
    uint64_t kernels, products, memsets, uploads, copies, waits, allocations;
    uint64_t uploaded, allocated; // bytes
};
Counts counts;
/// How often each kernel and each size of product was launched.
std::map<std::string, uint64_t> launches;

struct Function { std::string name; const gpu::Entry *entry; };
struct Module { std::map<std::string, Function *> functions; };

struct Allocation { size_t bytes; struct Graph *owner; };
std::map<uintptr_t, Allocation> memory;

struct Node { std::string kind; std::function<void()> run; };
struct Graph { std::vector<Node> nodes; std::vector<void *> owned; std::unordered_set<uintptr_t> freed; };
Graph *capturing = nullptr;
bool invalid = false;

enum { OK = 0, INVALID_VALUE = 1, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };

/// Now, or when the graph is launched.
int submit(const char *kind, std::function<void()> run) {
    if (capturing) {
        if (invalid) return CAPTURE_INVALIDATED;
        capturing->nodes.push_back({kind, std::move(run)});
        return OK;
    }
    run();
    return OK;
}

/// A call that the real driver refuses while a stream is captured.
int forbidden(const char *name) {
    if (!capturing) return OK;
    fprintf(stderr, "gpu: %s during capture\n", name);
    invalid = true;
    return CAPTURE_UNSUPPORTED;
}

/// A run that only counts needs addresses and no memory.
std::unordered_map<uintptr_t, size_t> unbacked;

int allocate(uintptr_t *target, size_t bytes) {
    if (only_count) {
        static uintptr_t next = 1ull << 40;
        *target = next;
        next += (bytes + 511) / 256 * 256;
        unbacked[*target] = bytes;
        return OK;
    }
    void *found = malloc(bytes ? bytes : 1);
    memset(found, 0xff, bytes);
    *target = reinterpret_cast<uintptr_t>(found);
    memory[*target] = {bytes, capturing};
    if (capturing) capturing->owned.push_back(found);
    return OK;
}

int release(uintptr_t address) {
    if (!address) return OK;
    if (only_count) {
        auto found = unbacked.find(address);
        if (found == unbacked.end()) return INVALID_VALUE;
        unbacked.erase(found);
        return OK;
    }
    auto found = memory.find(address);
    if (found == memory.end()) return INVALID_VALUE;
    if (capturing) {
        // "must therefore be passed the address of a graph allocation"
        if (found->second.owner != capturing) return forbidden("cuMemFreeAsync of memory from outside the graph,");
        capturing->freed.insert(address);
        return OK;
    }
    if (found->second.owner) return OK; // belongs to a graph, and goes with it
    free(reinterpret_cast<void *>(address));
    memory.erase(found);
    return OK;
}

struct Launch {
    Function *function;
    dim3 grid, block;
    size_t shared;
    bool cooperative;
    std::vector<std::vector<unsigned char>> kept;
};

void run(Launch &launch) {
    std::vector<void *> pointers;
    for (auto &bytes : launch.kept) pointers.push_back(bytes.data());
    gpu::Task task{launch.function->entry, pointers.data()};
    gpu::launch(launch.function->name.c_str(), launch.grid, launch.block, launch.shared, launch.cooperative, gpu::run_task, &task);
}

/// Whether every launch is to run in several orders of blocks and threads.
bool checks_orders() {
    static bool value = getenv("SOFTWARE_GPU_ORDERS") != nullptr;
    return value;
}

using Contents = std::vector<std::vector<unsigned char>>;

Contents contents() {
    Contents all;
    for (auto &[address, allocation] : memory) {
        auto *from = reinterpret_cast<unsigned char *>(address);
        all.emplace_back(from, from + allocation.bytes);
    }
    return all;
}

/// Runs a launch five times on the same memory, each time in another order: what comes of it must not depend on that.
void run_in_all_orders(Launch &launch) {
    using gpu::Schedule;
    Contents before = contents(), first;
    const std::pair<Schedule, uint64_t> orders[] = {
        {Schedule::Ascending, 0}, {Schedule::Descending, 0}, {Schedule::Shuffled, 1}, {Schedule::Shuffled, 2}, {Schedule::Shuffled, 3}};
    for (auto &[schedule, seed] : orders) {
        size_t number = 0;
        for (auto &[address, allocation] : memory) {
            auto &kept = before[number++];
            std::copy(kept.begin(), kept.end(), reinterpret_cast<unsigned char *>(address));
        }
        gpu::schedule = schedule;
        gpu::schedule_seed = seed;
        run(launch);
        if (first.empty()) first = contents();
        else if (first != contents()) {
            fprintf(stderr, "gpu: another order of threads gives other results in kernel %s\n", launch.function->name.c_str());
            abort();
        }
    }
    gpu::schedule = Schedule::Ascending;
}

int launch(Function *function, dim3 grid, dim3 block, size_t shared, void **arguments, bool cooperative) {
    counts.kernels++;
    launches[function->name]++;
    if (only_count) return submit("kernel", [] {});
    if (!function->entry) {
        fprintf(stderr, "gpu: the kernel %s is not emulated\n", function->name.c_str());
        abort();
    }
    auto held = std::make_shared<Launch>(Launch{function, grid, block, shared, cooperative, {}});
    for (size_t index = 0; index < function->entry->sizes.size(); index++) {
        auto *from = static_cast<unsigned char *>(arguments[index]);
        held->kept.emplace_back(from, from + function->entry->sizes[index]);
    }
    return submit("kernel", [held] { checks_orders() ? run_in_all_orders(*held) : run(*held); });
}

/// Column-major, as cuBLAS has it: C = alpha op(A) op(B) + beta C.
void multiply(int ta, int tb, int m, int n, int k, float alpha, const float *a, long lda, const float *b, long ldb, float beta,
              float *c, long ldc) {
    for (int column = 0; column < n; column++)
        for (int row = 0; row < m; row++) {
            double sum = 0;
            for (int inner = 0; inner < k; inner++)
                sum += (double)(ta ? a[inner + row * lda] : a[row + inner * lda]) * (tb ? b[column + inner * ldb] : b[inner + column * ldb]);
            float &target = c[row + column * ldc];
            target = (float)(alpha * sum) + (beta == 0 ? 0 : beta * target);
        }
}

int gemm(int ta, int tb, int m, int n, int k, float alpha, const void *a, int ta_, int lda, long sa, const void *b,
         int tb_, int ldb, long sb, float beta, void *c, int tc, int ldc, long sc, int batch) {
    counts.products++;
    char size[96];
    snprintf(size, sizeof size, "product %dx%dx%d, %d of them", m, n, k, batch);
    launches[size]++;
    if (only_count) return submit("gemm", [] {});
    if (ta_ || tb_ || tc) { fprintf(stderr, "gpu: only products of floats are emulated\n"); abort(); }
    return submit("gemm", [=] {
        for (int index = 0; index < batch; index++)
            multiply(ta, tb, m, n, k, alpha, (const float *)a + index * sa, lda, (const float *)b + index * sb, ldb, beta, (float *)c + index * sc, ldc);
    });
}

} // namespace

#define API extern "C" __attribute__((visibility("default")))
#define LOCK std::lock_guard<std::recursive_mutex> guard(door)

/// From here on nothing runs, and memory has no content.
API void software_gpu_only_count(void) { LOCK; only_count = true; }

/// What was asked of the device since the last call.
API void software_gpu_take(Counts *taken) { LOCK; *taken = counts; counts = {}; launches.clear(); }

/// Prints the launches since the last take, most frequent first.
API void software_gpu_print_launches(void) {
    LOCK;
    std::vector<std::pair<std::string, uint64_t>> sorted(launches.begin(), launches.end());
    std::stable_sort(sorted.begin(), sorted.end(), [](auto &a, auto &b) { return a.second > b.second; });
    for (auto &[name, number] : sorted) printf("%8lu  %s\n", number, name.c_str());
}

API int cuInit(unsigned) { return OK; }
API int cuDriverGetVersion(int *v) { *v = 13000; return OK; }
API int cuDeviceGet(int *d, int o) { *d = o; return OK; }
API int cuDeviceGetCount(int *n) { *n = 1; return OK; }
API int cuDeviceGetName(char *name, int n, int) { snprintf(name, n, "emulated"); return OK; }
API int cuDeviceGetUuid(void *u, int) { memset(u, 0, 16); return OK; }
API int cuDeviceGetUuid_v2(void *u, int) { memset(u, 0, 16); return OK; }
API int cuDeviceTotalMem_v2(size_t *n, int) { *n = 8ull << 30; return OK; }
API int cuDeviceGetAttribute(int *v, int which, int) {
    // Compute capability 9.0, memory pools, cooperative launches, 132 multiprocessors; anything else is allowed.
    *v = which == 75 ? 9 : which == 76 ? 0 : which == 16 ? 132 : 1;
    return OK;
}
API int cuDevicePrimaryCtxRetain(void **c, int) { *c = (void *)1; return OK; }
API int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API int cuCtxDestroy_v2(void *) { return OK; }
API int cublasDgemmStridedBatched(void) { abort(); }
API int cuCtxSetCurrent(void *) { return OK; }
API int cuCtxGetCurrent(void **c) { *c = (void *)1; return OK; }
API int cuCtxGetDevice(int *d) { *d = 0; return OK; }
API int cuCtxSynchronize(void) { LOCK; counts.waits++; return forbidden("cuCtxSynchronize"); }
API int cuCtxSetFlags(unsigned) { return OK; }
API int cuMemGetInfo_v2(size_t *f, size_t *t) { *f = *t = 8ull << 30; return OK; }
API int cuDeviceGetDefaultMemPool(void **p, int) { *p = (void *)1; return OK; }
API int cuMemPoolSetAttribute(void *, int, void *) { return OK; }
API int cuMemPoolTrimTo(void *, size_t) { return OK; }
API int cuGetErrorName(int e, const char **s) { static thread_local char b[32]; snprintf(b, 32, "error %d", e); *s = b; return OK; }
API int cuGetErrorString(int e, const char **s) { return cuGetErrorName(e, s); }

API int cuMemAllocAsync(uintptr_t *p, size_t n, void *) { LOCK; counts.allocations++; counts.allocated += n; return allocate(p, n); }
API int cuMemAlloc_v2(uintptr_t *p, size_t n) { LOCK; counts.allocations++; counts.allocated += n; int e = forbidden("cuMemAlloc"); return e ? e : allocate(p, n); }
API int cuMemFreeAsync(uintptr_t p, void *) { LOCK; return release(p); }
API int cuMemFree_v2(uintptr_t p) { LOCK; int e = forbidden("cuMemFree"); return e ? e : release(p); }
API int cuMemHostAlloc(void **p, size_t n, unsigned) { *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096); return OK; }
API int cuMemFreeHost(void *p) { free(p); return OK; }
API int cuMemsetD8Async(uintptr_t p, unsigned char v, size_t n, void *) {
    LOCK; counts.memsets++;
    return submit("memset", [=] { if (!only_count) memset((void *)p, v, n); });
}
API int cuMemsetD8_v2(uintptr_t p, unsigned char v, size_t n) { return cuMemsetD8Async(p, v, n, nullptr); }
API int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t n, void *) {
    LOCK; counts.uploads++; counts.uploaded += n;
    // Pageable memory would be read again at every launch of the graph, when it is long gone.
    if (int e = forbidden("a copy from host memory")) return e;
    if (!only_count) memcpy((void *)to, from, n);
    return OK;
}
API int cuMemcpyHtoD_v2(uintptr_t to, const void *from, size_t n) { return cuMemcpyHtoDAsync_v2(to, from, n, nullptr); }
API int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t n, void *) {
    LOCK; counts.waits++;
    if (int e = forbidden("a copy to host memory")) return e;
    if (only_count) memset(to, 0, n);
    else memcpy(to, (void *)from, n);
    return OK;
}
API int cuMemcpyDtoH_v2(void *to, uintptr_t from, size_t n) { return cuMemcpyDtoHAsync_v2(to, from, n, nullptr); }
API int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t n, void *) {
    LOCK; counts.copies++;
    return submit("copy", [=] { if (!only_count) memcpy((void *)to, (void *)from, n); });
}
API int cuMemcpyPeerAsync(uintptr_t to, void *, uintptr_t from, void *, size_t n, void *s) { return cuMemcpyDtoDAsync_v2(to, from, n, s); }
API int cuMemAdvise(uintptr_t, size_t, int, int) { return OK; }
API int cuMemPrefetchAsync(uintptr_t, size_t, int, void *) { return OK; }
API int cuMemAllocManaged(uintptr_t *p, size_t n, unsigned) { LOCK; return allocate(p, n); }

API int cuStreamCreate(void **s, unsigned) { static uintptr_t next = 16; *s = (void *)next++; return OK; }
API int cuStreamCreateWithPriority(void **s, unsigned f, int) { return cuStreamCreate(s, f); }
API int cuStreamDestroy_v2(void *) { return OK; }
API int cuStreamSynchronize(void *) { LOCK; counts.waits++; return forbidden("cuStreamSynchronize"); }
API int cuStreamWaitEvent(void *, void *, unsigned) { return OK; }
API int cuStreamAttachMemAsync(void *, uintptr_t, size_t, unsigned) { return OK; }
API int cuEventCreate(void **e, unsigned) { LOCK; static uintptr_t next = 16; *e = (void *)next++; return OK; }
API int cuEventDestroy_v2(void *) { return OK; }
API int cuEventRecord(void *, void *) { return OK; }
API int cuEventSynchronize(void *) { LOCK; counts.waits++; return forbidden("cuEventSynchronize"); }
API int cuEventQuery(void *) { return OK; }
API int cuEventElapsedTime_v2(float *t, void *, void *) { *t = 0; return OK; }
API int cuEventElapsedTime(float *t, void *, void *) { *t = 0; return OK; }

API int cuStreamBeginCapture_v2(void *, int) { LOCK; if (capturing) return CAPTURE_UNSUPPORTED; capturing = new Graph; invalid = false; return OK; }
API int cuStreamIsCapturing(void *, int *status) { LOCK; *status = capturing ? (invalid ? 2 : 1) : 0; return OK; }
API int cuStreamEndCapture(void *, void **graph) {
    LOCK;
    *graph = invalid ? nullptr : capturing;
    capturing = nullptr;
    if (!*graph) return CAPTURE_INVALIDATED;
    return OK;
}
API int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long) { *exec = graph; return OK; }
API int cuGraphInstantiate_v2(void **exec, void *graph, void *, char *, size_t) { *exec = graph; return OK; }
API int cuGraphUpload(void *, void *) { return OK; }
API int cuGraphLaunch(void *exec, void *) {
    LOCK;
    auto *graph = static_cast<Graph *>(exec);
    // What the graph allocates has no content when it starts.
    if (!only_count) for (void *own : graph->owned) memset(own, 0xff, memory[(uintptr_t)own].bytes);
    for (auto &node : graph->nodes) node.run();
    return OK;
}
API int cuGraphExecDestroy(void *) { return OK; }
API int cuGraphDestroy(void *) { return OK; } // what it owns is leaked: tensors may still name it

API int cuModuleLoadData(void **m, const void *) { *m = new Module; return OK; }
API int cuModuleLoadDataEx(void **m, const void *, unsigned, void *, void *) { *m = new Module; return OK; }
API int cuModuleLoad(void **m, const char *) { *m = new Module; return OK; }
API int cuModuleUnload(void *) { return OK; }
API int cuModuleGetFunction(void **f, void *m, const char *name) {
    LOCK;
    Function *&own = static_cast<Module *>(m)->functions[name];
    if (!own) {
        auto found = gpu::table().find(name);
        own = new Function{name, found == gpu::table().end() ? nullptr : &found->second};
    }
    *f = own;
    return OK;
}
API int cuModuleGetGlobal_v2(uintptr_t *, size_t *, void *, const char *) { return NOT_FOUND; }
API int cuFuncSetAttribute(void *, int, int) { return OK; }
API int cuFuncGetAttribute(int *v, int, void *) { *v = 0; return OK; }
API int cuFuncSetCacheConfig(void *, int) { return OK; }
API int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *, void **arguments, void **) {
    LOCK; return launch(static_cast<Function *>(f), dim3(gx, gy, gz), dim3(bx, by, bz), shared, arguments, false);
}
API int cuLaunchCooperativeKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *, void **arguments) {
    LOCK; return launch(static_cast<Function *>(f), dim3(gx, gy, gz), dim3(bx, by, bz), shared, arguments, true);
}

API int cublasCreate_v2(void **h) { *h = (void *)1; return OK; }
API int cublasDestroy_v2(void *) { return OK; }
API int cublasSetStream_v2(void *, void *) { return OK; }
API int cublasSetWorkspace_v2(void *, void *, size_t) { return OK; }
API int cublasSetMathMode(void *, int) { return OK; }
API int cublasSetPointerMode_v2(void *, int) { return OK; }
API int cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, long long sa, const void *b, int bt, int ldb, long long sb, const void *beta, void *c, int ct, int ldc, long long sc, int batch, int, int) {
    LOCK; return gemm(ta, tb, m, n, k, *(const float *)alpha, a, at, lda, sa, b, bt, ldb, sb, *(const float *)beta, c, ct, ldc, sc, batch);
}
API int cublasGemmEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, const void *b, int bt, int ldb, const void *beta, void *c, int ct, int ldc, int, int) {
    LOCK; return gemm(ta, tb, m, n, k, *(const float *)alpha, a, at, lda, 0, b, bt, ldb, 0, *(const float *)beta, c, ct, ldc, 0, 1);
}
API int curandCreateGenerator(void **g, int) { *g = (void *)1; return OK; }
API int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return OK; }
API int curandSetStream(void *, void *) { return OK; }
API int curandDestroyGenerator(void *) { return OK; }
