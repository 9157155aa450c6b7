//! What every fuzzer shares: the corpus is replayed, then inputs are made until the time is up; no input may cause a
//! panic, take long, or need much memory. An input that fails is made smaller and written into the corpus.
//! What is right beyond that is the subject's to say.

pub mod memory;
mod watch;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRng, TestRunner};

use watch::Watch;

/// Time that a subject gets if `RUNNER_FUZZ_SECONDS` says nothing; all subjects together then take about a minute.
const SECONDS: Duration = Duration::from_secs(7);
/// No input may take more of the processor's time: how long that is by the clock depends on what else the machine does.
const LONGEST: Duration = Duration::from_secs(20);
/// By the clock, an input that takes longer has not ended at all.
const ENDLESS: Duration = Duration::from_secs(180);
/// No input may need more memory beyond what there was before.
const MOST_MEMORY: usize = 1 << 30;

/// Subjects take turns, so that time and memory are those of one.
static TURN: Mutex<()> = Mutex::new(());

/// Judges the inputs of a subject: first those of `tests/fuzz/corpus/SUBJECT`, then what the strategy makes.
///
/// # Panics
/// At an input that the judge finds wrong, or that panics, or that costs too much.
#[track_caller]
pub fn fuzz(
    subject: &str,
    strategy: impl Strategy<Value = Vec<u8>>,
    judge: impl Fn(&[u8]) -> Result<(), String>,
) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::new(subject, &judge);
    let replayed = bench.replay();
    let (start, limit) = (Instant::now(), limit());
    let mut runner = runner(limit.is_some());
    let limit = limit.unwrap_or(SECONDS);
    let mut made = 0_u64;
    while start.elapsed() < limit {
        let tree = strategy
            .new_tree(&mut runner)
            .expect("the strategy makes an input");
        made += 1;
        let outcome = runner.run_one(tree, |input| {
            bench.judge(&input).map_err(TestCaseError::fail)
        });
        if let Err(TestError::Fail(why, input)) = outcome {
            bench.fail(&input, &format!("input {made}: {why}"));
        }
    }
    drop(bench);
    println!(
        "{subject}: {replayed} of the corpus and {made} new inputs in {:.1} s",
        start.elapsed().as_secs_f64()
    );
}

/// Whoever asks for time wants inputs that nobody has tried. Everybody else gets the same ones each time: a change is not to
/// blame for what chance finds.
fn runner(by_chance: bool) -> TestRunner {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 4096,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    if by_chance {
        return TestRunner::new(config);
    }
    let random = TestRng::deterministic_rng(config.rng_algorithm);
    TestRunner::new_with_rng(config, random)
}

/// What all threads of this process have taken of the processor so far.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// The time that was asked for.
fn limit() -> Option<Duration> {
    let said = std::env::var("RUNNER_FUZZ_SECONDS").ok()?;
    let seconds = said
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Some(seconds.expect("RUNNER_FUZZ_SECONDS is a number of seconds"))
}

/// Where the inputs of a subject are judged.
struct Bench<'a, J> {
    subject: &'a str,
    judge: &'a J,
    corpus: PathBuf,
    /// The input that is being judged. It outlives a process that aborts, and is then judged first.
    current: PathBuf,
    watch: Watch,
}

impl<'a, J: Fn(&[u8]) -> Result<(), String>> Bench<'a, J> {
    fn new(subject: &'a str, judge: &'a J) -> Self {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzz/corpus")
            .join(subject);
        fs::create_dir_all(&corpus).expect("the corpus can be written");
        let current = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{subject}"));
        let watch = Watch::start(
            format!("{subject}: an input has not ended, {}", current.display()),
            ENDLESS,
        );
        Self {
            subject,
            judge,
            corpus,
            current,
            watch,
        }
    }

    /// Judges what aborted the last time, and the corpus. Gives the number of inputs.
    #[track_caller]
    fn replay(&self) -> usize {
        let entries = fs::read_dir(&self.corpus).expect("the corpus can be read");
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("the corpus can be read").path())
            .collect();
        paths.sort();
        if self.current.exists() {
            println!(
                "{}: the last run ended with the input {}",
                self.subject,
                self.current.display()
            );
            paths.insert(0, self.current.clone());
        }
        for path in &paths {
            let input = fs::read(path).expect("the corpus can be read");
            if let Err(why) = self.judge(&input) {
                panic!("{}: {}: {why}", self.subject, path.display());
            }
        }
        paths.len()
    }

    fn judge(&self, input: &[u8]) -> Result<(), String> {
        fs::write(&self.current, input).expect("the current input can be kept");
        let (start, before) = (processor_time(), memory::restart_peak());
        self.watch.begin();
        let verdict = catch_unwind(AssertUnwindSafe(|| (self.judge)(input)));
        self.watch.end();
        verdict.unwrap_or_else(|panic| Err(format!("a panic: {}", said(panic.as_ref()))))?;
        let (took, needed) = (
            processor_time().saturating_sub(start),
            memory::peak().saturating_sub(before),
        );
        if took > LONGEST {
            return Err(format!("it took {:.1} s", took.as_secs_f64()));
        }
        if needed > MOST_MEMORY {
            return Err(format!("it needed {} MiB of memory", needed >> 20));
        }
        Ok(())
    }

    /// Writes the input into the corpus, and ends the test.
    #[track_caller]
    fn fail(&self, input: &[u8], why: &str) -> ! {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let path = self.corpus.join(format!("{:016x}", hasher.finish()));
        fs::write(&path, input).expect("the corpus can be written");
        let text: String = String::from_utf8_lossy(input).chars().take(2000).collect();
        panic!(
            "{}: {why}\nThe input is kept in {}:\n{text}",
            self.subject,
            path.display()
        );
    }
}

impl<J> Drop for Bench<'_, J> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.current);
    }
}

/// What a panic says.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
