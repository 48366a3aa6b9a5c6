//! The terminal that a dashboard is shown on: whether there is one, and what to do when it is closed.

use std::error::Error;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use burn::train::{Interrupter, LearnerSummary};

use super::dashboard::{LineRenderer, LogFn, plain_line};

/// Name of the thread on which burn draws.
const RENDERER: &str = "train-renderer";
/// Time between two looks at whether the terminal is still there.
const LOOK: Duration = Duration::from_secs(1);
/// Whether standard error was a terminal when a dashboard was begun.
static STDERR_WAS_TERMINAL: AtomicBool = AtomicBool::new(false);

/// Whether the terminal shows lines and nothing else, as those inside of editors do.
pub fn is_dumb() -> bool {
    is_dumb_name(std::env::var("TERM").ok().as_deref())
}

fn is_dumb_name(term: Option<&str>) -> bool {
    match term {
        Some(name) => name.is_empty() || name == "dumb",
        None => cfg!(unix),
    }
}

/// Whether a dashboard is wanted where nobody asked for one: its colors are its greater part.
pub fn wants_colors() -> bool {
    // https://no-color.org
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether a dashboard can be shown: standard output is a terminal, which can do it, and which is this program's to change.
pub fn can_draw() -> bool {
    std::io::stdout().is_terminal() && !is_dumb() && is_foreground() && has_modes()
}

/// Whether a terminal's modes can be read; without them raw mode would fail.
#[cfg(unix)]
fn has_modes() -> bool {
    terminal().is_some_and(|terminal| rustix::termios::tcgetattr(terminal).is_ok())
}

#[cfg(not(unix))]
fn has_modes() -> bool {
    true
}

/// The terminal that the program is controlled from, whatever its standard input is.
#[cfg(unix)]
fn terminal() -> Option<std::fs::File> {
    std::fs::File::open("/dev/tty").ok()
}

/// Changing the modes of a terminal from its background would stop the program.
fn is_foreground() -> bool {
    // Where the system tells nothing, as Linux does here, it is taken for one.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    parse_foreground(&stat).unwrap_or(true)
}

/// Whether the group of processes (field 5) is the terminal's (field 8). The name in field 2 may hold anything.
fn parse_foreground(stat: &str) -> Option<bool> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(2);
    let group: i32 = fields.next()?.parse().ok()?;
    let terminal: i32 = fields.nth(2)?.parse().ok()?;
    Some(group == terminal)
}

/// The dashboard's raw mode would swallow Ctrl-C; a run must be stoppable by it as anywhere else.
#[cfg(unix)]
fn keep_interrupt_key() {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let Some(terminal) = terminal() else {
        return;
    };
    // The dashboard switches the mode on a thread of its own: wait until it has.
    for _ in 0..100 {
        let Ok(mut attributes) = tcgetattr(&terminal) else {
            return;
        };
        if !attributes.local_modes.contains(LocalModes::ISIG) {
            attributes.local_modes |= LocalModes::ISIG;
            let _ = tcsetattr(&terminal, OptionalActions::Now, &attributes);
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(not(unix))]
fn keep_interrupt_key() {}

/// burn's renderer ends with a panic when the terminal it drew on is gone: nothing to tell anybody. While it unwinds, ratatui
/// prints to standard error, and where that was the same terminal, a second panic would end the program.
fn expect_hang_up() {
    static ONCE: Once = Once::new();
    STDERR_WAS_TERMINAL.store(std::io::stderr().is_terminal(), Ordering::Relaxed);
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let draws = std::thread::current().name() == Some(RENDERER);
            if draws && !std::io::stdout().is_terminal() {
                forget_closed_stderr();
            } else {
                before(panic);
            }
        }));
    });
}

/// Has what is printed to a terminal that was closed go nowhere.
fn forget_closed_stderr() {
    let was_terminal = STDERR_WAS_TERMINAL.load(Ordering::Relaxed);
    if was_terminal && !std::io::stderr().is_terminal() {
        #[cfg(unix)]
        if let Ok(nowhere) = std::fs::File::options().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stderr(nowhere);
        }
    }
}

/// burn's dashboard for as long as there is a terminal, and plain lines from then on.
pub struct Screen {
    dashboard: Option<TuiMetricsRendererWrapper>,
    lines: LineRenderer,
    /// Whether lines are reported.
    shows_lines: Arc<AtomicBool>,
    looked: Instant,
}

impl Screen {
    /// Begins to draw; [`can_draw`] must have said that it can.
    pub fn new(interrupter: Interrupter, report: LogFn) -> Self {
        expect_hang_up();
        let dashboard = TuiMetricsRendererWrapper::new(interrupter, None);
        keep_interrupt_key();
        let shows_lines = Arc::new(AtomicBool::new(false));
        let shows = shows_lines.clone();
        let report: LogFn = Arc::new(move |line| {
            if shows.load(Ordering::Relaxed) {
                report(line);
            }
        });
        Self {
            dashboard: Some(dashboard),
            lines: LineRenderer::new(report, plain_line),
            shows_lines,
            looked: Instant::now(),
        }
    }

    /// Changes over to lines once the terminal is closed.
    fn look(&mut self) {
        if self.dashboard.is_none() || self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if !std::io::stdout().is_terminal() {
            self.dashboard = None;
            self.shows_lines.store(true, Ordering::Relaxed);
        }
    }

    fn both(&mut self, tell: impl Fn(&mut dyn MetricsRenderer)) {
        self.look();
        if let Some(dashboard) = &mut self.dashboard {
            tell(dashboard);
        }
        tell(&mut self.lines);
    }
}

impl MetricsRenderer for Screen {
    fn manual_close(&mut self) {
        self.both(|renderer| renderer.manual_close());
    }

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.both(|renderer| renderer.register_metric(definition.clone()));
    }
}

impl MetricsRendererTraining for Screen {
    fn update_train(&mut self, state: MetricState) {
        self.look();
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.update_train(copy(&state));
        }
        self.lines.update_train(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.look();
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.update_valid(copy(&state));
        }
        self.lines.update_valid(state);
    }

    fn on_train_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn Error>> {
        self.look();
        match &mut self.dashboard {
            Some(dashboard) => dashboard.on_train_end(summary),
            None => Ok(()),
        }
    }
}

fn copy(state: &MetricState) -> MetricState {
    match state {
        MetricState::Generic(entry) => MetricState::Generic(entry.clone()),
        MetricState::Numeric(entry, value) => MetricState::Numeric(entry.clone(), value.clone()),
    }
}

impl TrainingProgressLogger for Screen {
    fn start(
        &mut self,
        total_epochs: usize,
        starting_epoch: usize,
        total_items: Option<usize>,
        label: Option<&str>,
    ) {
        self.both(|renderer| renderer.start(total_epochs, starting_epoch, total_items, label));
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        self.both(|renderer| renderer.start_split(split, total_items));
    }

    fn update_split(&mut self, items_processed: usize) {
        self.both(|renderer| renderer.update_split(items_processed));
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.both(|renderer| renderer.update_epoch(epoch));
    }

    fn end_split(&mut self) {
        self.both(|renderer| renderer.end_split());
    }

    fn end(&mut self) {
        self.both(|renderer| renderer.end());
    }

    fn log_event_training(&mut self, event: String) {
        self.both(|renderer| renderer.log_event_training(event.clone()));
    }
}

// burn asks one type for training and evaluation; nothing here evaluates through burn.
impl MetricsRendererEvaluation for Screen {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl EvaluationProgressLogger for Screen {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_says_it_is_dumb_or_says_nothing_gets_lines() {
        assert!(is_dumb_name(Some("dumb")) && is_dumb_name(Some("")));
        assert!(!is_dumb_name(Some("xterm-256color")));
    }

    #[test]
    fn the_foreground_is_told_by_the_groups_of_processes() {
        let stat = |group: i32, terminal: i32| {
            format!("7 (a) name)) S 1 {group} 7 34816 {terminal} 4194304 0")
        };
        assert_eq!(parse_foreground(&stat(7, 7)), Some(true));
        assert_eq!(parse_foreground(&stat(7, 5)), Some(false));
        assert_eq!(parse_foreground(""), None);
    }
}
