//! Ctrl-C: whole files or none, and a word on how to go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use clip_train::Stop;

/// What Ctrl-C does.
enum Answer {
    /// Ends the process, and tells how to go on.
    End(&'static str),
    /// Asks a run to make a checkpoint and end; a second time ends the process.
    Ask(Stop),
}

static ANSWER: Mutex<Answer> = Mutex::new(Answer::End("nothing was written; run the command again"));

static HEARD: AtomicBool = AtomicBool::new(false);

/// The exit status of a command that ended early because it was asked to: what shells say of a process ended by Ctrl-C.
pub(super) const STATUS: u8 = 130;

/// Whether a signal was heard.
pub(super) fn heard() -> bool {
    HEARD.load(Ordering::Relaxed)
}

/// From now on Ctrl-C asks for a stop, where work in progress can end at a good place.
pub(super) fn ask(stop: Stop) {
    set(Answer::Ask(stop));
}

/// From now on Ctrl-C ends the process and tells to go on like this.
pub(super) fn say(how: &'static str) {
    set(Answer::End(how));
}

fn set(answer: Answer) {
    // An answer is whole whatever happened to another holder.
    *ANSWER.lock().unwrap_or_else(PoisonError::into_inner) = answer;
}

/// Answers Ctrl-C, and being asked to end (SIGTERM, SIGHUP), for as long as the process lives.
#[cfg(unix)]
pub(super) fn listen() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    // Without a listener these end the process as they always do; only hidden files may stay behind.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if ends() {
                clip_data::discard_pending();
                // As if nobody had listened: whoever waits for this process sees which signal ended it.
                signal_hook::low_level::emulate_default_handler(signal).ok();
            }
        }
    });
}

#[cfg(not(unix))]
pub(super) fn listen() {}

/// Hears one signal; says whether the process is to end now.
#[cfg(unix)]
fn ends() -> bool {
    use super::args::note;
    HEARD.store(true, Ordering::Relaxed);
    let mut answer = ANSWER.lock().unwrap_or_else(PoisonError::into_inner);
    match &*answer {
        Answer::End(how) => {
            note(&format!("interrupted: {how}"));
            true
        }
        Answer::Ask(stop) => {
            stop.ask();
            note("stopping behind this step, with a checkpoint; once more ends at once");
            *answer = Answer::End("the newest checkpoint is whole; resume the run to go on from it");
            false
        }
    }
}
