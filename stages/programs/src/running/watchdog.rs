//! Ends programs whose runner is gone. A runner that is killed cannot end anything any more, so a small shell waits for the
//! end of a pipe that only the runner holds, and ends the process groups that were under way, and what has left them for
//! another session but is still in the folder of its program.
//!
//! A signal that the kernel sends to a child when its parent dies (`PR_SET_PDEATHSIG`) would reach the program but not what
//! the program started, and it goes by the thread that forked, not by the process.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use rustix::process::Pid;

/// Reads `@ NUMBER FOLDER` for a program that is about to start in a folder, `+ NUMBER GROUP` once it has, and `- NUMBER` when
/// nothing is left of it. At the end of its input it ends the groups that are left, and whatever else is at work in one
/// of the folders.
const SCRIPT: &str = r#"trap '' HUP INT TERM
line='
'
folders=$line
groups=$line
without() { # LIST NUMBER: the list without the line of this number
  case $1 in
    *"$line$2 "*) rest=${1#*"$line$2 "}; list="${1%%"$line$2 "*}$line${rest#*"$line"}" ;;
    *) list=$1 ;;
  esac
}
while read -r what number name; do
  case $what in
    @) folders="$folders$number $name$line" ;;
    +) groups="$groups$number $name$line" ;;
    -) without "$folders" "$number"; folders=$list; without "$groups" "$number"; groups=$list ;;
  esac
done
[ "$folders" = "$line" ] && exit
session_and_terminal() { # PROCESS
  read -r stat < "/proc/$1/stat" || stat=
  set -- ${stat##*) }
  session=$4 terminal=$5
}
session_and_terminal $$
own=$session
send() { # SIGNAL
  printf '%s' "$groups" | while read -r number group; do
    [ -z "$group" ] || kill -s "$1" -- "-$group"
  done
  for process in /proc/[0-9]*; do
    place=$(readlink "$process/cwd") || continue
    session_and_terminal "${process#/proc/}"
    # Somebody who looks around in the folder from another terminal.
    [ "$session" = "$own" ] || [ "${terminal:-0}" = 0 ] || continue
    printf '%s' "$folders" | while read -r number folder; do
      [ -n "$folder" ] || continue
      case $place in "$folder" | "$folder"/* | "$folder (deleted)") kill -s "$1" -- "${process#/proc/}" ;; esac
    done
  done
}
send TERM
sleep 1
send KILL
"#;

/// What the shell knows of one program.
#[derive(Clone, Debug)]
struct Entry {
    folder: String,
    group: Option<i32>,
}

/// The shell and what it knows. There is one for the whole process, from the first program on.
struct Watchdog {
    shell: Option<(Child, ChildStdin)>,
    programs: BTreeMap<u64, Entry>,
    last: u64,
}

static WATCHDOG: Mutex<Watchdog> = Mutex::new(Watchdog {
    shell: None,
    programs: BTreeMap::new(),
    last: 0,
});

/// A program that ends with this process.
#[derive(Debug)]
pub(super) struct Watched(u64);

impl Watched {
    /// Has a folder watched in which a program is about to start. Without a shell on this machine it goes unwatched.
    pub fn new(folder: &Path) -> Self {
        let Ok(mut watchdog) = WATCHDOG.lock() else {
            return Self(0);
        };
        watchdog.last += 1;
        let number = watchdog.last;
        // The shell reads lines, so a path with a line break goes unwatched; the group is watched all the same.
        let folder = folder.to_str().unwrap_or_default();
        let folder = if folder.contains('\n') { "" } else { folder };
        let entry = Entry {
            folder: folder.to_owned(),
            group: None,
        };
        let lines = entry.lines(number);
        watchdog.programs.insert(number, entry);
        watchdog.tell(&lines);
        Self(number)
    }

    /// The program has started, as the first of a process group.
    pub fn begin(&mut self, group: Pid) {
        let Ok(mut watchdog) = WATCHDOG.lock() else {
            return;
        };
        let group = group.as_raw_nonzero().get();
        if let Some(entry) = watchdog.programs.get_mut(&self.0) {
            entry.group = Some(group);
        }
        watchdog.tell(&format!("+ {} {group}\n", self.0));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Told at once: the kernel gives the number of the group to others before long.
        if let Ok(mut watchdog) = WATCHDOG.lock() {
            watchdog.programs.remove(&self.0);
            watchdog.tell(&format!("- {}\n", self.0));
        }
    }
}

impl Entry {
    fn lines(&self, number: u64) -> String {
        let mut lines = format!("@ {number} {}\n", self.folder);
        if let Some(group) = self.group {
            lines.push_str(&format!("+ {number} {group}\n"));
        }
        lines
    }
}

impl Watchdog {
    fn tell(&mut self, line: &str) {
        if let Some((_, input)) = &mut self.shell
            && input.write_all(line.as_bytes()).is_ok()
        {
            return;
        }
        // It was not started yet, or somebody ended it. A new one is told everything: it knows nothing.
        if let Some((mut old, _)) = self.shell.take() {
            let _ = old.wait();
        }
        if self.programs.is_empty() {
            return;
        }
        self.shell = start();
        if let Some((_, input)) = &mut self.shell {
            for (number, entry) in &self.programs {
                let _ = input.write_all(entry.lines(*number).as_bytes());
            }
        }
    }
}

fn start() -> Option<(Child, ChildStdin)> {
    // By its whole path, since PATH is the user's; in the root, so that it keeps no folder busy; with none of our streams,
    // whose readers would wait for it.
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", SCRIPT, "runner-watchdog"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Its own group: what is typed at the terminal, or its end, is not meant for it.
    let mut child = shell.process_group(0).spawn().ok()?;
    let input = child.stdin.take()?;
    Some((child, input))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sh")
            .args(["-c", "sleep 300 & wait"])
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn groups_that_are_left_end_with_the_pipe() {
        let (mut shell, mut input) = start().unwrap();
        let mut children = [sleeper(), sleeper(), sleeper()];
        for (number, child) in children.iter().enumerate() {
            input
                .write_all(format!("@ {number} /nowhere\n+ {number} {}\n", child.id()).as_bytes())
                .unwrap();
        }
        input.write_all(b"- 1\n- 7\n").unwrap();
        drop(input);
        shell.wait().unwrap();
        for index in [0, 2] {
            wait_until("a group outlived the pipe", || {
                children[index].try_wait().unwrap().is_some()
            });
            let group = Pid::from_child(&children[index]);
            let is_gone = || rustix::process::test_kill_process_group(group).is_err();
            wait_until("a member of a group outlived the pipe", is_gone);
        }
        assert!(
            children[1].try_wait().unwrap().is_none(),
            "a group that was taken back has ended"
        );
        rustix::process::kill_process_group(
            Pid::from_child(&children[1]),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        children[1].wait().unwrap();
    }

    /// A program that was about to start may be under way, and what it started may be in another group.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_at_work_in_a_folder_ends_with_the_pipe() {
        let top = tempfile::tempdir().unwrap();
        let folders = ["a stage", "another", "a stage beside"]
            .map(|name| top.path().canonicalize().unwrap().join(name));
        let begin = |folder: &Path| {
            std::fs::create_dir_all(folder.join("in")).unwrap();
            let mut command = Command::new("sleep");
            command
                .arg("300")
                .current_dir(folder.join("in"))
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let mut children = folders.each_ref().map(|folder| begin(folder));
        let (mut shell, mut input) = start().unwrap();
        for (number, folder) in folders[..2].iter().enumerate() {
            input
                .write_all(format!("@ {number} {}\n", folder.display()).as_bytes())
                .unwrap();
        }
        input.write_all(b"- 1\n").unwrap();
        drop(input);
        shell.wait().unwrap();
        wait_until("it outlived the pipe", || {
            children[0].try_wait().unwrap().is_some()
        });
        for child in &mut children[1..] {
            assert!(
                child.try_wait().unwrap().is_none(),
                "its folder is not watched any more, or never was"
            );
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
