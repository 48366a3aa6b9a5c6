//! `clipcap serve`

mod log;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::error::ErrorKind;
use clipcap::captioner::Search;
use clipcap::decode::Strategy;
use clipcap::guard;
use clipcap::serve::{Deadlines, Limits, Listening, Model, Service, ServiceConfig, check_origins};

use self::log::{LogFormat, Logger};
use super::common::{TruncatedArg, interruptible, usage, valid};
use super::decoding::DecodeArgs;
use super::model::{ModelArgs, name};

const MEGABYTE: usize = 1024 * 1024;
/// Bodies that may be in memory at a time, as a multiple of the largest.
const HELD_BODIES: usize = 4;

/// Caption images over HTTP, and on a page to drop them on
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    clipcap serve --decode beam --num-captions 3\n  \
    curl --data-binary @photo.jpg http://127.0.0.1:8080/caption\n  \
    curl -F image=@a.jpg -F image=@b.jpg -F num_captions=2 -F decode=beam http://127.0.0.1:8080/caption\n\n\
    All requests are described at http://127.0.0.1:8080/openapi.json.")]
pub struct ServeArgs {
    /// Address or host name to listen on; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one, which is printed
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Largest image file, in megabytes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = megabytes)]
    max_size: usize,
    /// Largest request as a form or JSON, in megabytes [default: 64, or twice --max-size]
    #[arg(long, value_name = "N", value_parser = megabytes)]
    max_request: Option<usize>,
    /// Most images in one request
    #[arg(long, value_name = "N", default_value = "64")]
    max_images: NonZeroUsize,
    /// Images that may wait; further ones are answered 503 and Retry-After
    #[arg(long, value_name = "N", default_value = "128")]
    queue: NonZeroUsize,
    /// Connections at a time; silent ones make room [default: 512, or four times --queue]
    #[arg(long, value_name = "N")]
    max_connections: Option<NonZeroUsize>,
    /// Seconds for a request's head to come whole
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds)]
    head_timeout: u64,
    /// Seconds for a request's body to come whole
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds)]
    body_timeout: u64,
    /// Let pages of this origin ask, such as https://example.org; * is all; repeatable
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Ask for one of the bearer tokens in this file, one a line
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What is written to standard error about each request
    #[arg(long, value_enum, default_value = "text")]
    log: LogFormat,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    truncated: TruncatedArg,
    #[command(flatten)]
    decoding: DecodeArgs,
}

/// How much a request may ask for.
#[derive(Args)]
#[command(next_help_heading = "Limits of what a request may choose")]
struct LimitArgs {
    /// Largest num_captions [default: 10, or --num-captions]
    #[arg(long, value_name = "N")]
    limit_captions: Option<NonZeroUsize>,
    /// Largest beam_size [default: 10, or --beam-size]
    #[arg(long, value_name = "N")]
    limit_beam_size: Option<NonZeroUsize>,
    /// Largest max_length in tokens [default: 67, or --max-length]
    #[arg(long, value_name = "N")]
    limit_length: Option<NonZeroUsize>,
    /// Longest prompt in tokens
    #[arg(long, value_name = "N", default_value_t = Limits::default().prompt)]
    limit_prompt: usize,
}

fn megabytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(megabytes @ 1..=1024) => Ok(megabytes),
        _ => Err("give a whole number from 1 to 1024".to_string()),
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(seconds @ 1..=86400) => Ok(seconds),
        _ => Err("give a whole number from 1 to 86400".to_string()),
    }
}

impl LimitArgs {
    /// The limits, which the service's own settings keep to. Flags that contradict each other end
    /// the program.
    fn resolve(&self, own: &Search) -> Limits {
        let standard = Limits::default();
        let limit = |flag: &str, limit: Option<NonZeroUsize>, standard: usize, own: usize| {
            let Some(limit) = limit.map(NonZeroUsize::get) else {
                return standard.max(own);
            };
            if limit < own {
                usage(
                    ErrorKind::ArgumentConflict,
                    &format!("{flag} {limit} is less than what the service gives by itself, {own}"),
                );
            }
            limit
        };
        let own_beams = match own.decode.strategy {
            Strategy::Beam { .. } | Strategy::HfBeam(_) => own.decode.strategy.found(),
            Strategy::Greedy | Strategy::Sample(_) => 1,
        };
        Limits {
            num_captions: limit(
                "--limit-captions",
                self.limit_captions,
                standard.num_captions,
                own.num_captions,
            ),
            beam_size: limit(
                "--limit-beam-size",
                self.limit_beam_size,
                standard.beam_size,
                own_beams,
            ),
            max_length: limit(
                "--limit-length",
                self.limit_length,
                standard.max_length,
                own.decode.max_length,
            ),
            prompt: self.limit_prompt.max(own.decode.prompt.len()),
        }
    }
}

impl ServeArgs {
    /// Largest request in megabytes. Flags that contradict each other end the program.
    fn max_request(&self) -> usize {
        match self.max_request {
            Some(most) if most < self.max_size => usage(
                ErrorKind::ArgumentConflict,
                &format!(
                    "--max-request {most} is less than --max-size {}",
                    self.max_size
                ),
            ),
            Some(most) => most,
            None => 64.max(2 * self.max_size),
        }
    }

    /// Connections at a time. Flags that contradict each other end the program.
    fn max_connections(&self) -> usize {
        let queue = self.queue.get();
        match self.max_connections.map(NonZeroUsize::get) {
            // Else images that wait could take them all, and nobody would be told that the queue is
            // full.
            Some(most) if most <= queue => usage(
                ErrorKind::ArgumentConflict,
                &format!("--max-connections {most} must be more than --queue {queue}"),
            ),
            Some(most) => most,
            None => 512.max(4 * queue),
        }
    }

    /// The tokens that are asked for; none where there is no file of them.
    fn tokens(&self) -> Result<Vec<String>> {
        (self.token_file.as_deref()).map_or(Ok(Vec::new()), read_tokens)
    }

    fn config(&self, model: &Path, tokens: Vec<String>, logger: &Logger) -> ServiceConfig {
        let max_request = self.max_request();
        ServiceConfig {
            batch_size: self.model.batch_size.get(),
            max_image_bytes: self.max_size * MEGABYTE,
            max_body_bytes: max_request * MEGABYTE,
            max_held_bytes: HELD_BODIES * max_request * MEGABYTE,
            max_images: self.max_images.get(),
            queue_length: self.queue.get(),
            max_connections: self.max_connections(),
            deadlines: Deadlines {
                head: Duration::from_secs(self.head_timeout),
                body: Duration::from_secs(self.body_timeout),
                ..Deadlines::default()
            },
            allow_origins: self.allow_origin.clone(),
            tokens,
            log: logger.log_fn(),
            ..ServiceConfig::new(name(model))
        }
    }
}

/// The tokens in a file, one a line.
fn read_tokens(file: &Path) -> Result<Vec<String>> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{name}: the tokens cannot be read"))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let tokens: Vec<String> = lines
        .filter(|line| !line.is_empty())
        .map(String::from)
        .collect();
    if tokens.is_empty() {
        bail!("{name}: there is no token in it: write one a line");
    }
    let is_token = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
    match tokens.iter().position(|token| !is_token(token)) {
        Some(index) => bail!(
            "{name}: token {} holds what a header cannot: use letters, digits and -._~+/=",
            index + 1
        ),
        None => Ok(tokens),
    }
}

pub fn run(args: ServeArgs) -> Result<ExitCode> {
    args.truncated.apply();
    one_line_panics();
    // Wrong usage is told before a model is looked for.
    args.max_request();
    args.max_connections();
    valid(check_origins(&args.allow_origin));
    let tokens = args.tokens()?;
    let searches = args.decoding.searches();
    let (model, captioner, search) = args.model.load(&args.decoding)?;
    let limits = args.limits.resolve(&search);
    let logger = Logger::start(args.log)?;
    let config = args.config(&model, tokens, &logger);
    let model = Model::new(captioner, search, searches, limits);
    let listening = Service::new(model, config)?.bind(&args.host, args.port)?;
    stop_on_signals(&listening)?;
    for address in listening.addresses() {
        log::line(&format!("listening on http://{address} until Ctrl-C"));
    }
    let outcome = listening.run();
    logger.finish();
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C, SIGTERM and SIGHUP end the service once all that it took is answered; a second Ctrl-C
/// ends it at once.
fn stop_on_signals(listening: &Listening) -> Result<()> {
    const OFTEN: Duration = Duration::from_millis(100);
    let interrupter = interruptible()?;
    let stop = listening.stopper();
    let wait = move || {
        while !interrupter.should_stop() {
            thread::sleep(OFTEN);
        }
        // First: the program may end before the next line.
        log::line("ending, once all that came is answered");
        stop.stop();
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(wait);
    thread.context("cannot start a thread")?;
    Ok(())
}

/// A panic ends one request, whose answer tells it: a line is enough here.
fn one_line_panics() {
    guard::set_hook(|panic| {
        let text = panic.to_string();
        let words: Vec<&str> = text.split_whitespace().collect();
        log::line(&format!(
            "error: the program has a fault: {}",
            words.join(" ")
        ));
    });
}
