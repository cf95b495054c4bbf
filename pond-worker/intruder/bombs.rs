//! Acts that take more than there is to be had. Each has an end, so that it may be tried outside too.

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use crate::{Outcome, sys, told};

fn number(text: &str) -> usize {
    text.parse().unwrap_or(0)
}

/// What was taken is held for as long as whoever watches over it may take to look.
fn hold() {
    std::thread::sleep(Duration::from_millis(2500));
}

fn got(all: usize, got: usize, error: &str) -> Outcome {
    if got >= all { Outcome::Out(format!("all {all}")) } else { Outcome::Held(format!("{got} of {all}: {error}")) }
}

pub(crate) fn forks(count: &str) -> Outcome {
    let (count, mut made) = (number(count), Vec::new());
    let mut why = String::new();
    for _ in 0..count {
        match sys::fork() {
            Ok(0) => {
                sys::alarm(10);
                loop {
                    std::thread::sleep(Duration::from_secs(60));
                }
            }
            Ok(child) => made.push(child),
            Err(error) => {
                why = told(&error);
                break;
            }
        }
    }
    if made.len() == count {
        hold();
    }
    for child in &made {
        sys::kill(*child, 9);
    }
    got(count, made.len(), &why)
}

pub(crate) fn threads(count: &str) -> Outcome {
    let count = number(count);
    for made in 0..count {
        let thread = std::thread::Builder::new().stack_size(65536);
        if let Err(error) = thread.spawn(|| std::thread::sleep(Duration::from_secs(60))) {
            return got(count, made, &told(&error));
        }
    }
    hold();
    got(count, count, "")
}

/// Writes to every page.
fn touch(memory: &mut [u8]) {
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
}

/// In a process of its own: the kernel ends whoever has most.
fn in_child(act: impl FnOnce() -> Outcome) -> Outcome {
    match sys::fork() {
        Ok(0) => std::process::exit(i32::from(matches!(act(), Outcome::Held(_)))),
        Ok(child) => match sys::wait(child) {
            None => Outcome::Out("all of it".into()),
            Some(how) => Outcome::Held(how),
        },
        Err(error) => Outcome::Held(told(&error)),
    }
}

pub(crate) fn memory(mib: &str) -> Outcome {
    let mib = number(mib);
    in_child(|| {
        let mut held = Vec::new();
        for _ in 0..mib {
            let mut block = Vec::new();
            if block.try_reserve_exact(1 << 20).is_err() {
                return Outcome::Held("no memory".into());
            }
            block.resize(1 << 20, 0u8);
            touch(&mut block);
            held.push(std::hint::black_box(block));
        }
        hold();
        Outcome::Out("all".into())
    })
}

/// Shared, so that it belongs to no process alone.
pub(crate) fn map(mib: &str) -> Outcome {
    let mib = number(mib);
    in_child(|| match sys::map(mib << 20, 0x21, -1) {
        Ok(memory) => {
            touch(memory);
            hold();
            Outcome::Out("all".into())
        }
        Err(error) => Outcome::Held(told(&error)),
    })
}

pub(crate) fn memfd(mib: &str) -> Outcome {
    let mib = number(mib);
    in_child(|| {
        let written = sys::memory_file().and_then(|fd| {
            let (mut file, block) = (File::from(fd), vec![1; 1 << 20]);
            (0..mib).try_for_each(|_| file.write_all(&block))?;
            hold();
            Ok::<_, std::io::Error>(())
        });
        written.map_or_else(|error| Outcome::Held(told(&error)), |()| Outcome::Out("all".into()))
    })
}

pub(crate) fn shm(mib: &str) -> Outcome {
    let mib = number(mib);
    in_child(|| match sys::shared(0, mib << 20, 0o1600) {
        Ok((id, memory)) => {
            // Goes with this process, whatever ends it.
            sys::unshared(id);
            touch(memory);
            hold();
            Outcome::Out("all".into())
        }
        Err(error) => Outcome::Held(told(&error)),
    })
}

pub(crate) fn fill(path: &str, mib: &str) -> Outcome {
    let (mib, block) = (number(mib), vec![7; 1 << 20]);
    let mut written = 0;
    let ended = File::create(path).and_then(|mut file| {
        (0..mib).try_for_each(|_| file.write_all(&block).inspect(|()| written += 1))
    });
    let _ = fs::remove_file(path);
    got(mib, written, &ended.err().map_or_else(String::new, |error| told(&error)))
}

/// A file with nothing in it but its length.
pub(crate) fn large_file(path: &str, gib: &str) -> Outcome {
    let length = (number(gib) as u64) << 30;
    // A signal would end this before it could tell.
    let grown = in_child(|| match File::create(path).and_then(|file| file.set_len(length)) {
        Ok(()) => Outcome::Out("grown".into()),
        Err(error) => Outcome::Held(told(&error)),
    });
    let _ = fs::remove_file(path);
    grown
}

pub(crate) fn fds(count: &str) -> Outcome {
    let (count, mut held) = (number(count), Vec::new());
    while held.len() < count {
        match File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(error) => return got(count, held.len(), &told(&error)),
        }
    }
    got(count, count, "")
}

/// Writes to a stream that is read slowly or not at all; how far it came stands in a file.
pub(crate) fn flood(path: &str, mib: &str) -> Outcome {
    let block = vec![b'\n'; 1 << 20];
    for written in 0..number(mib) {
        if std::io::stderr().write_all(&block).is_err() {
            return Outcome::Held("the stream is closed".into());
        }
        let _ = fs::write(path, (written + 1).to_string());
    }
    Outcome::Out("all of it".into())
}
