//! Ends programs whose runner is gone. A runner that is killed cannot end anything any more, so a small shell waits for the
//! end of a pipe that only the runner holds, and ends the process groups that were under way.
//!
//! A signal that the kernel sends to a child when its parent dies (`PR_SET_PDEATHSIG`) would reach the program but not what
//! the program started, and it goes by the thread that forked, not by the process.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use rustix::process::Pid;

/// Reads `+ GROUP` and `- GROUP`; at the end of its input it ends the groups that are left.
const SCRIPT: &str = r#"trap '' HUP INT TERM
groups=' '
while read -r what group; do
  case $what in
    +) groups="$groups$group " ;;
    -) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
case $groups in *[0-9]*) ;; *) exit ;; esac
for group in $groups; do kill -s TERM -- "-$group"; done
sleep 1
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

/// The shell and the groups that it knows. There is one for the whole process, from the first program on.
struct Watchdog {
    shell: Option<(Child, ChildStdin)>,
    groups: BTreeSet<i32>,
}

static WATCHDOG: Mutex<Watchdog> = Mutex::new(Watchdog { shell: None, groups: BTreeSet::new() });

/// A process group that ends with this process.
#[derive(Debug)]
pub(super) struct Watched(i32);

impl Watched {
    /// Starts the shell, if there is none yet, so that a program is watched as soon as it has started.
    pub fn prepare() {
        if let Ok(mut watchdog) = WATCHDOG.lock()
            && watchdog.shell.is_none()
        {
            watchdog.shell = start();
        }
    }

    /// Has a group watched. Without a shell on this machine it goes unwatched.
    pub fn new(group: Pid) -> Self {
        let group = group.as_raw_nonzero().get();
        if let Ok(mut watchdog) = WATCHDOG.lock() {
            watchdog.groups.insert(group);
            watchdog.tell(&format!("+ {group}\n"));
        }
        Self(group)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Ok(mut watchdog) = WATCHDOG.lock() {
            watchdog.groups.remove(&self.0);
            watchdog.tell(&format!("- {}\n", self.0));
        }
    }
}

impl Watchdog {
    fn tell(&mut self, line: &str) {
        if let Some((_, input)) = &mut self.shell
            && input.write_all(line.as_bytes()).is_ok()
        {
            return;
        }
        // It was not started yet, or somebody ended it.
        if let Some((mut old, _)) = self.shell.take() {
            let _ = old.wait();
        }
        if self.groups.is_empty() {
            return;
        }
        self.shell = start();
        let all: String = self.groups.iter().map(|group| format!("+ {group}\n")).collect();
        if let Some((_, input)) = &mut self.shell {
            let _ = input.write_all(all.as_bytes());
        }
    }
}

fn start() -> Option<(Child, ChildStdin)> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", SCRIPT, "runner-watchdog"]).current_dir("/");
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: what is typed at the terminal, or its end, is not meant for it.
    let mut child = shell.process_group(0).spawn().ok()?;
    let input = child.stdin.take()?;
    Some((child, input))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sh").args(["-c", "sleep 300 & wait"]).process_group(0).spawn().unwrap()
    }

    #[test]
    fn groups_that_are_left_end_with_the_pipe() {
        let (mut shell, mut input) = start().unwrap();
        let mut children = [sleeper(), sleeper(), sleeper()];
        for child in &children {
            input.write_all(format!("+ {}\n", child.id()).as_bytes()).unwrap();
        }
        input.write_all(format!("- {}\n", children[1].id()).as_bytes()).unwrap();
        drop(input);
        shell.wait().unwrap();
        let start = Instant::now();
        for index in [0, 2] {
            while children[index].try_wait().unwrap().is_none() {
                assert!(start.elapsed() < Duration::from_secs(60), "a group outlived the pipe");
                std::thread::sleep(Duration::from_millis(5));
            }
            let group = Pid::from_child(&children[index]);
            while rustix::process::test_kill_process_group(group).is_ok() {
                assert!(start.elapsed() < Duration::from_secs(60), "a member of a group outlived the pipe");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(children[1].try_wait().unwrap().is_none(), "a group that was taken back has ended");
        rustix::process::kill_process_group(Pid::from_child(&children[1]), rustix::process::Signal::KILL).unwrap();
        children[1].wait().unwrap();
    }
}
